"""WAL that tier 1 may let go of: retention says how far, and what tier 2 holds says what of that.

Segments go in their order, from the first that is held, and only as far as tier 2 holds every one of them, by a fresh
listing: one that tier 2 lacks stays, and so does everything behind it, since without it the rest restores nothing.
What was never completed, before a fork or a gap, holds up nothing; it goes once tier 2 has as much of it, or needs
none: left behind it would tell of a gap for ever.
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
from tallykeep.systems.postgres.offload.held import BackupsHeld, RemoteHeld, lacking, listed
from tallykeep.systems.postgres.part import unavailable
from tallykeep.systems.postgres.repository.repository import Repository


async def deletable(cluster: Cluster, floor: LSN, clock: Clock | None = None) -> list[Stored]:
    """Segments of tier 1 that end at or before `floor` and may go, in their order; the newest never may.

    Raises: IntegrityError; StoreErrors, and then nothing may go.
    """
    left: Sequence[Stored] = (await in_thread(cluster.archive.segments))[:-1]
    if cluster.tier2 is not None:
        left = await _uploaded(cluster, cluster.tier2, left, clock or SystemClock())
    return [stored for stored in left if stored.segment.end <= floor]


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


async def _uploaded(cluster: Cluster, tier: Tier, local: Sequence[Stored], clock: Clock) -> Sequence[Stored]:
    """Those before the first complete one that tier 2 needs and does not hold."""
    identity = await cluster.tier1.wal.identity()
    if identity is None or await tier.wal.identity() != identity:
        return ()
    here = await Repository.listed(cluster.tier1.base, clock)
    there = await Repository.listed(tier.base, clock)
    remote, floor = await listed(tier.root, identity.segment_size), BackupsHeld(here, there).floor
    missing, found = set(lacking(local, remote, floor)), list[Stored]()
    for stored in local:
        if stored.segment in missing and not (
            stored.segment in remote.segments and await _same(cluster, tier, stored.segment)
        ):
            break
        if stored.complete or stored.segment.end <= floor or await _reaches(cluster, remote, stored):
            found.append(stored)
    return found


async def _reaches(cluster: Cluster, remote: RemoteHeld, stored: Stored) -> bool:
    """Whether tier 2 holds as much of a segment that is not complete."""
    return remote.end(stored.segment) >= await in_thread(cluster.archive.extent, stored)


async def _same(cluster: Cluster, tier: Tier, segment: Segment) -> bool:
    """Whether an object of another size holds the same WAL all the same."""
    try:
        return await tier.wal.read(segment) == await cluster.tier1.wal.read(segment)
    except (IntegrityError, NotFound):
        return False
