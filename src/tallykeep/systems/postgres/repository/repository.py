"""A repository as its manifest tells it: which backups there are, and where their chunks lie.

The live set comes from the chain alone, never from a listing: an object that no record names does not belong to it.
Memory: about 200 bytes for each chunk that the repository holds, 0.4 MB for a GiB.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from tallykeep.clock import Clock
from tallykeep.errors import IntegrityError, RestoreError
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.digest import check_digest
from tallykeep.storage.store import Store
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.repository.chunk import Frames
from tallykeep.systems.postgres.repository.entries import (
    BackupEntry,
    Entry,
    ForgottenEntry,
    PacksEntry,
    RemovedEntry,
    RepositoryChain,
    VerifiedEntry,
)
from tallykeep.systems.postgres.repository.files import Files
from tallykeep.systems.postgres.repository.pack import Pack, decode_index

_INDEXES_AT_ONCE = 16
_BITS = 16  # of the number of a chunk in its pack


class Repository:
    """Everything but the bytes. Opened for reading; `chain.take_over()` makes this process its writer."""

    def __init__(self, store: Store, chain: RepositoryChain, cipher: Cipher | None) -> None:
        self.store = store
        self.chain = chain
        self.cipher = cipher
        self.frames = Frames(cipher)
        self.backups: dict[str, BackupEntry] = {}  # by id, in the order they were made; not those let go
        self.forgotten: dict[str, ForgottenEntry] = {}
        self.verified: dict[str, VerifiedEntry] = {}  # the last verdict on each backup
        self.indexes: list[PacksEntry] = []
        self._packs: list[Pack | None] = []  # None: removed
        self._chunks: dict[bytes, int] = {}  # id: number of the pack, and of the chunk in it

    @classmethod
    async def open(cls, store: Store, clock: Clock, cipher: Cipher | None = None) -> Repository:
        """The repository as it is now. Raises: IntegrityError naming what is wrong or missing; StoreErrors."""
        chain = await RepositoryChain.open(store, clock)
        found = cls(store, chain, cipher)
        for record in chain.records:
            for entry in record.entries:
                found._take(entry)
        gate = asyncio.Semaphore(_INDEXES_AT_ONCE)
        for packs in await asyncio.gather(*(found._index(entry, gate) for entry in found.indexes)):
            for pack in packs:
                found.add_pack(pack)
        return found

    def __contains__(self, id: bytes) -> bool:
        return id in self._chunks

    @property
    def packs(self) -> list[Pack]:
        """Every pack that holds chunks."""
        return [pack for pack in self._packs if pack is not None]

    def add_pack(self, pack: Pack) -> None:
        """Know the chunks of a durable pack."""
        number = len(self._packs) << _BITS
        self._packs.append(pack)
        for position in range(len(pack.stored)):
            self._chunks.setdefault(pack.id(position), number + position)

    def place(self, id: bytes) -> tuple[Pack, int]:
        """The pack of a chunk, and its number in it. Raises: IntegrityError where no pack holds it."""
        found = self._chunks.get(id)
        pack = None if found is None else self._packs[found >> _BITS]
        if found is None or pack is None:
            raise IntegrityError(
                f"{self.store.name}: no pack holds the chunk {id.hex()}: this repository contradicts itself."
            )
        return pack, found & (1 << _BITS) - 1

    def backup(self, wanted: str = "") -> BackupEntry:
        """The backup of that id or name; without one the newest. Raises: RestoreError."""
        for entry in reversed(self.backups.values()):
            if not wanted or wanted in (entry.id, entry.name):
                return entry
        held = ", ".join(entry.name for entry in self.backups.values()) or "none at all"
        raise RestoreError(f"{self.store.name}: there is no backup {wanted or 'to restore'}; it holds {held}.")

    async def files(self, entry: BackupEntry) -> Files:
        """What a backup holds, its hash proved. Raises: IntegrityError; StoreErrors."""
        name = f"{self.store.name}/{entry.key}"
        data = await self.store.read(entry.key)
        await in_thread(check_digest, name, data, entry.hash)
        return await in_thread(Files.decode, data, entry.id, self.cipher, name)

    async def commit(self, entries: Sequence[Entry]) -> None:
        """Add a record to the manifest; when this returns it is durable. Raises: as Chain.append does."""
        await self.chain.append(entries)
        for entry in entries:
            self._take(entry)

    def _take(self, entry: Entry) -> None:
        if isinstance(entry, PacksEntry):
            self.indexes.append(entry)
        elif isinstance(entry, BackupEntry):
            self.backups[entry.id] = entry
        elif isinstance(entry, VerifiedEntry):
            self.verified[entry.backup] = entry
        elif isinstance(entry, ForgottenEntry):
            self.forgotten[entry.backup] = entry
            self.backups.pop(entry.backup, None)
        else:
            self._remove(entry)

    def _remove(self, entry: RemovedEntry) -> None:
        gone = set(entry.keys)
        self.indexes = [index for index in self.indexes if index.key not in gone]
        for number, pack in enumerate(self._packs):
            if pack is not None and pack.key in gone:
                self._packs[number] = None
                for position in range(len(pack.stored)):
                    self._chunks.pop(pack.id(position), None)

    async def _index(self, entry: PacksEntry, gate: asyncio.Semaphore) -> list[Pack]:
        name = f"{self.store.name}/{entry.key}"
        async with gate:
            data = await self.store.read(entry.key)
        await in_thread(check_digest, name, data, entry.hash)
        return await in_thread(decode_index, data, name)


async def frames_of(repository: Repository, pack: Pack) -> AsyncIterator[tuple[bytes, bytes]]:
    """Every chunk of a pack by its id, proved by the object's hash, its seal and its own. Raises: IntegrityError."""
    name = f"{repository.store.name}/{pack.key}"
    data = await repository.store.read(pack.key)
    await in_thread(check_digest, name, data, pack.hash)
    view, offsets = memoryview(data), pack.offsets()
    for number in range(len(pack.stored)):
        id = pack.id(number)
        yield id, await in_thread(repository.frames.chunk, id, view[offsets[number] : offsets[number + 1]], name)
