"""WAL that tier 1 may let go of: retention says how far, and what tier 2 holds says what of that.

Segments go in their order, from the first that is held, and only as far as tier 2 holds every one of them, by a fresh
listing: one that tier 2 lacks stays, and so does everything behind it, since without it the rest restores nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tallykeep.clock import Clock, SystemClock
from tallykeep.errors import IntegrityError, NotFound
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.archive import Stored
from tallykeep.systems.postgres.cluster import Cluster, Tier
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.offload.held import BackupsHeld, lacking, listed
from tallykeep.systems.postgres.part import unavailable
from tallykeep.systems.postgres.repository.repository import Repository


async def deletable(cluster: Cluster, floor: LSN, clock: Clock | None = None) -> list[Stored]:
    """Complete segments of tier 1 that end at or before `floor` and may go, in their order; the newest never may.

    Raises: IntegrityError; StoreErrors, and then nothing may go.
    """
    local = await in_thread(cluster.archive.segments)
    complete = [stored for stored in local[:-1] if stored.complete]
    if cluster.tier2 is not None:
        complete = await _uploaded(cluster, cluster.tier2, complete, clock or SystemClock())
    return [stored for stored in complete if stored.segment.end <= floor]


class Deleted(NamedTuple):
    """What has gone."""

    segments: int
    size: int  # bytes on disk


async def delete_wal(cluster: Cluster, segments: Sequence[Stored]) -> Deleted:
    """Remove what `deletable` said. What is gone already is no error. Raises: Unavailable."""
    return await in_thread(_delete, segments)


def _delete(segments: Sequence[Stored]) -> Deleted:
    count = size = 0
    for stored in segments:
        for path in stored.paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise unavailable(path, error) from None
        count, size = count + 1, size + stored.size
    return Deleted(count, size)


async def _uploaded(cluster: Cluster, tier: Tier, complete: Sequence[Stored], clock: Clock) -> list[Stored]:
    """Those before the first that tier 2 needs and does not hold."""
    identity = await cluster.tier1.wal.identity()
    if identity is None or await tier.wal.identity() != identity:
        return []
    here = await Repository.listed(cluster.tier1.base, clock)
    there = await Repository.listed(tier.base, clock)
    remote = await listed(tier.root, identity.segment_size)
    missing = set(lacking(complete, remote, BackupsHeld(here, there).floor))
    for at, stored in enumerate(complete):
        if stored.segment not in missing:
            continue
        if stored.segment in remote.segments and await _same(cluster, tier, stored.segment):
            continue
        return list(complete[:at])
    return list(complete)


async def _same(cluster: Cluster, tier: Tier, segment: Segment) -> bool:
    """Whether an object of another size holds the same WAL all the same."""
    try:
        return await tier.wal.read(segment) == await cluster.tier1.wal.read(segment)
    except (IntegrityError, NotFound):
        return False
