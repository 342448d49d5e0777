"""WAL that no backup of a tier needs any more.

Every restore begins at the start of a backup, and goes on from there. So the floor is the lowest start of all backups
whose bytes are there, those in their grace period too, and of those that a tier has yet to get; whole segments that end
at or below it go, on every timeline. Two kinds of WAL stay although nothing leads to it: what a dead branch holds above
the floor, until the floor has passed it; and all of a timeline that is newer than every backup, since a backup that is
about to be taken there may begin lower than those before the fork. Histories always stay: they are small, and tell
which way to go. Without a backup there is no floor, and nothing goes. Gaps change nothing.

What tier 1 lets go of is offload's to say: WAL that tier 2 does not hold yet is never deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tallykeep.storage.store import ObjectInfo
from tallykeep.systems.postgres.archive import WAL_FOLDER, Stored
from tallykeep.systems.postgres.cluster import TIER_1, Cluster, Tier
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.offload import deleting
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.retention.collecting import delete_all
from tallykeep.systems.postgres.wal_source import lies_right

_FILE = re.compile(r"([0-9A-F]{24})(\.\d{4,}\.part)?")


class Floor(NamedTuple):
    """What is needed of WAL."""

    lsn: LSN  # from here on
    timeline: int  # newer ones are needed whole

    def spares(self, segment: Segment) -> bool:
        """Whether the segment stays."""
        return segment.end > self.lsn or segment.timeline > self.timeline


class NeedlessWal(NamedTuple):
    """WAL that goes."""

    floor: Floor | None = None  # None: there is no backup, and everything stays
    segments: Sequence[Segment] = ()
    stored: Sequence[Stored] = ()  # tier 1: their files
    keys: Sequence[str] = ()  # tier 2: their objects, also of segments that were not complete
    bytes: int = 0  # as stored


def floor_of(backups: Iterable[BackupEntry]) -> Floor | None:
    """What restores from these backups need."""
    found = [(LSN.parse(entry.start_lsn), entry.timeline) for entry in backups]
    return Floor(min(lsn for lsn, _ in found), max(timeline for _, timeline in found)) if found else None


async def needless_wal(cluster: Cluster, tier: Tier, floor: Floor | None) -> NeedlessWal:
    """WAL of the tier that goes. Raises: IntegrityError; StoreErrors."""
    identity = await tier.wal.identity()
    if floor is None or identity is None:
        return NeedlessWal(floor)
    if tier.number == TIER_1:
        return await _local(cluster, floor)
    found = [each async for page in tier.root.list(f"{WAL_FOLDER}/") for each in page]
    return _remote(found, floor, identity.segment_size)


async def delete_wal(cluster: Cluster, tier: Tier, going: NeedlessWal) -> None:
    """Delete it; what is gone already is no error. Raises: StoreErrors."""
    if tier.number == TIER_1:
        await deleting.delete_wal(cluster, going.stored)
    else:
        await delete_all(tier.root, going.keys)


async def _local(cluster: Cluster, floor: Floor) -> NeedlessWal:
    found = [stored for stored in await deleting.deletable(cluster, floor.lsn) if not floor.spares(stored.segment)]
    return NeedlessWal(floor, [stored.segment for stored in found], found, (), sum(stored.size for stored in found))


def _remote(listed: Iterable[ObjectInfo], floor: Floor, segment_size: int) -> NeedlessWal:
    keys, segments, size = list[str](), set[Segment](), 0
    for each in listed:
        name = _FILE.fullmatch(each.key.rpartition("/")[2])
        segment = Segment.parse(name[1], segment_size) if name else None
        if segment is not None and lies_right(each.key, segment) and not floor.spares(segment):
            keys.append(each.key)
            segments.add(segment)
            size += each.size
    return NeedlessWal(floor, sorted(segments), (), keys, size)
