"""A store in this process's memory: the model of the promises, for tests and for trying things out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from itertools import count

from tallykeep.errors import Conflict, NotFound
from tallykeep.storage.content import Content, joined
from tallykeep.storage.keys import checked
from tallykeep.storage.store import ObjectInfo

_PAGE = 1000  # objects, as S3 has it


class MemoryStore:
    """Objects in a dict. For one event loop."""

    backend = "memory"

    def __init__(self, name: str = "memory://") -> None:
        self.name = name
        self._objects: dict[str, tuple[ObjectInfo, bytes]] = {}
        self._etags = count(1)

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        found = sorted(key for key in self._objects if key.startswith(prefix) and key > start_after)
        for start in range(0, len(found), _PAGE):
            yield [self._objects[key][0] for key in found[start : start + _PAGE] if key in self._objects]

    async def head(self, key: str) -> ObjectInfo:
        return self._get(key)[0]

    async def read(self, key: str) -> bytes:
        return self._get(key)[1]

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        data = self._get(key)[1]
        start = max(0, len(data) + start) if start < 0 else start
        return data[start : start + length]

    async def create(self, key: str, data: Content) -> None:
        if checked(key) in self._objects:
            raise Conflict(f"{self.name}{key} is there already; read it to see whose it is.")
        self._put(key, data)

    async def replace(self, key: str, data: Content) -> None:
        self._put(checked(key), data)

    async def delete(self, key: str) -> None:
        self._objects.pop(checked(key), None)

    async def close(self) -> None:
        """Nothing to let go; the objects stay."""

    def _get(self, key: str) -> tuple[ObjectInfo, bytes]:
        try:
            return self._objects[checked(key)]
        except KeyError:
            raise NotFound(f"{self.name}{key} is not there.") from None

    def _put(self, key: str, data: Content) -> None:
        held = joined(data)
        self._objects[key] = (ObjectInfo(key, len(held), time.time(), str(next(self._etags))), held)
