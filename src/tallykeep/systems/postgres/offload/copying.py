"""A base backup from tier 1's repository into tier 2's: the same backup under the same id, with its own record there.

Packs go first, several at a time, as they lie in tier 1: they are named by their hash, so one that is there already,
of another backup or of an attempt that died, is not copied again. Then, as the repository's one writer, whatever has
gone meanwhile is brought back, and the records are written: index, list of files, backup. A backup is seen in tier 2
only when all its chunks are there. Memory: 16 MiB for each pack on its way, thrice where it lies there already; what
two repositories know, 200 bytes for each chunk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tallykeep.clock import Clock
from tallykeep.errors import NotFound
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.digest import check_digest, digest
from tallykeep.systems.postgres.cluster import Cluster, Tier
from tallykeep.systems.postgres.locks import writing
from tallykeep.systems.postgres.offload.storing import keep
from tallykeep.systems.postgres.repository.entries import BackupEntry, PacksEntry
from tallykeep.systems.postgres.repository.filling import FOLDER as INDEXES
from tallykeep.systems.postgres.repository.pack import Pack, encode_index
from tallykeep.systems.postgres.repository.repository import Repository

_IN_AN_INDEX = 64  # packs
_HEADS = 16  # questions at once


class Copied(NamedTuple):
    """What it took."""

    packs: int
    size: int  # bytes of packs that were sent


async def copy_backup(cluster: Cluster, tier: Tier, id: str, clock: Clock, parallel: int) -> Copied:
    """See that tier 2 holds a backup of tier 1. Nothing to do where it is there, or tier 2 has let go of it.

    Raises: NotFound where tier 1 does not hold it (any more); IntegrityError where it is damaged there; Fenced;
    StoreErrors.
    """
    source = await cluster.tier1.repository(clock)
    entry = source.backups.get(id)
    if entry is None:
        raise NotFound(f"{source.store.name}: holds no backup {id}.")
    files = await source.files(entry)
    wanted = await in_thread(_packs_of, source, {id for file in files.files for id in file.chunks})
    target = await tier.repository(clock)
    if id in target.backups or id in target.forgotten:
        return Copied(0, 0)
    sent = await _send(source, target, _missing(target, wanted), parallel)
    async with writing(cluster, tier, clock) as target:
        if id in target.backups or id in target.forgotten:
            return Copied(0, 0)
        new = _missing(target, wanted)
        gone = await _gone(target, new)
        sent += await _send(source, target, gone, parallel)
        await _name(target, new)
        await _list(source, target, entry)
        await target.commit([entry])
    return Copied(len(new), sent)


def _packs_of(source: Repository, chunks: set[bytes]) -> list[Pack]:
    """The packs that hold these chunks, each once. Blocks."""
    return list({pack.key: pack for pack in (source.place(chunk)[0] for chunk in chunks)}.values())


def _missing(target: Repository, packs: Sequence[Pack]) -> list[Pack]:
    """Those that no record of the target names."""
    named = {pack.key for pack in target.packs}
    return [pack for pack in packs if pack.key not in named]


async def _gone(target: Repository, packs: Sequence[Pack]) -> list[Pack]:
    """Those that are not in the store: somebody removed what no record named."""
    gate = asyncio.Semaphore(_HEADS)

    async def gone(pack: Pack) -> bool:
        async with gate:
            try:
                return (await target.store.head(pack.key)).size != pack.size
            except NotFound:
                return True

    found = await asyncio.gather(*map(gone, packs))
    return [pack for pack, is_gone in zip(packs, found, strict=True) if is_gone]


async def _send(source: Repository, target: Repository, packs: Sequence[Pack], parallel: int) -> int:
    """Copy packs; bytes that were sent, or lay there already. The first error ends it."""
    gate = asyncio.Semaphore(parallel)

    async def send(pack: Pack) -> int:
        async with gate:
            data = await source.store.read(pack.key)
            meaning = _proving(f"{source.store.name}/{pack.key}", pack.hash)
            await in_thread(meaning, data)
            await keep(target.store, pack.key, data, meaning)
            return len(data)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(send(pack)) for pack in packs]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return sum(task.result() for task in tasks)


async def _name(target: Repository, packs: Sequence[Pack]) -> None:
    """Indexes and their records for packs that are there."""
    for start in range(0, len(packs), _IN_AN_INDEX):
        group = packs[start : start + _IN_AN_INDEX]
        data = encode_index(group)
        hash = digest(data)
        key = INDEXES + hash.rpartition(":")[2][:32]
        await keep(target.store, key, data, _proving(f"{target.store.name}/{key}", hash))
        chunks, raw = sum(len(pack.stored) for pack in group), sum(sum(pack.raw) for pack in group)
        stored = sum(pack.size for pack in group)
        await target.commit([PacksEntry(key, hash, len(data), len(group), chunks, raw, stored)])
        for pack in group:
            target.add_pack(pack)


async def _list(source: Repository, target: Repository, entry: BackupEntry) -> None:
    """The list of files."""
    data = await source.store.read(entry.key)
    meaning = _proving(f"{target.store.name}/{entry.key}", entry.hash)
    await in_thread(meaning, data)
    await keep(target.store, entry.key, data, meaning)


def _proving(name: str, hash: str) -> Callable[[bytes], str]:
    """Proves an object that is named by its hash, or by a record that has it."""

    def meaning(data: bytes) -> str:
        check_digest(name, data, hash)
        return hash

    return meaning
