"""The sources of a target: how the last reading of each went, and what it saw.

Each target has up to two: its local LTX folder and its replica. Whoever judges from both waits for a reading that
is going on, and never for longer than that reading may take. The ledger keeps the three published figures that
speak of scrapes as a whole; they are facts about the past, so they stay when a source fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from tallykeep.clock import Clock
from tallykeep.metrics import Book
from tallykeep.systems.litestream import families

LOCAL, REMOTE = "local", "remote"

T = TypeVar("T")


class Source(Generic[T]):
    """What readings of one thing show, for those who wait for it. Lives on the event loop."""

    def __init__(self, clock: Clock, interval: float, timeout: float, ledger: Entry | None = None) -> None:
        self.timeout = timeout
        self._clock = clock
        self._entry = ledger
        self._keeps = interval + timeout + 1.0  # seconds a view is believed after its reading began
        self._view: T | None = None
        self._since = 0.0  # monotonic: when the reading began that gave the view
        self._idle = asyncio.Event()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around one reading. One that raises, or is cancelled for taking too long, takes the last view away."""
        started, taken = self._clock.monotonic(), self._clock.time()
        self._idle.clear()
        try:
            yield
        except BaseException:
            self._view = None
            if self._entry is not None:
                self._entry.failed(self._clock.monotonic() - started)
            raise
        else:
            self._since = started
            if self._entry is not None:
                self._entry.succeeded(taken, self._clock.monotonic() - started)
        finally:
            self._idle.set()

    def saw(self, view: T | None) -> None:
        """Keep what the reading shows."""
        self._view = view

    async def settled(self) -> T | None:
        """The view, once a reading that goes on has ended; None where it failed, or the last one is too old."""
        try:
            async with asyncio.timeout(self.timeout + 1.0):
                await self._idle.wait()
        except TimeoutError:
            return None
        return self.view

    @property
    def view(self) -> T | None:
        """What the last reading saw; None where it failed or is too old."""
        if self._clock.monotonic() > self._since + self._keeps:
            self._view = None
        return self._view


class Ledger:
    """When every source was last read, how long the readings took, how many failed."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._entries: list[Entry] = []
        book.set(families.LAST_SCRAPE, 0.0)
        book.set(families.SCRAPE_DURATION, 0.0)
        for kind in (LOCAL, REMOTE):
            book.add(families.SCRAPE_ERRORS, 0, source=kind)

    def entry(self, kind: str) -> Entry:
        """Expect readings of one more source: no scrape is complete without it."""
        self._entries.append(Entry(self, kind))
        return self._entries[-1]

    def update(self) -> None:
        """Put the figures into the book."""
        if all(entry.sound for entry in self._entries):
            self._book.set(families.LAST_SCRAPE, min(entry.taken for entry in self._entries))
        self._book.set(families.SCRAPE_DURATION, max(entry.seconds for entry in self._entries))

    def error(self, kind: str) -> None:
        """Count a failed reading."""
        self._book.add(families.SCRAPE_ERRORS, 1, source=kind)


class Entry:
    """The line of one source in the ledger."""

    def __init__(self, ledger: Ledger, kind: str) -> None:
        self.sound = False  # whether the last reading showed everything
        self.taken = 0.0  # Unix seconds at which the last sound one began
        self.seconds = 0.0  # of the last one
        self._ledger = ledger
        self._kind = kind

    def succeeded(self, taken: float, seconds: float) -> None:
        """A reading that began at `taken` has shown everything."""
        self.sound, self.taken, self.seconds = True, taken, seconds
        self._ledger.update()

    def failed(self, seconds: float) -> None:
        """A reading failed, or showed only a part."""
        self.sound, self.seconds = False, seconds
        self._ledger.error(self._kind)
        self._ledger.update()
