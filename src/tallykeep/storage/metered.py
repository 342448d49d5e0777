"""Counting: a store that tells of every request what it was, how long it took, what it moved and how it ended.

It knows no metric family: what is done with the counts is the business of the callback it is given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from tallykeep.clock import Clock, SystemClock
from tallykeep.errors import StoreError
from tallykeep.storage.content import Content, size_of
from tallykeep.storage.store import ObjectInfo, Store

T = TypeVar("T")


class Request(NamedTuple):
    """One request that has ended. A listing is one for each page, and one more for its end."""

    operation: str  # list, head, read, create, replace, delete
    seconds: float
    sent: int  # bytes of content
    received: int  # bytes of content
    objects: int  # listed
    error: str  # the code of the StoreError it ended with, or ""
    key: str = ""  # of the object; of a listing its prefix


class _Count:
    """What a request has moved so far."""

    sent = received = objects = 0


class MeteredStore:
    """`store`, with every request reported to `observe`, which must be quick and not raise."""

    def __init__(self, store: Store, observe: Callable[[Request], None], *, clock: Clock | None = None) -> None:
        self.name = store.name
        self.backend = store.backend
        self._store = store
        self._observe = observe
        self._clock = clock or SystemClock()

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        pages = self._store.list(prefix, start_after)
        while True:
            with self._counted("list", prefix) as count:
                page = await anext(pages, None)
                count.objects = len(page or ())
            if page is None:
                return
            yield page

    async def head(self, key: str) -> ObjectInfo:
        with self._counted("head", key):
            return await self._store.head(key)

    async def read(self, key: str) -> bytes:
        return await self._read(key, self._store.read(key))

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        return await self._read(key, self._store.read_range(key, start, length))

    async def create(self, key: str, data: Content) -> None:
        await self._write("create", key, self._store.create(key, data), size_of(data))

    async def replace(self, key: str, data: Content) -> None:
        await self._write("replace", key, self._store.replace(key, data), size_of(data))

    async def delete(self, key: str) -> None:
        with self._counted("delete", key):
            await self._store.delete(key)

    async def close(self) -> None:
        await self._store.close()

    async def _read(self, key: str, call: Awaitable[bytes]) -> bytes:
        with self._counted("read", key) as count:
            data = await call
            count.received = len(data)
            return data

    async def _write(self, operation: str, key: str, call: Awaitable[None], size: int) -> None:
        with self._counted(operation, key) as count:
            await call
            count.sent = size

    @contextmanager
    def _counted(self, operation: str, key: str) -> Iterator[_Count]:
        """Report the request of the block when it succeeds or ends in a StoreError."""
        count, start = _Count(), self._clock.monotonic()
        try:
            yield count
        except StoreError as error:
            self._report(operation, key, start, count, error.code)
            raise
        self._report(operation, key, start, count, "")

    def _report(self, operation: str, key: str, start: float, count: _Count, error: str) -> None:
        seconds = self._clock.monotonic() - start
        self._observe(Request(operation, seconds, count.sent, count.received, count.objects, error, key))
