from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

import pytest
from tests.support.clock import FakeClock

from tallykeep.errors import Unreachable
from tallykeep.metrics import UNKNOWN, Book, Catalogue, Family, Kind, Sample
from tallykeep.runtime import families
from tallykeep.runtime.board import Board
from tallykeep.runtime.health import Health
from tallykeep.runtime.runner import Runner
from tallykeep.runtime.threads import in_thread
from tallykeep.units import COUNT, STATE

VERDICT = Family("test_verdict", Kind.STATE_SET, STATE, (), "Verdict.", states=("good", "bad", UNKNOWN))
FIGURE = Family("test_figure", Kind.GAUGE, COUNT, (), "Figure.")


class Scripted:
    """A collector that does what `look` says."""

    target = "t"

    def __init__(
        self, look: Callable[[], AsyncIterator[Sample]], name: str = "c", interval: float = 60, timeout: float = 10
    ) -> None:
        self.name = name
        self.interval = interval
        self.timeout = timeout
        self.collect = look

    def verdicts(self) -> Sequence[Sample]:
        return (VERDICT(UNKNOWN),)


class World:
    """A runner with everything around it, and a clock whose hands the test turns."""

    def __init__(self, *collectors: Scripted) -> None:
        self.clock = FakeClock()
        self.book = Book()
        self.health = Health()
        self.board = Board(Catalogue((VERDICT, FIGURE, *families.FAMILIES)), self.book, self.clock)
        self.runner = Runner(self.board, self.book, self.clock, self.health)
        self.runner.add(collectors)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> World:
        self._task = asyncio.create_task(self.runner.run())
        await self.clock.advance(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def shown(self, collector: str = "c") -> dict[str, object]:
        (snapshot,) = [s for s in self.board.snapshots() if s.collector == collector]
        return {sample.family.name: sample.value for sample in snapshot.samples}

    def booked(self, family: Family, **labels: str) -> float | None:
        wanted = {"collector": "c", "target": "t", **labels}
        for sample in self.book.read():
            if sample.family is family and dict(zip(family.labels, sample.labels, strict=True)) == wanted:
                assert isinstance(sample.value, float)
                return sample.value
        return None


async def good() -> AsyncIterator[Sample]:
    yield VERDICT("good")
    yield FIGURE(7)


async def test_verdicts_are_unknown_before_the_first_look() -> None:
    """A verdict is on the page before anything was collected, and it says unknown."""
    world = World(Scripted(good))
    assert world.shown() == {"test_verdict": UNKNOWN}
    assert not world.health.ready


async def test_first_look_is_at_once() -> None:
    """The first collection does not wait for an interval, and readiness follows it."""
    async with World(Scripted(good)) as world:
        assert world.shown() == {"test_verdict": "good", "test_figure": 7.0}
        assert world.health.ready
        assert world.booked(families.COLLECTOR_UP) == 1
        assert world.booked(families.COLLECTOR_LAST_SUCCESS) == world.clock.time()


async def test_looks_keep_a_fixed_rate() -> None:
    """Collections begin at multiples of the interval, whatever each of them takes; slow ones make ticks fall out."""
    starts: list[float] = []
    takes = iter((3.0, 59.0, 1.0, 130.0, 1.0))
    world: World

    async def look() -> AsyncIterator[Sample]:
        starts.append(world.clock.monotonic() - 1000)
        await world.clock.sleep(next(takes))
        yield FIGURE(1)

    world = World(Scripted(look, timeout=1000))
    async with world:
        await world.clock.advance(360)
    assert starts == [0, 60, 120, 180, 360]


async def test_failure_withdraws_figures_and_keeps_the_verdict_as_unknown() -> None:
    """A failed collection removes plain samples at once; the verdict says unknown; the error is counted by code."""
    outcomes = iter((True, False, True))

    async def look() -> AsyncIterator[Sample]:
        if not next(outcomes):
            raise Unreachable("nothing answers")
        yield VERDICT("good")
        yield FIGURE(1)

    async with World(Scripted(look)) as world:
        before = world.booked(families.COLLECTOR_LAST_SUCCESS)
        await world.clock.advance(60)
        assert world.shown() == {"test_verdict": UNKNOWN}
        assert world.booked(families.COLLECTOR_UP) == 0
        assert world.booked(families.COLLECTOR_ERRORS, code="unreachable") == 1
        assert world.booked(families.COLLECTOR_LAST_SUCCESS) == before
        await world.clock.advance(60)
        assert world.shown() == {"test_verdict": "good", "test_figure": 1.0}
        assert world.booked(families.COLLECTOR_UP) == 1


async def test_failure_is_logged_once_per_change_of_its_message(caplog: pytest.LogCaptureFixture) -> None:
    """Three equal failures are one line, another message is another, and recovery is said."""
    messages = iter(("down", "down", "down", "denied", None, None))

    async def look() -> AsyncIterator[Sample]:
        message = next(messages)
        if message:
            raise Unreachable(message)
        yield FIGURE(1)

    with caplog.at_level("INFO", "tallykeep.runtime.runner"):
        async with World(Scripted(look)) as world:
            await world.clock.advance(300)
    assert [record.getMessage() for record in caplog.records] == [
        "c/t failed: down",
        "c/t failed: denied",
        "c/t works again after 4 failed collections",
    ]


async def test_defect_of_a_collector_is_a_failure_with_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Any exception is a failed collection with code internal, and its traceback is in the log."""

    async def look() -> AsyncIterator[Sample]:
        yield FIGURE(1)
        raise ZeroDivisionError("oops")

    async with World(Scripted(look)) as world:
        assert world.booked(families.COLLECTOR_ERRORS, code="internal") == 1
    assert caplog.records[0].exc_info is not None


async def test_collection_that_cancels_itself_is_a_failure() -> None:
    """A cancellation from within does not end the collector's schedule."""

    async def look() -> AsyncIterator[Sample]:
        raise asyncio.CancelledError
        yield FIGURE(1)

    async with World(Scripted(look)) as world:
        await world.clock.advance(60)
        assert world.booked(families.COLLECTOR_ERRORS, code="internal") == 2


async def test_hung_connection_is_cancelled_and_tried_again() -> None:
    """A collection that waits for ever fails at its timeout, and the next tick begins a new one."""
    begun = 0

    async def look() -> AsyncIterator[Sample]:
        nonlocal begun
        begun += 1
        if begun == 2:
            await asyncio.Event().wait()
        yield VERDICT("good")

    async with World(Scripted(look)) as world:
        await world.clock.advance(69)
        assert world.shown() == {"test_verdict": "good"}
        await world.clock.advance(1)
        assert world.shown() == {"test_verdict": UNKNOWN}
        assert world.booked(families.COLLECTOR_ERRORS, code="timeout") == 1
        await world.clock.advance(50)
        assert world.shown() == {"test_verdict": "good"}


async def test_hung_thread_is_left_and_no_second_one_begun() -> None:
    """A thread that never returns: unknown at the timeout, one failure an interval, one thread, others unaffected,
    and collections go on once it has ended.
    """
    gate, begun = threading.Event(), 0

    async def look() -> AsyncIterator[Sample]:
        nonlocal begun
        begun += 1
        await in_thread(gate.wait)
        yield VERDICT("good")

    hung = Scripted(look)
    async with World(hung, Scripted(good, name="other")) as world:
        await world.clock.advance(10)
        assert world.shown() == {"test_verdict": UNKNOWN}
        assert world.booked(families.COLLECTOR_ERRORS, code="timeout") == 1
        await world.clock.advance(170)
        assert begun == 1
        assert world.booked(families.COLLECTOR_ERRORS, code="timeout") == 4
        assert world.booked(families.COLLECTOR_UP) == 0
        assert world.shown("other") == {"test_verdict": "good", "test_figure": 7.0}
        assert world.health.ready
        gate.set()
        await _until(lambda: not any(thread.name.startswith("wait-") for thread in threading.enumerate()))
        await world.clock.advance(60)
        await _until(lambda: world.shown() == {"test_verdict": "good"})
        assert begun == 2


async def test_collection_that_refuses_cancellation_is_left() -> None:
    """A collection that swallows its cancellation counts as hanging."""
    gate, begun = asyncio.Event(), 0

    async def look() -> AsyncIterator[Sample]:
        nonlocal begun
        begun += 1
        while not gate.is_set():
            with suppress(asyncio.CancelledError):
                await gate.wait()
        yield FIGURE(1)

    async with World(Scripted(look)) as world:
        await world.clock.advance(130)
        assert begun == 1
        assert world.booked(families.COLLECTOR_ERRORS, code="timeout") == 3
        gate.set()
        await world.clock.advance(60)
        assert begun == 2


async def test_stopping_does_not_wait_for_a_hung_thread() -> None:
    """Cancelling the runner returns although a collector hangs in a thread."""
    gate = threading.Event()

    async def look() -> AsyncIterator[Sample]:
        await in_thread(gate.wait)
        yield FIGURE(1)

    began = time.monotonic()
    async with World(Scripted(look)):
        pass
    gate.set()
    assert time.monotonic() - began < 60


async def test_snapshot_expires_when_the_runner_itself_stands_still() -> None:
    """Past interval + timeout + 1 s nothing of a snapshot is shown but its unknown verdict."""
    async with World(Scripted(good)) as world:
        pass
    await world.clock.advance(70)
    assert world.shown() == {"test_verdict": "good", "test_figure": 7.0}
    await world.clock.advance(1)
    assert world.shown() == {"test_verdict": UNKNOWN}


async def _until(holds: Callable[[], bool]) -> None:
    """Wait for something a real thread does."""
    while not holds():  # noqa: ASYNC110 - a thread's end sets no event
        await asyncio.sleep(0.001)
