"""What is said to be held of what follows a backup, and whether a recovery has come that far.

The end of what is held may lie inside a record, which no recovery can replay: so where the recovered point is before
it, the records between the two are proved, and the end of the last whole one is what counts. Memory: one segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from tallykeep.errors import IntegrityError
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres import coverage
from tallykeep.systems.postgres.lsn import LSN, History, Segment
from tallykeep.systems.postgres.pages import PAGE
from tallykeep.systems.postgres.records import Records
from tallykeep.systems.postgres.restoring.restore import Plan
from tallykeep.systems.postgres.restoring.tiered_wal import TieredWal
from tallykeep.systems.postgres.wal_source import HeldSegment, history_of, stretches


@dataclass(frozen=True, slots=True)
class Claim:
    """What is held, as it was before recovery began."""

    history: History  # of the timeline that is recovered along
    end: LSN  # from the backup on everything is held up to here
    newest: LSN  # the end of all that is held along the timeline, behind gaps too
    segments: tuple[HeldSegment, ...]
    segment_size: int

    @property
    def missing(self) -> str:
        """What is to be said of WAL that lies behind a gap; empty where there is none."""
        if self.newest <= self.end:
            return ""
        return f"WAL is missing behind {self.end}: what is held behind the gap cannot be reached"


async def claim_of(plan: Plan) -> Claim:
    """What the tiers of a plan say. Raises: IntegrityError; StoreErrors."""
    wal = plan.wal
    history = await history_of(wal, plan.timeline)
    segments = await wal.segments()
    ranges = coverage.ranges(stretches(segments), history)
    newest = max([plan.reach.end, *(each.end for each in ranges)])
    return Claim(history, plan.reach.end, newest, tuple(segments), (await wal.identity()).segment_size)


async def provable(wal: TieredWal, claim: Claim, since: LSN) -> LSN:
    """The end of the last whole record that is held, from the segment of `since` on.

    Raises: IntegrityError for a record that is damaged; NotFound; StoreErrors.
    """
    first = Segment.at(1, since, claim.segment_size).start
    records = Records(claim.segment_size, first)
    for segment in _line(claim, first):
        data = await wal.read(segment)
        await in_thread(_feed, records, data[: max(0, claim.end - segment.start)])
    return records.verified


def _feed(records: Records, data: bytes) -> None:
    whole = len(data) - len(data) % PAGE
    records.feed(data[:whole])
    if whole < len(data):
        with suppress(IntegrityError):  # a record that the end of WAL has cut
            records.feed(data[whole:].ljust(PAGE, b"\0"))


def _line(claim: Claim, first: int) -> Iterator[Segment]:
    """The segments from `first` to the end of the claim, each of the newest timeline that has it."""
    there = {(held.segment.timeline, held.segment.start): held.segment for held in claim.segments}
    timelines = [claim.history.timeline, *(fork.timeline for fork in reversed(claim.history.forks))]
    for start in range(first, claim.end, claim.segment_size):
        found = (there.get((timeline, LSN(start))) for timeline in timelines)
        segment = next((each for each in found if each is not None), None)
        if segment is None:
            return
        yield segment
