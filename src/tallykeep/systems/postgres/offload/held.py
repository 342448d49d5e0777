"""What tier 2 holds of a cluster's WAL, by one listing; and what of tier 1 it lacks: a comparison.

A segment counts as held where an object of its name has as many bytes as the file in tier 1, or is known to hold the
same WAL all the same: one that was cut, by another program or by mistake, is lacking. WAL from before the oldest base
backup that tier 2 has, or is to have, is of no use there: it is not lacking, nor copied again once it was let go.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tallykeep.storage.store import Store
from tallykeep.systems.postgres.archive import WAL_FOLDER, Stored
from tallykeep.systems.postgres.lsn import LSN, Segment, history_timeline, is_segment_name
from tallykeep.systems.postgres.repository.repository import Repository
from tallykeep.systems.postgres.wal_source import HeldSegment, history_key, lies_right

_PART = re.compile(r"([0-9A-F]{24})\.(\d{4,})\.part")


@dataclass(slots=True)
class RemoteHeld:
    """What lies below wal/ in tier 2."""

    segments: dict[Segment, int] = field(default_factory=dict)  # complete by their names: bytes as stored
    parts: dict[Segment, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))  # key by bytes of WAL held
    timelines: set[int] = field(default_factory=set)  # whose history file is there
    latest: float = 0.0  # Unix time of the newest complete segment; 0: there is none

    def held(self) -> list[HeldSegment]:
        """As a WalSource tells it: by timeline and position, the longest part where there is no complete segment."""
        found = {segment: HeldSegment(segment, segment.end, size) for segment, size in self.segments.items()}
        for segment, parts in self.parts.items():
            if parts and segment not in found:
                found[segment] = HeldSegment(segment, LSN(segment.start + max(parts)), 0)
        return [found[segment] for segment in sorted(found)]

    def copy(self) -> RemoteHeld:
        """The same, for a thread while this one is kept up."""
        parts = {segment: dict(found) for segment, found in self.parts.items()}
        return RemoteHeld(dict(self.segments), parts, set(self.timelines), self.latest)

    def end(self, segment: Segment) -> LSN:
        """The first position of a segment that is not held."""
        return segment.end if segment in self.segments else self.part_end(segment)

    def part_end(self, segment: Segment) -> LSN:
        """The same by what was copied before it was complete."""
        return LSN(segment.start + max(self.parts.get(segment, ()), default=0))


async def listed(store: Store, segment_size: int) -> RemoteHeld:
    """What tier 2 holds now; `store` is bound to the cluster. Raises: StoreErrors."""
    found = RemoteHeld()
    async for page in store.list(f"{WAL_FOLDER}/"):
        for each in page:
            name = each.key.rpartition("/")[2]
            part = _PART.fullmatch(name)
            if is_segment_name(name) or part is not None:
                segment = Segment.parse(name[:24], segment_size)
                if not lies_right(each.key, segment):
                    continue
                if part is not None:
                    found.parts[segment][int(part[2])] = each.key
                else:
                    found.segments[segment] = each.size
                    found.latest = max(found.latest, each.modified)
            elif (timeline := history_timeline(name)) is not None and each.key == history_key(timeline):
                found.timelines.add(timeline)
    return found


def lacking(
    local: Iterable[Stored], remote: RemoteHeld, floor: LSN, proved: Mapping[Segment, int] | None = None
) -> list[Segment]:
    """Complete segments of tier 1 that tier 2 needs and does not hold, in their order.

    `floor`: WAL before it is not needed; `proved`: objects that hold the same WAL in other bytes, and so many.
    """
    proved = proved or {}
    return [
        stored.segment
        for stored in local
        if stored.complete
        and stored.segment.end > floor
        and remote.segments.get(stored.segment, -1) not in (stored.size, proved.get(stored.segment))
    ]


class BackupsHeld(NamedTuple):
    """Base backups of both tiers, by their manifests."""

    tier1: Repository
    tier2: Repository

    @property
    def lacking(self) -> list[str]:
        """Ids of backups that tier 2 is to have and never had, the oldest first: what it has let go stays away."""
        return [id for id in self.tier1.backups if id not in self.tier2.known]

    @property
    def floor(self) -> LSN:
        """Tier 2 needs no WAL from before it; 0 where that cannot be told."""
        there = (*self.tier2.backups.values(), *self.tier2.in_grace.values())
        wanted = [*there, *(self.tier1.backups[id] for id in self.lacking)]
        return min((LSN.parse(entry.start_lsn) for entry in wanted), default=LSN(0))
