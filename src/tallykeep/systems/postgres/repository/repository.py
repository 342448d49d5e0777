"""A repository as its manifest tells it: which backups there are, and where their chunks lie.

The live set comes from the chain alone, never from a listing: an object that no record names does not belong to it.
A backup that was let go stays whole until its objects are removed. A name that was removed is never given again, since
its deletion may still be under way, from another machine or in the store itself.
What lies in a pack that was found damaged is stored anew by the next backup that has it; where a chunk lies in two
packs, the sound one gives it, to earlier backups as well.
Memory: about 200 bytes for each chunk that the repository holds, 0.4 MB for a GiB.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from tallykeep.clock import Clock
from tallykeep.errors import IntegrityError, NotFound, RestoreError
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.digest import check_digest
from tallykeep.storage.store import Store
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.repository.chunk import Frames
from tallykeep.systems.postgres.repository.entries import (
    BackupEntry,
    DamagedEntry,
    Entry,
    ForgottenEntry,
    PacksEntry,
    RecalledEntry,
    RemovedEntry,
    RepositoryChain,
    VerifiedEntry,
)
from tallykeep.systems.postgres.repository.files import Files
from tallykeep.systems.postgres.repository.pack import Pack, decode_index

_INDEXES_AT_ONCE = 16
_BITS = 32  # of the number of a chunk in its pack, as in an index: small ones are more than 65,536 in 16 MiB


class Repository:
    """Everything but the bytes. Opened for reading; `chain.take_over()` makes this process its writer."""

    def __init__(self, store: Store, chain: RepositoryChain, cipher: Cipher | None) -> None:
        self.store = store
        self.chain = chain
        self.cipher = cipher
        self.frames = Frames(cipher)
        self.known: dict[str, BackupEntry] = {}  # every backup there ever was, by id, in the order they were made
        self.backups: dict[str, BackupEntry] = {}  # the same, without those let go
        self.in_grace: dict[str, BackupEntry] = {}  # let go, and their objects are still there
        self.forgotten: dict[str, ForgottenEntry] = {}  # why backups were let go, also of those that are gone
        self.verified: dict[str, VerifiedEntry] = {}  # the last verdict on each backup
        self.indexes: list[PacksEntry] = []
        self.unfinished: set[str] = set()  # removed, and not known to be deleted
        self.damaged: set[str] = set()  # keys of packs that the last verification of each found damaged or missing
        self._removed: dict[str, int] = {}  # keys, and how many entries came before
        self._named: dict[str, int] = {}  # the same of indexes
        self._entries = 0
        self._packs: list[Pack | None] = []  # None: removed
        self._chunks: dict[bytes, int] = {}  # id: number of the pack, and of the chunk in it

    @classmethod
    async def open(
        cls, store: Store, clock: Clock, cipher: Cipher | None = None, damage: list[str] | None = None
    ) -> Repository:
        """The repository as it is now.

        With `damage` indexes that are damaged or missing are told there, and what they list is not known. Raises:
        IntegrityError naming what is wrong; NotFound naming what is missing; StoreErrors.
        """
        found = await cls.listed(store, clock, cipher)
        gate = asyncio.Semaphore(_INDEXES_AT_ONCE)
        indexes = await asyncio.gather(*(found._gated(entry, gate, damage) for entry in found.indexes))
        for entry, packs in zip(found.indexes, indexes, strict=True):
            for pack in packs:
                if found._removed.get(pack.key, -1) < found._named[entry.key]:
                    found.add_pack(pack)
        return found

    @classmethod
    async def listed(
        cls, store: Store, clock: Clock, cipher: Cipher | None = None, chain: RepositoryChain | None = None
    ) -> Repository:
        """What the manifest alone tells: backups and verdicts, not where their chunks lie.

        `chain`: as it was read before, to be read on from there: a manifest of years has thousands of records. Raises:
        as open does.
        """
        if chain is not None and await chain.is_there():
            await chain.follow()
            return cls.told(store, chain, cipher)
        return cls.told(store, await RepositoryChain.open(store, clock), cipher)

    @classmethod
    def told(cls, store: Store, chain: RepositoryChain, cipher: Cipher | None = None) -> Repository:
        """The same of a chain that has been read."""
        found = cls(store, chain, cipher)
        for record in chain.records:
            for entry in record.entries:
                found._take(entry)
        return found

    def __contains__(self, id: bytes) -> bool:
        return id in self._chunks

    def has_sound(self, id: bytes) -> bool:
        """Whether a new backup may rely on the chunk: a pack holds it that was not found damaged."""
        found = self._chunks.get(id)
        return found is not None and not (self.damaged and self._is_damaged(found))

    @property
    def packs(self) -> list[Pack]:
        """Every pack that holds chunks."""
        return [pack for pack in self._packs if pack is not None]

    def add_pack(self, pack: Pack) -> None:
        """Know the chunks of a durable pack."""
        self._packs.append(pack)
        self._place(pack, len(self._packs) - 1 << _BITS)

    def place(self, id: bytes) -> tuple[Pack, int]:
        """The pack of a chunk, and its number in it. Raises: IntegrityError where no pack holds it."""
        found = self._chunks.get(id)
        pack = None if found is None else self._packs[found >> _BITS]
        if found is None or pack is None:
            raise IntegrityError(
                f"{self.store.name}: no pack holds the chunk {id.hex()}: this repository contradicts itself."
            )
        return pack, found & (1 << _BITS) - 1

    def keys(self) -> set[str]:
        """Every object that the manifest names and has not removed; the manifest's own not among them."""
        lists = {entry.key for entry in (*self.backups.values(), *self.in_grace.values())}
        return lists | {index.key for index in self.indexes} | {pack.key for pack in self.packs}

    def unused(self, key: str) -> str:
        """What a new object is called that would be called `key`: another name where that was removed or is damaged."""
        return f"{key}-{secrets.token_hex(4)}" if key in self._removed or key in self.damaged else key

    def backup(self, wanted: str = "") -> BackupEntry:
        """The backup of that id or name; without one the newest. Raises: RestoreError."""
        for entry in reversed(self.backups.values()):
            if not wanted or entry.is_called(wanted):
                return entry
        held = ", ".join(map(str, self.backups.values())) or "none at all"
        raise RestoreError(f"{self.store.name}: there is no backup {wanted or 'to restore'}; it holds {held}.")

    async def files(self, entry: BackupEntry) -> Files:
        """What a backup holds, its hash proved. Raises: IntegrityError; StoreErrors."""
        name = f"{self.store.name}/{entry.key}"
        data = await self.store.read(entry.key)
        await in_thread(check_digest, name, data, entry.hash)
        return await in_thread(Files.decode, data, entry.id, self.cipher, name)

    async def packs_of(self, index: PacksEntry) -> list[Pack]:
        """What an index names, its hash proved. Raises: IntegrityError; StoreErrors."""
        name = f"{self.store.name}/{index.key}"
        data = await self.store.read(index.key)
        await in_thread(check_digest, name, data, index.hash)
        return await in_thread(decode_index, data, name)

    async def commit(self, entries: Sequence[Entry]) -> None:
        """Add a record to the manifest; when this returns it is durable. Raises: as Chain.append does."""
        await self.chain.append(entries)
        for entry in entries:
            self._take(entry)

    def _take(self, entry: Entry) -> None:
        self._entries += 1
        if isinstance(entry, PacksEntry):
            self.indexes = [index for index in self.indexes if index.key != entry.key] + [entry]
            self._named[entry.key] = self._entries
        elif isinstance(entry, BackupEntry):
            self.known[entry.id] = self.backups[entry.id] = entry
            self.in_grace.pop(entry.id, None)
            self.forgotten.pop(entry.id, None)
        elif isinstance(entry, VerifiedEntry):
            self.verified[entry.backup] = entry
        elif isinstance(entry, ForgottenEntry):
            self._forget(entry)
        elif isinstance(entry, RecalledEntry):
            self._recall(entry)
        elif isinstance(entry, DamagedEntry):
            self.damaged = set(entry.keys)
            self._place_all()
        else:
            self._remove(entry)

    def _forget(self, entry: ForgottenEntry) -> None:
        backup = self.backups.pop(entry.backup, None)
        if backup is not None:
            self.in_grace[entry.backup] = backup
            self.forgotten[entry.backup] = entry

    def _recall(self, entry: RecalledEntry) -> None:
        if entry.backup in self.in_grace:
            back = {**self.backups, entry.backup: self.in_grace.pop(entry.backup)}
            self.backups = {id: back[id] for id in self.known if id in back}
            del self.forgotten[entry.backup]

    def _remove(self, entry: RemovedEntry) -> None:
        gone = set(entry.keys)
        self.unfinished = (self.unfinished | gone) if gone else set()
        self._removed |= dict.fromkeys(gone, self._entries)
        self.damaged -= gone
        self.indexes = [index for index in self.indexes if index.key not in gone]
        self.in_grace = {id: backup for id, backup in self.in_grace.items() if backup.key not in gone}
        if any(pack is not None and pack.key in gone for pack in self._packs):
            self._packs = [None if pack is None or pack.key in gone else pack for pack in self._packs]
            self._place_all()

    def _place_all(self) -> None:
        """Find every chunk again: one that lay in a removed pack may lie in another one as well."""
        self._chunks.clear()
        for number, pack in enumerate(self._packs):
            if pack is not None:
                self._place(pack, number << _BITS)

    def _place(self, pack: Pack, number: int) -> None:
        for position in range(len(pack.stored)):
            held = self._chunks.setdefault(pack.id(position), number + position)
            if self.damaged and self._is_damaged(held):
                self._chunks[pack.id(position)] = number + position

    def _is_damaged(self, place: int) -> bool:
        pack = self._packs[place >> _BITS]
        return pack is None or pack.key in self.damaged

    async def _gated(self, entry: PacksEntry, gate: asyncio.Semaphore, damage: list[str] | None) -> list[Pack]:
        try:
            async with gate:
                return await self.packs_of(entry)
        except (NotFound, IntegrityError) as error:
            if damage is None:
                raise
            damage.append(str(error))
            return []
