"""What a backup holds, added up from its manifest: each partition's segments in order, and where to go on.

The sum is checked as it is made: a segment begins where the one before ends, or a gap says why not. So nothing can
be skipped, forgotten or stored twice without being found.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tallykeep.errors import IntegrityError
from tallykeep.systems.kafka.manifest import CompleteEntry, GapEntry, Placed, Record, SegmentEntry, SnapshotEntry


class Incarnation(NamedTuple):
    """A partition of a topic as it was from one creation to its deletion: a new one begins at offset 0 again."""

    topic: str
    topic_id: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition} (topic id {self.topic_id})"


class Tail(NamedTuple):
    """The last batch that there is of a partition: whoever has it has all before it as well, or another history."""

    epoch: int  # of the leader that wrote it
    end: int  # offset behind it


@dataclass(slots=True)
class Held:
    """One partition's part of a backup."""

    start: int  # offset at which it begins
    checkpoint: int  # offset at which the next segment has to begin
    segments: list[SegmentEntry] = field(default_factory=list)
    gaps: list[GapEntry] = field(default_factory=list)

    @property
    def tail(self) -> Tail | None:
        """What the partition's log has to have, if it still is the one that was backed up. None: not known."""
        for entry in reversed(self.segments):
            if entry.last_end >= 0:
                return Tail(entry.last_epoch, entry.last_end) if entry.last_epoch >= 0 else None
        return None


def add_up(records: Iterable[Record]) -> dict[Incarnation, Held]:
    """What these records, from the first on, come to. Raises: IntegrityError, naming the record."""
    found: dict[Incarnation, Held] = {}
    for record in records:
        for entry in record.entries:
            if isinstance(entry, SnapshotEntry | CompleteEntry):
                continue
            _add(found, entry, record)
    return found


def _add(found: dict[Incarnation, Held], entry: Placed, record: Record) -> None:
    place = Incarnation(entry.topic, entry.topic_id, entry.partition)
    held = found.setdefault(place, Held(entry.start, entry.start))
    if entry.start != held.checkpoint or entry.end < entry.start:
        raise IntegrityError(
            f"{record.key}: {place} was backed up to offset {held.checkpoint}, and goes on with "
            f"{entry.start} to {entry.end}: this manifest contradicts itself."
        )
    if isinstance(entry, SegmentEntry):
        held.segments.append(entry)
    elif isinstance(entry, GapEntry):
        held.gaps.append(entry)
    held.checkpoint = entry.end
