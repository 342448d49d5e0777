"""Work on many things at once, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

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
