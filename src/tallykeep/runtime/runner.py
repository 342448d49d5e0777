"""Collectors on their schedule: each looks at its target, and what it saw or failed to see goes to the Board.

The first collection begins at once, the others at a fixed rate after it; one that is still going on when the next
is due makes that one fall out. A collection that exceeds its timeout is cancelled and has failed. What cannot be
cancelled (a thread hung on a dead disk) is left behind, and while it has not ended no second one is begun: a hang
costs one thread, not one per interval. Every failure withdraws the last snapshot at once; a hang of the runner
itself is caught by the snapshot's own `valid_until`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from threading import Thread

from tallykeep.clock import Clock
from tallykeep.errors import TallykeepError
from tallykeep.metrics import Book, Sample, Snapshot
from tallykeep.runtime import families
from tallykeep.runtime.board import Board
from tallykeep.runtime.health import Health
from tallykeep.runtime.threads import threads_noted
from tallykeep.runtime.tracing import tracer
from tallykeep.runtime.work import Collector

SLACK = 1.0  # seconds a snapshot outlives the moment at which the next one must have come

_log = logging.getLogger(__name__)
_tracer = tracer("tallykeep.runtime")


class Runner:
    """Runs collectors until it is cancelled. They do not wait for one another."""

    def __init__(self, board: Board, book: Book, clock: Clock, health: Health) -> None:
        self._board = board
        self._book = book
        self._clock = clock
        self._health = health
        self._watches: list[_Watch] = []

    def add(self, collectors: Sequence[Collector]) -> None:
        """Announce collectors: from now on their verdicts are shown, as unknown."""
        for collector in collectors:
            self._board.announce(collector.name, collector.target, collector.verdicts())
            self._health.expect(_part(collector))
            self._watches.append(_Watch(collector, self._board, self._book, self._clock, self._health))

    async def run(self) -> None:
        """Collect until cancelled. Cancellation does not wait for what hangs."""
        async with asyncio.TaskGroup() as group:
            for watch in self._watches:
                group.create_task(watch.run(), name=f"watch-{watch.name}")
            await asyncio.Event().wait()  # with nothing to collect as well


class _Watch:
    """One collector: its schedule, its last message, its collection that may still hang."""

    def __init__(self, collector: Collector, board: Board, book: Book, clock: Clock, health: Health) -> None:
        self.name = f"{collector.name}/{collector.target}"
        self._collector = collector
        self._board = board
        self._book = book
        self._clock = clock
        self._health = health
        self._labels = {"collector": collector.name, "target": collector.target}
        self._said = ""  # the failure that was logged last
        self._failures = 0  # in a row
        self._left: _Left | None = None
        book.set(families.COLLECTOR_INTERVAL, collector.interval, **self._labels)

    async def run(self) -> None:
        due = self._clock.monotonic()
        while True:
            await self._once()
            self._health.report(_part(self._collector))
            late = self._clock.monotonic() - due
            due += self._collector.interval * max(1, math.ceil(late / self._collector.interval))
            await self._clock.sleep(due - self._clock.monotonic())

    async def _once(self) -> None:
        """One tick: a collection, or another failure where the last one hangs on."""
        if self._left is not None and self._left.hangs:
            self._failed("timeout", "an earlier collection still hangs; no other is begun before it ends")
            return
        self._left = None
        started, taken = self._clock.monotonic(), self._clock.time()
        try:
            samples = await self._within_timeout()
        except TimeoutError:
            self._failed("timeout", f"it did not end within {self._collector.timeout:g} s")
        except TallykeepError as error:
            self._failed(error.code, str(error))
        except Exception as error:
            self._failed("internal", f"{type(error).__name__}: {error}", defect=error)
        else:
            self._succeeded(samples, started, taken)
        self._book.set(families.COLLECTOR_DURATION, self._clock.monotonic() - started, **self._labels)

    async def _within_timeout(self) -> tuple[Sample, ...]:
        """What the collector yields. Raises: TimeoutError, after which `_left` is what may still hang."""
        with threads_noted() as threads:
            work = asyncio.create_task(_gathered(self._collector), name=f"collect-{self.name}")
        timer = asyncio.create_task(_sleep(self._clock, self._collector.timeout))
        try:
            await asyncio.wait((work, timer), return_when=asyncio.FIRST_COMPLETED)
            if work.cancelled():
                raise RuntimeError("the collection cancelled itself")
            if work.done():
                return work.result()
            self._left = _Left(work, threads)
            raise TimeoutError
        finally:
            timer.cancel()
            work.cancel()

    def _succeeded(self, samples: tuple[Sample, ...], started: float, taken: float) -> None:
        until = started + self._collector.interval + self._collector.timeout + SLACK
        self._board.publish(Snapshot(self._collector.name, self._collector.target, samples, taken, until))
        self._book.set(families.COLLECTOR_UP, 1, **self._labels)
        self._book.set(families.COLLECTOR_LAST_SUCCESS, self._clock.time(), **self._labels)
        if self._failures:
            _log.info("%s works again after %d failed collections", self.name, self._failures, extra=self._labels)
        self._failures, self._said = 0, ""

    def _failed(self, code: str, message: str, defect: Exception | None = None) -> None:
        self._board.fail(self._collector.name, self._collector.target)
        self._book.set(families.COLLECTOR_UP, 0, **self._labels)
        self._book.add(families.COLLECTOR_ERRORS, 1, code=code, **self._labels)
        self._failures += 1
        if message != self._said:
            level = logging.ERROR if defect else logging.WARNING
            _log.log(level, "%s failed: %s", self.name, message, exc_info=defect, extra={**self._labels, "code": code})
        self._said = message


class _Left:
    """A collection that was given up: its task, and the threads it had started."""

    def __init__(self, task: asyncio.Task[tuple[Sample, ...]], threads: set[Thread]) -> None:
        self._task = task
        self._threads = threads
        task.add_done_callback(_forget)

    @property
    def hangs(self) -> bool:
        return not self._task.done() or any(thread.is_alive() for thread in self._threads)


async def _gathered(collector: Collector) -> tuple[Sample, ...]:
    with _tracer.span("collect", {"collector": collector.name, "target": collector.target}):
        return tuple([sample async for sample in collector.collect()])


async def _sleep(clock: Clock, seconds: float) -> None:
    await clock.sleep(seconds)


def _forget(task: asyncio.Task[tuple[Sample, ...]]) -> None:
    """Look at the result nobody wants, so that asyncio does not complain of an error never retrieved."""
    if not task.cancelled():
        task.exception()


def _part(collector: Collector) -> str:
    return f"first look of {collector.name} at {collector.target}"
