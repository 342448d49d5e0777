"""The state of a run that its parts share: partitions that wait, are read, have failed or are done.

Everything here happens on the event loop, between awaits; only `Reading.collect` runs on threads, and a partition
that is in one is `busy`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from tallykeep.clock import Clock
from tallykeep.errors import IntegrityError, Malformed, SourceError, TallykeepError, Unreachable
from tallykeep.systems.kafka.backup_request import BackupRequest, Figures, Stored
from tallykeep.systems.kafka.budget import Budget
from tallykeep.systems.kafka.collecting import Reading
from tallykeep.systems.kafka.held import Incarnation
from tallykeep.systems.kafka.manifest import GapEntry
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.recording import Committer, Ready, entry_of
from tallykeep.systems.kafka.replies import OFFSET_OUT_OF_RANGE
from tallykeep.systems.kafka.shipping import Shipping
from tallykeep.systems.kafka.wire import BatchError

log = logging.getLogger(__name__)


class Tally:
    """What has been committed."""

    def __init__(self) -> None:
        self.records = self.bytes = self.stored = self.segments = 0
        self.gaps: list[GapEntry] = []

    def add(self, ready: Sequence[Ready]) -> None:
        """Count what a record has named."""
        for each in ready:
            if isinstance(each, GapEntry):
                self.gaps.append(each)
                continue
            self.records += each.entry.records
            self.bytes += each.entry.uncompressed or each.entry.raw
            self.stored += each.entry.stored
            self.segments += 1


class Due(NamedTuple):
    """A partition to be tried again."""

    reading: Reading
    moment: float  # by the monotonic clock


class Course:
    """How far a run has come."""

    shipping: Shipping
    committer: Committer

    def __init__(self, request: BackupRequest, readings: Sequence[Reading], figures: Figures, clock: Clock) -> None:
        self.request, self.figures, self.clock = request, figures, clock
        self.budget = Budget(request.memory_bytes, self._squeeze)
        self.tally = Tally()
        self.unfinished: dict[Place, TallykeepError] = {}
        self.due: list[Due] = []  # given back by lanes, to be looked at and queued again
        self.stopped = False
        self.left: int  # partitions that are neither done nor given up
        self.active = 0  # partitions that lanes have
        self._readings = {reading.incarnation: reading for reading in readings}
        self._waiting: dict[int, deque[Reading]] = {}  # by leader
        self.left = len(readings)
        self._changed = asyncio.Event()
        for reading in readings:
            self.queue(reading)

    @property
    def over(self) -> bool:
        """Whether nothing is to be read any more."""
        return self.stopped or not self.left

    @property
    def leaders(self) -> list[int]:
        """Brokers that partitions wait for."""
        return [leader for leader, waiting in self._waiting.items() if waiting]

    async def change(self, timeout: float | None = None) -> None:
        """Return when something has changed, or after `timeout` seconds."""
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return

    def changed(self) -> None:
        """Let all who wait look again."""
        self._changed.set()

    def stop(self) -> None:
        """Read nothing more."""
        self.stopped = True
        self.changed()

    def queue(self, reading: Reading) -> None:
        """To be read by a lane of its leader."""
        reading.lane, reading.error = None, None
        self._waiting.setdefault(reading.leader, deque()).append(reading)
        self.changed()

    def take(self, leader: int, lane: object) -> Reading | None:
        """A partition for a lane of that broker, as long as not too many are read at once."""
        waiting = self._waiting.get(leader)
        if not waiting or self.active >= self.request.partitions:
            return None
        self.active += 1
        reading = waiting.popleft()
        reading.lane = lane
        return reading

    def progress(self, reading: Reading) -> None:
        """Something came of it."""
        reading.failing = 0.0
        reading.backoff.reset()

    def strand(self, leader: int) -> None:
        """The cluster does not know the broker that leads these."""
        for reading in self._waiting.pop(leader, ()):
            self.fail(reading, Unreachable(f"{reading.place} is led by broker {leader}, which is not there."))

    def finish(self, reading: Reading) -> None:
        """It has reached the cut."""
        self.shipping.take(reading, self.budget)
        self._leave(reading)
        self._settle(reading)

    def fail(self, reading: Reading, error: TallykeepError) -> None:
        """Give it back to be tried again, or up where that makes no sense or has taken too long."""
        self._leave(reading)
        reading.rewind()
        now = self.clock.monotonic()
        reading.failing = reading.failing or now
        if not is_worth_a_retry(error) or now - reading.failing > self.request.patience:
            self.give_up(reading, error)
            return
        self.figures.retried(error.code)
        reading.error = error
        self.due.append(Due(reading, now + reading.backoff.delay()))
        self.changed()

    def give_up(self, reading: Reading, error: TallykeepError) -> None:
        """Read no more of it in this run; what there is of it is kept."""
        log.error("%s: backed up to offset %d of %d: %s", reading.place, reading.collected, reading.end, error)
        self.unfinished[reading.place] = error
        self.figures.failed(error)
        self.shipping.take(reading, self.budget)
        self._settle(reading)

    def replaced(self, topic: str) -> None:
        """A topic was made again while it was read."""
        for reading in self._readings.values():
            if reading.incarnation.topic == topic and reading.place not in self.unfinished:
                self.unfinished[reading.place] = replaced(topic)
                self.figures.failed(self.unfinished[reading.place])

    def committed(self, ready: Sequence[Ready]) -> None:
        """Durable now."""
        self.tally.add(ready)
        with self.figures.together():
            self.figures.committed([each for each in ready if isinstance(each, Stored)])
            for entry in map(entry_of, ready):
                if isinstance(entry, GapEntry):
                    self.lost(entry)
                reading = self._readings.get(Incarnation(entry.topic, entry.topic_id, entry.partition))
                if reading:
                    self.figures.remaining(Place(entry.topic, entry.partition), reading.end - entry.end)

    def lost(self, gap: GapEntry) -> None:
        """Offsets were gone, and the manifest says so."""
        place = Place(gap.topic, gap.partition)
        log.warning("%s: offsets %d to %d were gone before they could be read", place, gap.start, gap.end - 1)
        self.figures.gap(gap)
        self.figures.skipped(place, gap.end - gap.start)

    def close_all(self) -> None:
        """Send every open segment on its way."""
        for reading in self._readings.values():
            self.shipping.take(reading, self.budget)

    def _leave(self, reading: Reading) -> None:
        if reading.lane is not None:
            reading.lane = None
            self.active -= 1
        self.changed()

    def _settle(self, reading: Reading) -> None:
        if not reading.finished:
            reading.finished = True
            self.left -= 1
        self.changed()

    def _squeeze(self, missing: int) -> None:
        """Close the largest open segments until what is under way will make room for `missing` bytes."""
        idle = [reading for reading in self._readings.values() if not reading.busy and reading.builder.size]
        idle.sort(key=lambda reading: reading.builder.memory)
        while idle and self.shipping.under_way < missing:
            self.shipping.take(idle.pop(), self.budget)


def replaced(topic: str) -> IntegrityError:
    """What is wrong with a topic that has another id now."""
    return IntegrityError(
        f"topic {topic!r} was deleted and made again while it was read; what had been read of the old one before is "
        "kept, and the next run takes the new one from its beginning."
    )


def is_worth_a_retry(error: TallykeepError) -> bool:
    """Whether a partition may come when it is asked for again."""
    if isinstance(error, BatchError):
        return error.reason != "old_format"
    if isinstance(error, Malformed) or is_out_of_range(error):
        return True
    return isinstance(error, SourceError) and error.retry is not None


def is_out_of_range(error: TallykeepError | None) -> bool:
    """Whether a broker said that it does not have the offset."""
    return getattr(error, "kafka_code", None) == OFFSET_OUT_OF_RANGE
