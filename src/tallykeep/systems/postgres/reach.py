"""What a tier's WAL makes of a base backup: whether it can be restored at all, and up to where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.coverage import Held, Range, ranges
from tallykeep.systems.postgres.lsn import LSN, History
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.wal_source import WalSource, history_of, stretches


class Reach(NamedTuple):
    """How far WAL leads on from a backup."""

    usable: bool  # WAL from its start to its stop is held: without it the backup is not consistent
    end: LSN  # every moment from the backup's stop to here can be recovered; its start where nothing is held
    timeline: int  # on which that is


class Coverage(NamedTuple):
    """WAL of a tier along the lines that lead on from backups."""

    held: Sequence[Held]
    histories: Mapping[int, History]  # of the newest timeline, and of those that are not on its line

    @property
    def newest(self) -> Held | None:
        """Where the tier stands."""
        return max(self.held, default=None)

    def line(self, timeline: int, stop: LSN) -> History:
        """The line that a backup is on: the newest timeline's, or its own where that was left before its stop."""
        newest = self.histories[max(self.histories)] if self.histories else History(timeline)
        left = newest.left(timeline)
        if newest.timeline == timeline or (left is not None and stop <= left):
            return newest
        return self.histories.get(timeline, History(timeline))

    def ranges(self) -> list[Range]:
        """What is held along the newest timeline's line."""
        newest = self.newest
        return [] if newest is None else ranges(self.held, self.histories[newest.timeline])

    def reach(self, entry: BackupEntry) -> Reach:
        """How far WAL leads on from a backup."""
        start, stop = LSN.parse(entry.start_lsn), LSN.parse(entry.stop_lsn)
        line = self.line(entry.timeline, stop)
        for found in ranges(self.held, line):
            if found.start <= start < found.end:
                return Reach(stop <= found.end, found.end, line.timeline)
        return Reach(False, start, entry.timeline)


async def coverage_of(wal: WalSource) -> Coverage:
    """What the tier holds now. Raises: IntegrityError; StoreErrors; Malformed."""
    held = await in_thread(stretches, await wal.segments())
    timelines = sorted({stretch.timeline for stretch in held})
    return Coverage(held, {timeline: await history_of(wal, timeline) for timeline in timelines})
