"""Trying again: a store that meets Unavailable with patience, and every other error as it is.

The waits double, with jitter, so that many clients do not come back in step; one deadline bounds them all. A
listing that fails midway goes on behind the last key it had, and the deadline is then reckoned from that key.

A create whose reply was lost may find, tried again, the object that it has itself put: the Conflict is passed on,
and the caller tells by the content whose object it is, as the Store says.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from tallykeep.clock import Clock, SystemClock
from tallykeep.errors import Unavailable
from tallykeep.storage.content import Content
from tallykeep.storage.store import ObjectInfo, Store

T = TypeVar("T")


class RetryStore:
    """`store`, asked again while it is Unavailable."""

    def __init__(
        self, store: Store, *, clock: Clock | None = None, deadline: float = 60.0, longest_wait: float = 15.0,
        retried: Callable[[Unavailable], None] | None = None,
    ) -> None:  # fmt: skip
        """No try begins later than `deadline` seconds after the first; one that has begun has its own time-out.

        `retried` is told of each error after which another try is made; it must be quick and not raise.
        """
        self.name = store.name
        self.backend = store.backend
        self._store = store
        self._clock = clock or SystemClock()
        self._deadline = deadline
        self._longest = longest_wait
        self._retried = retried

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        patience = self._patience()
        while True:
            try:
                async for page in self._store.list(prefix, start_after):
                    yield page
                    if page:
                        patience, start_after = self._patience(), page[-1].key
                return
            except Unavailable as error:
                await patience.wait(error)

    async def head(self, key: str) -> ObjectInfo:
        return await self._insist(lambda: self._store.head(key))

    async def read(self, key: str) -> bytes:
        return await self._insist(lambda: self._store.read(key))

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        return await self._insist(lambda: self._store.read_range(key, start, length))

    async def create(self, key: str, data: Content) -> None:
        await self._insist(lambda: self._store.create(key, data))

    async def replace(self, key: str, data: Content) -> None:
        await self._insist(lambda: self._store.replace(key, data))

    async def delete(self, key: str) -> None:
        await self._insist(lambda: self._store.delete(key))

    async def close(self) -> None:
        await self._store.close()

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        patience = self._patience()
        while True:
            try:
                return await call()
            except Unavailable as error:
                await patience.wait(error)

    def _patience(self) -> _Patience:
        return _Patience(self._clock, self._deadline, self._longest, self._retried)


class _Patience:
    """How long to wait after each failure in a row, and when to give up."""

    def __init__(
        self, clock: Clock, deadline: float, longest: float, retried: Callable[[Unavailable], None] | None
    ) -> None:
        self._clock = clock
        self._end = clock.monotonic() + deadline
        self._longest = longest
        self._failures = 0
        self._retried = retried

    async def wait(self, error: Unavailable) -> None:
        """Return when it is time for another try; raise `error` where no try is left or none makes sense."""
        if error.retry is None:
            raise error
        longest = min(self._longest, error.retry * 2**self._failures)
        wait = random.uniform(longest / 2, longest)  # noqa: S311 - jitter is no secret
        self._failures += 1
        if self._clock.monotonic() + wait > self._end:
            raise error
        if self._retried is not None:
            self._retried(error)
        await self._clock.sleep(wait)
