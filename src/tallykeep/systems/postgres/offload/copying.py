"""A base backup from tier 1's repository into tier 2's: the same backup under the same id, with its own record there.

Packs go first, several at a time, as they lie in tier 1: they are named by their hash, so one that is there already,
of another backup or of an attempt that died, is not copied again. Then, as the repository's one writer, whatever has
gone meanwhile is brought back, and the records are written: index, list of files, backup. A backup is seen in tier 2
only when all its chunks are there. Memory: 16 MiB for each pack on its way, thrice where it lies there already; what
two repositories know, 200 bytes for each chunk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tallykeep.clock import Clock
from tallykeep.errors import NotFound
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.digest import check_digest
from tallykeep.systems.postgres.cluster import Cluster, Tier
from tallykeep.systems.postgres.locks import writing
from tallykeep.systems.postgres.offload.storing import keep
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.repository.filling import PACKS_IN_AN_INDEX, store_index
from tallykeep.systems.postgres.repository.pack import Pack
from tallykeep.systems.postgres.repository.repository import Repository

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
    if id in target.known:
        return Copied(0, 0)
    pairs = _missing(target, wanted)
    sent = await _send(source, target, pairs, parallel)
    async with writing(cluster, tier, clock) as target:
        if id in target.known:
            return Copied(0, 0)
        pairs = _missing(target, wanted, {pair.source.hash: pair.target for pair in pairs})
        sent += await _send(source, target, await _gone(target, pairs), parallel)
        await _name(target, [pair.target for pair in pairs])
        await _list(source, target, entry)
        await target.commit([entry])
    return Copied(len(pairs), sent)


class Pair(NamedTuple):
    """A pack, and what it is called in tier 2: another name where that was removed there before."""

    source: Pack
    target: Pack


def _packs_of(source: Repository, chunks: set[bytes]) -> list[Pack]:
    """The packs that hold these chunks, each once. Blocks."""
    return list({pack.key: pack for pack in (source.place(chunk)[0] for chunk in chunks)}.values())


def _missing(target: Repository, packs: Sequence[Pack], chosen: Mapping[str, Pack] | None = None) -> list[Pair]:
    """Those that no record of the target names, or that are damaged there.

    `chosen`: what they were called when they were sent, by hash.
    """
    named, chosen = {pack.hash for pack in target.packs if pack.key not in target.damaged}, chosen or {}
    wanted = [(pack, chosen.get(pack.hash, pack)) for pack in packs if pack.hash not in named]
    return [Pair(pack, called._replace(key=target.unused(called.key))) for pack, called in wanted]


async def _gone(target: Repository, pairs: Sequence[Pair]) -> list[Pair]:
    """Those that are not in the store: not sent yet, or somebody removed what no record named."""
    gate = asyncio.Semaphore(_HEADS)

    async def gone(pair: Pair) -> bool:
        async with gate:
            try:
                return (await target.store.head(pair.target.key)).size != pair.source.size
            except NotFound:
                return True

    found = await asyncio.gather(*map(gone, pairs))
    return [pair for pair, is_gone in zip(pairs, found, strict=True) if is_gone]


async def _send(source: Repository, target: Repository, pairs: Sequence[Pair], parallel: int) -> int:
    """Copy packs; bytes that were sent, or lay there already. The first error ends it."""
    waiting, sent = iter(pairs), 0

    async def send() -> None:
        nonlocal sent
        for pack, called in waiting:
            data = await source.store.read(pack.key)
            await in_thread(check_digest, f"{source.store.name}/{pack.key}", data, pack.hash)
            await keep(target.store, called.key, data, _proving(f"{target.store.name}/{called.key}", pack.hash))
            sent += len(data)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(parallel):
                group.create_task(send())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return sent


async def _name(target: Repository, packs: Sequence[Pack]) -> None:
    """Indexes and their records for packs that are there."""
    for start in range(0, len(packs), PACKS_IN_AN_INDEX):
        group = packs[start : start + PACKS_IN_AN_INDEX]
        await target.commit([await store_index(target, group)])
        for pack in group:
            target.add_pack(pack)


async def _list(source: Repository, target: Repository, entry: BackupEntry) -> None:
    """The list of files."""
    data = await source.store.read(entry.key)
    await in_thread(check_digest, f"{source.store.name}/{entry.key}", data, entry.hash)
    await keep(target.store, entry.key, data, _proving(f"{target.store.name}/{entry.key}", entry.hash))


def _proving(name: str, hash: str) -> Callable[[bytes], str]:
    """Proves an object that is named by its hash, or by a record that has it."""

    def meaning(data: bytes) -> str:
        check_digest(name, data, hash)
        return hash

    return meaning
