"""The two phases in which backups go. The caller holds the tier's lock and is its chain's writer.

1  `let_go`    a record says that a backup is no longer promised. Nothing is deleted: it can still be restored, and
               taken back, until its grace period is over. That is also for whoever is reading it, and for copies to
               tier 2 that are under way.
2  `remove`    a record names every object that no backup needs any more, and the new index of packs that stay; only
               then are the objects deleted, and another record says that they are.

A writer that dies between two steps has lost nothing: what a record names, and no later one says is deleted, is
deleted by `finish` in the next run, unless it is named again meanwhile. A backup that is being taken never relies on
what goes: on one machine the lock keeps the two apart, and elsewhere the chain stops the older writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tallykeep.storage.store import Store
from tallykeep.systems.postgres.repository.entries import Entry, ForgottenEntry, RecalledEntry, RemovedEntry
from tallykeep.systems.postgres.repository.filling import PACKS_IN_AN_INDEX, store_index
from tallykeep.systems.postgres.repository.pack import Pack
from tallykeep.systems.postgres.repository.repository import Repository
from tallykeep.systems.postgres.retention.objects import Needless

_AT_ONCE = 16  # deletions


async def let_go(repository: Repository, forget: Mapping[str, str], recall: Mapping[str, str], now: float) -> None:
    """Commit which backups are promised no longer, or again: ids with their reasons. Raises: as Chain.append does."""
    time = round(now, 3)
    entries: list[Entry] = [ForgottenEntry(id, time, reason) for id, reason in forget.items()]
    entries += [RecalledEntry(id, time, reason) for id, reason in recall.items()]
    if entries:
        await repository.commit(entries)


async def remove(repository: Repository, going: Needless, orphans: Sequence[str], now: float) -> None:
    """Remove objects: name them, then delete them. Raises: as Chain.append does; StoreErrors."""
    if going.keys or orphans:
        fresh = [await store_index(repository, packs) for packs in _groups(going.named_anew)]
        named = {index.key for index in fresh}  # one that a run left that died belongs to the repository from now on
        left = [key for key in orphans if key not in named]
        await repository.commit([*fresh, RemovedEntry(round(now, 3), [*going.keys, *left])])
    await finish(repository, now)


async def finish(repository: Repository, now: float) -> None:
    """Delete what was removed, also by a run that did not come to its end. Raises: StoreErrors."""
    if repository.unfinished:
        await delete_all(repository.store, repository.unfinished - repository.keys())
        await repository.commit([RemovedEntry(round(now, 3), [])])


async def delete_all(store: Store, keys: Iterable[str]) -> None:
    """Delete these objects; what is not there is no error. Raises: StoreErrors, once all were tried."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def delete(key: str) -> None:
        async with gate:
            await store.delete(key)

    results = await asyncio.gather(*map(delete, sorted(keys)), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _groups(packs: Sequence[Pack]) -> Iterator[Sequence[Pack]]:
    for start in range(0, len(packs), PACKS_IN_AN_INDEX):
        yield packs[start : start + PACKS_IN_AN_INDEX]
