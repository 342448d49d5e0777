"""Readings of sources, what is kept of them and for how long, and the published figures about scrapes."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.clock import START, FakeClock, settle

from tallykeep.metrics import Book
from tallykeep.systems.litestream import families
from tallykeep.systems.litestream.sources import LOCAL, REMOTE, Ledger, Source


class Figures:
    """Two sources in one ledger, and what the book says of them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.book = Book()
        ledger = Ledger(self.book)
        self.local = Source[str](self.clock, 60.0, 10.0, ledger.entry(LOCAL))
        self.remote = Source[str](self.clock, 60.0, 10.0, ledger.entry(REMOTE))

    def value(self, family: object, *labels: str) -> object:
        return next(sample.value for sample in self.book.read() if sample[:2] == (family, labels))

    @property
    def last(self) -> object:
        return self.value(families.LAST_SCRAPE)

    def errors(self, source: str) -> object:
        return self.value(families.SCRAPE_ERRORS, source)

    async def read(self, source: Source[str], seconds: float = 0.0) -> None:
        with source.reading():
            await self.clock.advance(seconds)
            source.saw("seen")


def test_before_anything_is_read() -> None:
    """Errors of both sources and the timestamp are on the page from the start, at 0."""
    figures = Figures()
    assert (figures.last, figures.errors(LOCAL), figures.errors(REMOTE)) == (0, 0, 0)


async def test_a_scrape_is_complete_when_every_source_was_read() -> None:
    """The timestamp is that of the earliest reading: everything on the page is at least as new."""
    figures = Figures()
    await figures.read(figures.local, 2.0)
    assert figures.last == 0
    await figures.read(figures.remote, 3.0)
    assert figures.last == START
    await figures.read(figures.local)
    assert figures.last == START + 2
    assert figures.value(families.SCRAPE_DURATION) == 3


async def test_a_failure_leaves_the_timestamp_and_takes_the_view() -> None:
    """Until the failed source is read again, successes of the other move nothing."""
    figures = Figures()
    await figures.read(figures.local)
    await figures.read(figures.remote)
    await figures.clock.advance(60)
    with pytest.raises(OSError, match="gone"), figures.remote.reading():
        raise OSError("gone")
    await figures.read(figures.local)
    assert (figures.last, figures.errors(REMOTE), figures.errors(LOCAL)) == (START, 1, 0)
    assert (figures.remote.view, figures.local.view) == (None, "seen")
    await figures.read(figures.remote)
    assert figures.last == START + 60


async def test_a_reading_cut_short_has_failed() -> None:
    """A reading that is cancelled, as the runner does after the timeout, counts as an error."""
    figures = Figures()

    async def hang() -> None:
        with figures.local.reading():
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert figures.errors(LOCAL) == 1


async def test_a_view_is_not_believed_for_ever() -> None:
    """It outlives the next reading by its timeout and a second, and no more."""
    figures = Figures()
    await figures.read(figures.local)
    await figures.clock.advance(71)
    assert figures.local.view == "seen"
    await figures.clock.advance(1)
    assert figures.local.view is None


async def test_whoever_judges_waits_for_a_reading_that_goes_on() -> None:
    """`settled` gives what the reading under way sees, not what the one before has seen."""
    figures = Figures()
    end = asyncio.Event()

    async def read() -> None:
        with figures.local.reading():
            await end.wait()
            figures.local.saw("new")

    reading = asyncio.create_task(read())
    await settle()
    waiting = asyncio.create_task(figures.local.settled())
    await settle()
    assert not waiting.done()
    end.set()
    assert await waiting == "new"
    await reading


async def test_nobody_waits_longer_than_a_reading_may_take() -> None:
    """A source that is never read is unknown after its timeout, and a second."""
    source = Source[str](FakeClock(), 60.0, -0.99)
    assert await source.settled() is None
