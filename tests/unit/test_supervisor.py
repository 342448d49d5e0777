from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random

from tests.support.clock import FakeClock

from tallykeep.errors import Unreachable
from tallykeep.metrics import Book, Family
from tallykeep.runtime import families
from tallykeep.runtime.backoff import Backoff
from tallykeep.runtime.health import Health
from tallykeep.runtime.supervisor import Supervisor


class Flaky:
    """A service that fails after each of `lives` seconds and then stays."""

    name = "flaky"

    def __init__(self, clock: FakeClock, *lives: float, error: BaseException | None = None) -> None:
        self.clock = clock
        self.lives = list(lives)
        self.error = error
        self.starts: list[float] = []
        self.stopped = False

    async def run(self) -> None:
        self.starts.append(self.clock.monotonic() - 1000)
        try:
            await self.clock.sleep(self.lives.pop(0) if self.lives else 1e9)
        except asyncio.CancelledError:
            self.stopped = True
            raise
        if self.error:
            raise self.error


class NoLuck(Random):
    def random(self) -> float:
        return 0.0


def supervisor(clock: FakeClock, book: Book) -> Supervisor:
    return Supervisor(book, clock, lambda: Backoff(1, 8, NoLuck()))


def gauge(book: Book, family: Family) -> object:
    return {sample.labels[0]: sample.value for sample in book.read() if sample.family is family}["flaky"]


async def test_failing_service_is_restarted_ever_more_slowly() -> None:
    """Delays double up to the longest; a minute of steady running makes them begin anew."""
    clock, book = FakeClock(), Book()
    service = Flaky(clock, 0, 0, 0, 0, 0, 60, 0, error=ValueError("defect"))
    keeper = supervisor(clock, book)
    keeper.start([service])
    await clock.advance(200)
    assert service.starts == [0, 1, 3, 7, 15, 23, 84, 86]
    assert gauge(book, families.SERVICE_RESTARTS) == 7
    assert gauge(book, families.SERVICE_UP) == 1
    await keeper.stop()
    assert service.stopped


async def test_a_service_that_fails_when_it_is_stopped_is_not_started_again() -> None:
    """Its failure may hide the order to stop: a TaskGroup of Python 3.11 that ends its tasks takes none."""

    class Failing:
        name = "flaky"

        async def run(self) -> None:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            raise Unreachable("down")

    clock, book = FakeClock(), Book()
    keeper = supervisor(clock, book)
    keeper.start([Failing()])
    await clock.advance(1)
    await asyncio.wait_for(keeper.stop(3600), 60)
    assert gauge(book, families.SERVICE_RESTARTS) == 0


async def test_error_says_how_long_to_wait() -> None:
    """An error's `retry` is the least delay."""
    clock, book = FakeClock(), Book()
    service = Flaky(clock, 0, error=Unreachable("down", retry=30))
    keeper = supervisor(clock, book)
    keeper.start([service])
    await clock.advance(29)
    assert gauge(book, families.SERVICE_UP) == 0
    await clock.advance(1)
    assert service.starts == [0, 30]
    await keeper.stop()


async def test_service_that_returns_has_failed() -> None:
    """Returning is not stopping: it is started again."""
    clock, book = FakeClock(), Book()
    service = Flaky(clock, 5)
    keeper = supervisor(clock, book)
    keeper.start([service])
    await clock.advance(10)
    assert service.starts == [0, 6]
    await keeper.stop()


async def test_service_that_cancels_itself_has_failed() -> None:
    """A cancellation that nobody ordered does not end the supervision."""
    clock, book = FakeClock(), Book()
    service = Flaky(clock, 5, error=asyncio.CancelledError())
    keeper = supervisor(clock, book)
    keeper.start([service])
    await clock.advance(10)
    assert service.starts == [0, 6]
    await keeper.stop()


async def test_stop_is_bounded() -> None:
    """A service that swallows its cancellation is left after the grace."""
    release = asyncio.Event()

    class Stubborn:
        name = "stubborn"

        async def run(self) -> None:
            while not release.is_set():
                with suppress(asyncio.CancelledError):
                    await release.wait()

    keeper = supervisor(FakeClock(), Book())
    keeper.start([Stubborn()])
    await asyncio.sleep(0)
    await asyncio.wait_for(keeper.stop(grace=0.01), 60)
    release.set()


def test_backoff_is_spread_at_random() -> None:
    """A delay lies between a half and the whole of its step."""
    delays = [Backoff(4, 60, Random(seed)).delay() for seed in range(200)]
    assert all(2 <= delay <= 4 for delay in delays)
    assert max(delays) - min(delays) > 1.5


def test_ready_when_everything_expected_was_reported() -> None:
    """Parts may be reported before or after they are expected; ready needs all of them."""
    health = Health()
    health.report("listener")
    health.expect("listener")
    health.expect("first look")
    assert health.waiting == ("first look",)
    assert not health.ready
    health.report("first look")
    health.expect("first look")
    assert health.ready
