"""Work on many things at once, a few at a time; and work that is done again where that may help."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from tallykeep.clock import Clock
from tallykeep.errors import SourceError
from tallykeep.runtime.backoff import Backoff

_T = TypeVar("_T")


async def at_once(work: Iterable[Coroutine[Any, Any, _T]], most: int = 8) -> list[_T]:
    """The results, a few at a time; the first error ends all. Raises: what they raise."""
    gate = asyncio.Semaphore(most)

    async def one(item: Coroutine[Any, Any, _T]) -> _T:
        async with gate:
            return await item

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def patiently(clock: Clock, patience: float, work: Callable[[], Awaitable[_T]]) -> _T:
    """What `work` gives, begun again for `patience` seconds while its errors may pass. Raises: SourceErrors."""
    backoff, end = Backoff(0.2, 5.0), clock.monotonic() + patience
    while True:
        try:
            return await work()
        except SourceError as error:
            if error.retry is None or clock.monotonic() > end:
                raise
        await clock.sleep(backoff.delay())
