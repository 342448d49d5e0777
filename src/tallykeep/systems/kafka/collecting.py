"""A partition that is being read: where it is, where it ends, and the segment that is open.

`position` runs ahead: it is known from a look at headers, so that the next request is under way while batches are
checked, counted and copied. `collected` is how far they have come. An answer counts only where it was asked for at
`collected`, so nothing is left out or taken twice when something in between had to be asked for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tallykeep.errors import TallykeepError
from tallykeep.runtime.backoff import Backoff
from tallykeep.systems.kafka.held import Incarnation, Tail
from tallykeep.systems.kafka.looking import Looked, look
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.segment import SegmentBuilder
from tallykeep.systems.kafka.wire import Aborted, Batch, BatchError, Codec


class Part(NamedTuple):
    """What an answer says of one partition."""

    reading: Reading
    at: int  # offset that was asked for
    batches: Sequence[Batch]  # whole ones before the cut
    aborted: Sequence[Aborted]
    end: int  # offset to go on with
    reached: bool  # nothing more is to come before the cut
    high_watermark: int
    last_stable_offset: int
    error: TallykeepError | None = None


class Limits(NamedTuple):
    """When a segment is full."""

    size: int  # bytes of batches
    records: int  # 0: any number


@dataclass(slots=True, eq=False)
class Reading:
    """One partition on its way to the cut."""

    incarnation: Incarnation
    leader: int  # broker id
    end: int  # the cut
    builder: SegmentBuilder
    pack: Codec
    level: int  # of zstd
    position: int = 0
    collected: int = 0
    records: int = 0  # in the open segment
    opened: float = 0.0  # when the open segment got its first batch, by the monotonic clock
    failing: float = 0.0  # since when nothing comes; 0: something does
    asked: bool = False  # nothing more is to be asked for before the cut
    alone: bool = False  # it is to be asked for in a request of its own: it sent nothing among others
    lane: object = None  # who reads it
    busy: bool = False  # a thread is adding to its segment
    error: TallykeepError | None = None  # why it is not read at the moment, or never again
    finished: bool = False
    tail: Tail | None = None  # the last batch that was collected, now or by an earlier run, where its epoch is known
    backoff: Backoff = field(default_factory=lambda: Backoff(0.1, 10.0))
    shipped: asyncio.Task[None] | None = None  # its last segment that was closed

    @classmethod
    def begun(cls, incarnation: Incarnation, leader: int, start: int, end: int, pack: Codec, level: int) -> Reading:
        """To be read from `start` to `end`; packed as SegmentBuilder says."""
        builder = SegmentBuilder(*incarnation, start, pack=pack, level=level)
        return cls(incarnation, leader, end, builder, pack, level, start, start)

    @property
    def place(self) -> Place:
        return Place(self.incarnation.topic, self.incarnation.partition)

    def close(self) -> SegmentBuilder:
        """The open segment, to be sealed; a new one takes its place."""
        closed = self.builder
        self.builder = self._opened(closed.end)
        self.records = 0
        return closed

    def rewind(self) -> None:
        """What was asked for ahead does not count: go on behind what was collected."""
        self.position, self.asked = self.collected, False

    def skip(self, offset: int) -> None:
        """Go on at `offset`, the open segment having been closed: what lies before it is gone."""
        self.builder = self._opened(offset)
        self.position = self.collected = offset
        self.asked = False

    def collect(self, part: Part, limits: Limits, *, exact: bool) -> tuple[list[SegmentBuilder], Sequence[BatchError]]:
        """Add what came to the segment: those that are full now, and batches nobody can read. Blocks.

        Raises: BatchError (checksum), after what came before the batch that it speaks of has been added.
        """
        looked, sound, error = _looked(part.batches, exact=exact)
        full, at = [], 0
        while at < sound:
            several = slice(at, at + self._fitting(part.batches[at:sound], limits))
            self.builder.extend(part.batches[several], looked.uncompressed[several], looked.least[several])
            at = several.stop
            if self.builder.size >= limits.size or 0 < limits.records <= self.records:
                self._note(part.aborted)
                full.append(self.close())
        self._note(part.aborted)
        self.collected = self.builder.end
        if sound:
            self._end_with(part.batches[sound - 1])
        if error:
            raise Spoilt(full, error)
        if part.reached:
            self.builder.vouch(part.end)
            self.collected = part.end
        return full, looked.unreadable

    def _opened(self, start: int) -> SegmentBuilder:
        return SegmentBuilder(*self.incarnation, start, pack=self.pack, level=self.level)

    def _fitting(self, batches: Sequence[Batch], limits: Limits) -> int:
        """How many batches the open segment takes until it is full; their records are counted."""
        size = self.builder.size
        for count, (header, _) in enumerate(batches, 1):
            size += header.size
            self.records += header.record_count
            if size >= limits.size or 0 < limits.records <= self.records:
                return count
        return len(batches)

    def _end_with(self, batch: Batch) -> None:
        header = batch.header
        self.tail = Tail(header.leader_epoch, header.last_offset + 1) if header.leader_epoch >= 0 else None

    def _note(self, aborted: Sequence[Aborted]) -> None:
        """Transactions that reach into the open segment."""
        self.builder.aborted(each for each in aborted if each.first_offset < self.builder.end)


class Spoilt(Exception):
    """A batch of an answer is not what was produced."""

    def __init__(self, full: list[SegmentBuilder], error: BatchError) -> None:
        super().__init__(str(error))
        self.full = full
        self.error = error


def _looked(batches: Sequence[Batch], *, exact: bool) -> tuple[Looked, int, BatchError | None]:
    """What is known of the sound ones, how many come before one that is not, and what is wrong with that."""
    try:
        return look(batches, exact=exact), len(batches), None
    except BatchError as error:
        sound = next(count for count, batch in enumerate(batches) if not _is_sound(batch))
        return look(batches[:sound], exact=exact), sound, error


def _is_sound(batch: Batch) -> bool:
    try:
        batch.check()
    except BatchError:
        return False
    return True
