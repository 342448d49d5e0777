"""Stores that misbehave on purpose: wrappers, so that everything else about them is real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from tallykeep.errors import StoreError
from tallykeep.storage.content import Content
from tallykeep.storage.store import ObjectInfo, Store


class Wrapped:
    """A Store that passes everything on."""

    def __init__(self, store: Store) -> None:
        self.name = store.name
        self.backend = store.backend
        self.store = store
        self.read_keys: list[str] = []  # every key that was read, whole or in part

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        async for page in self.store.list(prefix, start_after):
            yield page

    async def head(self, key: str) -> ObjectInfo:
        return await self.store.head(key)

    async def read(self, key: str) -> bytes:
        self.read_keys.append(key)
        await self.before_read(key)
        return await self.store.read(key)

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        self.read_keys.append(key)
        await self.before_read(key)
        return await self.store.read_range(key, start, length)

    async def create(self, key: str, data: Content) -> None:
        await self.store.create(key, data)

    async def replace(self, key: str, data: Content) -> None:
        await self.store.replace(key, data)

    async def delete(self, key: str) -> None:
        await self.store.delete(key)

    async def close(self) -> None:
        await self.store.close()

    async def before_read(self, key: str) -> None:
        """What happens before a read."""


class Vanishing(Wrapped):
    """Objects that `gone` picks are deleted just before they are read, as retention does."""

    def __init__(self, store: Store, gone: Callable[[str], bool]) -> None:
        super().__init__(store)
        self._gone = gone

    async def before_read(self, key: str) -> None:
        if self._gone(key):
            await self.store.delete(key)


class Failing(Wrapped):
    """Reads raise `error` from the `after`-th on."""

    def __init__(self, store: Store, error: StoreError, after: int = 0) -> None:
        super().__init__(store)
        self.error: StoreError | None = error
        self._after = after

    async def before_read(self, key: str) -> None:
        if self.error is not None and len(self.read_keys) > self._after:
            raise self.error
