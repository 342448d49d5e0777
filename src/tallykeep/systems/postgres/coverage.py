"""What of WAL is held and what is missing, across timelines: pure.

A restore follows one timeline back through its ancestors. So ranges and gaps are told along that line: WAL of an
ancestor counts up to where it was left, and what a dead branch holds behind its fork is neither a range nor a gap.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from tallykeep.errors import Malformed
from tallykeep.systems.postgres.lsn import LSN, History, Segment


class Held(NamedTuple):
    """A stretch of one timeline without a hole."""

    timeline: int
    start: LSN
    end: LSN


class Range(NamedTuple):
    """A stretch along a line of timelines in which every moment can be recovered, given a base backup in it."""

    start: LSN
    end: LSN


class Gap(NamedTuple):
    """WAL that is missing."""

    timeline: int
    start: LSN
    end: LSN
    reason: str = ""
    found: float = 0.0  # Unix time

    def to_json(self) -> str:
        """One line."""
        return json.dumps({**self._asdict(), "start": str(self.start), "end": str(self.end)})

    @classmethod
    def from_json(cls, line: str) -> Gap | None:
        """None for a line that was cut by a crash."""
        try:
            found = json.loads(line)
            return cls(
                int(found["timeline"]), LSN.parse(found["start"]), LSN.parse(found["end"]),
                str(found["reason"]), float(found["found"]),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, Malformed):
            return None


def joined(segments: Iterable[tuple[Segment, LSN]]) -> list[Held]:
    """Stretches without a hole of segments, each with the end of what is held of it; by timeline and position."""
    found: list[Held] = []
    for segment, end in segments:
        last = found[-1] if found else None
        if last is not None and (last.timeline, last.end) == (segment.timeline, segment.start):
            found[-1] = last._replace(end=end)
        elif end > segment.start:
            found.append(Held(segment.timeline, segment.start, end))
    return found


def ranges(held: Iterable[Held], history: History) -> list[Range]:
    """What can be recovered along the line that ends in `history`'s timeline, in order."""
    found: list[Range] = []
    for start, end in sorted(_on_line(held, history)):
        if found and start <= found[-1].end:
            found[-1] = Range(found[-1].start, max(found[-1].end, end))
        else:
            found.append(Range(start, end))
    return found


def reach(held: Sequence[Held], history: History) -> Range | None:
    """The newest stretch that can be recovered along that line."""
    return max(ranges(held, history), default=None)


def gaps(held: Iterable[Held], history: History) -> list[Gap]:
    """Holes between the first and the last that is held along that line."""
    parts = ranges(held, history)
    return [Gap(_timeline_at(before.end, history), before.end, after.start) for before, after in pairwise(parts)]


def _on_line(held: Iterable[Held], history: History) -> Iterable[tuple[LSN, LSN]]:
    for stretch in held:
        if history.knows(stretch.timeline):
            left = history.left(stretch.timeline)
            end = stretch.end if left is None else LSN(min(stretch.end, left))
            if stretch.start < end:
                yield stretch.start, end


def _timeline_at(lsn: int, history: History) -> int:
    return next((fork.timeline for fork in history.forks if lsn < fork.lsn), history.timeline)


def newest(held: Sequence[Held]) -> Held | None:
    """Where the archive stands: the last stretch of the newest timeline."""
    return max(held, default=None)
