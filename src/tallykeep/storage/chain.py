"""A manifest as a chain in a store: read from its first record to its last, and added to by one writer at a time.

No lock and no clock decides who may write: creating the next number does. Of several writers exactly one creates it;
the others read what is there and go on behind it, or stop where it has a higher epoch. A create whose reply was lost
is tried again: who then meets his own bytes has succeeded. What cannot be told (the store does not answer at all)
stays pending, and is settled before anything else is added.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

from tallykeep.clock import Clock
from tallykeep.errors import ConfigError, Conflict, IntegrityError, NotFound
from tallykeep.storage.chain_record import FOLDER, ChainRecord, check_link, key_of
from tallykeep.storage.store import Store

R = TypeVar("R", bound=ChainRecord[Any])

_AHEAD = 16  # records asked for at once while reading


class Fenced(Conflict):
    """Another writer has taken the backup over: this one must not write any more."""

    code = "fenced"


class Chain(Generic[R]):
    """A chain; `records` in order. Nothing is written before `take_over`. A format is a subclass with its RECORD."""

    RECORD: ClassVar[type[ChainRecord[Any]]]

    def __init__(self, store: Store, clock: Clock) -> None:
        self.records: list[R] = []
        self.writer = secrets.token_hex(16)
        self.epoch = 0  # of this writer; 0 before take_over
        self._store = store
        self._clock = clock
        self._pending: R | None = None  # sent, and not known whether it arrived

    @classmethod
    async def open(cls, store: Store, clock: Clock) -> Self:
        """The chain as it is now, every link proved.

        Raises: IntegrityError, naming the record, where one is missing, changed or replaced; StoreErrors.
        """
        chain = cls(store, clock)
        await chain.follow()
        return chain

    async def follow(self) -> None:
        """Read what was added since. Raises: as `open` does."""
        more = True
        while more:
            async for data in _objects(self._store, len(self.records) + 1):
                self._take(data)
            more = await self._goes_on()

    async def is_there(self) -> bool:
        """Whether the store still has the last record that was read: it may have been emptied, or replaced.

        Raises: StoreErrors.
        """
        return not self.records or await _read(self._store, len(self.records)) == self.records[-1].encode()

    async def take_over(self) -> None:
        """Commit this writer's fence: older ones are stopped at their next commit.

        Raises: ConfigError where the store does not keep what was created from being replaced; Fenced where
        another writer fences at the same time; IntegrityError; StoreErrors.
        """
        await refuses_second_create(self._store)
        while not self.epoch:
            epoch = self.records[-1].epoch + 1 if self.records else 1
            fence = self._pending or self._next(epoch, fence=True)
            if await self._settle(fence):
                self.epoch = fence.epoch

    async def append(self, entries: Sequence[Any]) -> R:
        """Commit `entries` as one record; when this returns it is durable, and the checkpoint has moved.

        Raises: Fenced where another writer has taken over; IntegrityError; Unavailable where it is not known whether
        it was done: then call it again with the same entries, which are added once.
        """
        assert self.epoch, "take_over comes first"
        wanted = tuple(entries)
        if self._pending and await self._settle(self._pending) and self.records[-1].entries == wanted:
            return self.records[-1]
        while not await self._settle(self._next(self.epoch, entries=wanted)):
            pass
        return self.records[-1]

    def _next(self, epoch: int, *, fence: bool = False, entries: tuple[Any, ...] = ()) -> R:
        time = round(self._clock.time(), 3)
        previous = self.records[-1].hash if self.records else ""
        record: R = self.RECORD(len(self.records) + 1, epoch, self.writer, previous, time, fence, entries)  # type: ignore[assignment]
        return record

    async def _settle(self, record: R) -> bool:
        """Whether `record` is in the chain now; else another one has its place, and has been read."""
        data = record.encode()
        self._pending = record
        try:
            await self._store.create(record.key, data)
        except Conflict:
            data = await self._store.read(record.key)
        self._pending = None
        found = self._take(data)
        if found == record:
            return True
        if found.epoch >= record.epoch:
            raise Fenced(
                f"{self._store.name}/{found.key}: another writer ({found.writer}, epoch {found.epoch}) has taken this "
                "backup over; nothing is lost: stop one of the two and start the other again."
            )
        return False

    def _take(self, data: bytes) -> R:
        """Append what was read to the chain, once it is proved."""
        name = f"{self._store.name}/{key_of(len(self.records) + 1)}"
        record: R = self.RECORD.decode(data, name)  # type: ignore[assignment]
        check_link(record, self.records[-1] if self.records else None, name)
        self.records.append(record)
        return record

    async def _goes_on(self) -> bool:
        """Whether records were added behind the end while it was read. Raises: IntegrityError where one is missing."""
        following = key_of(len(self.records) + 1)
        beyond = [found.key async for page in self._store.list(FOLDER, following) for found in page]
        if not beyond:
            return False
        if await _read(self._store, len(self.records) + 1) is None:  # what lies behind it was created after it
            raise IntegrityError(
                f"{self._store.name}/{following} is missing, and {min(beyond)} is there: "
                "bring the manifest back from a copy of the backup."
            )
        return True


async def refuses_second_create(store: Store) -> None:
    """Prove, with an object that is removed again, that what was created cannot be created again.

    Raises: ConfigError; StoreErrors.
    """
    key = f"probe/{secrets.token_hex(16)}"
    try:
        await store.create(key, b"first")
        await store.create(key, b"second")
    except Conflict:
        return
    else:
        raise ConfigError(
            f"{store.name}: took a second object under a name that was taken. Two writers could destroy each other's "
            "backup there; use a store with conditional writes (S3 If-None-Match, or a local file system)."
        )
    finally:
        await store.delete(key)


async def _objects(store: Store, start: int) -> AsyncIterator[bytes]:
    """Records as they lie there, from that number on, to the first that is not there."""
    while True:
        reads = [_read(store, sequence) for sequence in range(start, start + _AHEAD)]
        for data in await asyncio.gather(*reads):
            if data is None:
                return
            yield data
        start += _AHEAD


async def _read(store: Store, sequence: int) -> bytes | None:
    try:
        return await store.read(key_of(sequence))
    except NotFound:
        return None
