"""A lane: one connection to one broker, with a few partitions that are read over it in turns.

While an answer is checked, counted and copied on a thread, the next one is on its way; no more than two answers of
a lane are in memory. What happens to a partition is decided by the lane that has it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from tallykeep.errors import TallykeepError
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.kafka.collecting import Limits, Part, Reading, Spoilt
from tallykeep.systems.kafka.course import Course
from tallykeep.systems.kafka.fetching import Answer, Line, fetch
from tallykeep.systems.kafka.segment import SegmentBuilder
from tallykeep.systems.kafka.steps import reached

log = logging.getLogger(__name__)


class Collected(NamedTuple):
    """What became of one partition's part of an answer."""

    part: Part
    full: Sequence[SegmentBuilder]
    error: TallykeepError | None


class Lane:
    """Reads partitions that one broker leads, until the run is over."""

    def __init__(self, course: Course, line: Line) -> None:
        self._course, self._line = course, line
        self._own: deque[Reading] = deque()
        request = course.request
        self._share = max(request.partitions // request.lanes, 1)  # partitions that it may have at a time
        self._limits = Limits(request.segment_bytes, request.segment_records)
        self._room = 2 * request.fetch_bytes  # an answer, and its copy in segments

    async def run(self) -> None:
        """Read."""
        digesting: asyncio.Task[None] | None = None
        try:
            while wanted := await self._wanted(digesting):
                await self._course.budget.reserve(self._room)
                answer = await fetch(self._line, wanted, self._course.request.fetch_bytes)
                reached("fetched")
                self._advance(answer)
                if digesting:
                    await digesting
                digesting = asyncio.create_task(self._digest(answer))
                await self._course.clock.sleep(answer.throttle)
            if digesting:
                await digesting
        except BaseException:
            if digesting:
                digesting.cancel()
                await asyncio.gather(digesting, return_exceptions=True)
            raise
        for reading in self._own:
            reading.lane = None

    async def _wanted(self, digesting: asyncio.Task[None] | None) -> list[Reading]:
        """Partitions to ask for now; none when the run is over."""
        while not self._course.over:
            while len(self._own) < self._share and (more := self._course.take(self._line.leader, self)):
                self._own.append(more)
            self._own.rotate(-1)  # the first in a request gets its batch however large it is
            ready = [reading for reading in self._own if not reading.asked]
            if alone := [reading for reading in ready if reading.alone]:
                return alone[:1]
            if ready:
                return ready
            if digesting and not digesting.done():
                await digesting
            else:
                await self._course.change()
        return []

    def _advance(self, answer: Answer) -> None:
        """Where to ask next, before the answer is looked into."""
        for part in answer.parts:
            reading = part.reading
            if reading.lane is not self or part.at != reading.position:
                continue  # it has failed in the meantime
            reading.position = part.end
            reading.asked = part.reached or part.error is not None
            reading.alone = not part.batches

    async def _digest(self, answer: Answer) -> None:
        """Check, count and copy; then say what came of it."""
        mine = [part for part in answer.parts if part.reading.lane is self and part.at == part.reading.collected]
        for part in mine:
            part.reading.busy = True
        before = sum(part.reading.builder.memory for part in mine)
        try:
            collected = await in_thread(_collected, mine, self._limits, exact=self._course.request.exact)
        finally:
            for part in mine:
                part.reading.busy = False
        after = sum(part.reading.builder.memory for part in mine)
        self._course.budget.add(after - before + sum(full.memory for each in collected for full in each.full))
        for each in collected:
            self._settle(each)
        self._course.budget.release(self._room)

    def _settle(self, collected: Collected) -> None:
        part, reading = collected.part, collected.part.reading
        for full in collected.full:
            self._course.shipping.send(reading, full, self._course.budget)
        if part.batches and not collected.error:
            self._progressed(collected)
        if part.high_watermark >= 0:
            self._course.figures.lag(reading.place, part.high_watermark - reading.collected)
            self._course.figures.unstable(reading.place, part.high_watermark - part.last_stable_offset)
        if collected.error:
            self._own.remove(reading)
            self._course.fail(reading, collected.error)
        elif part.reached:
            self._own.remove(reading)
            self._course.finish(reading)

    def _progressed(self, collected: Collected) -> None:
        """Close a segment that has been open for long, so that the checkpoint moves."""
        course, reading = self._course, collected.part.reading
        course.progress(reading)
        now = course.clock.monotonic()
        if collected.full or not reading.opened:
            reading.opened = now
        elif now - reading.opened >= course.request.segment_seconds:
            course.shipping.take(reading, course.budget)
            reading.opened = 0.0


def _collected(parts: Sequence[Part], limits: Limits, *, exact: bool) -> list[Collected]:
    return [_one(part, limits, exact=exact) for part in parts]


def _one(part: Part, limits: Limits, *, exact: bool) -> Collected:
    if part.error:
        return Collected(part, (), part.error)
    try:
        full, unreadable = part.reading.collect(part, limits, exact=exact)
    except Spoilt as spoilt:
        return Collected(part, spoilt.full, spoilt.error)
    except TallykeepError as error:
        return Collected(part, (), error)
    for problem in unreadable:
        log.warning("%s: kept as it came, and no client can read it: %s", part.reading.place, problem)
    return Collected(part, full, None)
