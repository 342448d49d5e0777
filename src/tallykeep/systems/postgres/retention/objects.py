"""Which objects of a repository no backup needs any more, by its manifest and the lists of files alone.

A pack goes when none of its chunks is needed; one that is needed in part stays whole, and what is dead in it is told.
An index that names both is written anew for what stays. Packs that were named within the grace period stay as well:
an attempt at a backup that failed has left them, and the next one finds them.
Memory: a byte for each chunk of the repository, and one list of files at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.repository.entries import BackupEntry, PacksEntry, RemovedEntry
from tallykeep.systems.postgres.repository.files import Files
from tallykeep.systems.postgres.repository.pack import Pack
from tallykeep.systems.postgres.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class Needless:
    """What can be removed, and what follows from it."""

    keys: Sequence[str] = ()  # objects that go
    named_anew: Sequence[Pack] = ()  # packs that stay, of indexes that go
    freed: int = 0  # bytes of those objects
    dead: int = 0  # bytes that no backup needs, in packs that stay


class Needed:
    """The chunks that backups need, as flags for each pack."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._flags: dict[str, bytearray] = {}

    async def add(self, entry: BackupEntry) -> None:
        """Raises: IntegrityError where the repository lacks what this backup needs; StoreErrors."""
        files = await self._repository.files(entry)
        await in_thread(self._mark, files)

    def bytes_of(self, pack: Pack) -> int:
        """Bytes of a pack that are needed; 0: it can go."""
        flags = self._flags.get(pack.key)
        return 0 if flags is None else sum(size for size, flag in zip(pack.stored, flags, strict=True) if flag)

    def _mark(self, files: Files) -> None:
        for file in files.files:
            for id in file.chunks:
                pack, number = self._repository.place(id)
                self._flags.setdefault(pack.key, bytearray(len(pack.stored)))[number] = 1


async def needless(
    repository: Repository, kept: Iterable[BackupEntry], gone: Sequence[BackupEntry], grace_began: float
) -> Needless:
    """What goes with the backups `gone` when those in `kept` stay. `grace_began`: Unix seconds.

    Raises: IntegrityError where what is kept is not whole; StoreErrors.
    """
    needed = Needed(repository)
    for entry in kept:
        await needed.add(entry)
    young = _young(repository, grace_began)
    indexes = [(index, await repository.packs_of(index)) for index in repository.indexes]
    staying = {pack.key for index, packs in indexes if index.key in young for pack in packs}
    return await in_thread(_sorted_out, indexes, staying, needed, gone)


def _young(repository: Repository, since: float) -> set[str]:
    """Indexes that were named later than that, by backups and not by retention."""
    return {
        entry.key
        for record in repository.chain.records
        if record.time > since and not any(isinstance(entry, RemovedEntry) for entry in record.entries)
        for entry in record.entries
        if isinstance(entry, PacksEntry)
    }


def _sorted_out(
    indexes: Sequence[tuple[PacksEntry, Sequence[Pack]]], staying: set[str], needed: Needed, gone: Sequence[BackupEntry]
) -> Needless:
    keys, freed, dead = [entry.key for entry in gone], sum(entry.size for entry in gone), 0
    named_anew: dict[str, Pack] = {}
    leaving: dict[str, int] = {}
    for index, packs in indexes:
        going = [pack for pack in packs if pack.key not in staying and not needed.bytes_of(pack)]
        dead += sum(pack.size - needed.bytes_of(pack) for pack in packs if pack not in going)
        if going:
            leaving |= {pack.key: pack.size for pack in going} | {index.key: index.size}
            named_anew |= {pack.key: pack for pack in packs if pack not in going}
    return Needless([*keys, *leaving], list(named_anew.values()), freed + sum(leaving.values()), dead)
