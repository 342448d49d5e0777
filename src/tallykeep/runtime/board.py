"""The Board: the latest snapshot of every collector and target, and what may be believed of it right now.

Nothing goes stale in green. A snapshot past its `valid_until`, and one whose collector has failed, is shown in its
silent form: its plain samples are withdrawn and its state sets say unknown. This is checked at every read, on the
monotonic clock, so a collector that hangs shows as surely as one that fails.

Changes come from one thread (the event loop); reading is safe from any. Figures derived from several snapshots are
reckoned by the first reader that needs them, once per change of their inputs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from threading import RLock
from typing import NamedTuple

from tallykeep.clock import Clock
from tallykeep.metrics import FOREVER, Book, Catalogue, Sample, Snapshot
from tallykeep.runtime.work import Derived

BOOK_EVERY = 1.0  # seconds between two readings of the Book for pages: it may change a thousand times in one

_log = logging.getLogger(__name__)


class View(NamedTuple):
    """What the Board shows until something changes; the same object comes back for as long as nothing does."""

    snapshots: tuple[Snapshot, ...]  # collectors in order of first appearance, then derived ones, then the Book


class _Place:
    """The place of one collector and target."""

    __slots__ = ("latest", "shown")

    def __init__(self, snapshot: Snapshot) -> None:
        self.latest = snapshot
        self.shown = snapshot

    @property
    def believed(self) -> bool:
        return self.shown is self.latest

    @property
    def announced(self) -> bool:
        """Nothing was ever collected here."""
        return self.latest.valid_until == -FOREVER

    def silence(self) -> None:
        if self.believed:
            self.shown = self.latest.silent()


class _Sum:
    """A Derived with its last result."""

    def __init__(self, work: Derived) -> None:
        self.work = work
        self._inputs: tuple[Snapshot, ...] = ()  # what the result was reckoned from
        self._result: Snapshot | None = None
        self._silent: Snapshot | None = None  # of the last result there was

    def shown(self, places: Sequence[_Place | None]) -> Snapshot | None:
        """The result, its silent form while an input is not to be believed, or None before there was any."""
        there = [place for place in places if place is not None and not place.announced]
        if len(there) < len(places):
            return self._silent
        latest = tuple(place.latest for place in there)
        if latest != self._inputs:
            self._reckon(latest)
        return self._result if self._result and all(place.believed for place in there) else self._silent

    def _reckon(self, inputs: tuple[Snapshot, ...]) -> None:
        self._inputs, self._result = inputs, None
        try:
            samples = tuple(self.work.derive(inputs))
        except Exception:  # whatever it was: a wrong sum must neither be shown nor take the page down
            _log.exception("cannot derive %s of %s: its figures are withdrawn", self.work.collector, self.work.target)
            return
        taken, until = min(s.taken for s in inputs), min(s.valid_until for s in inputs)
        self._result = Snapshot(self.work.collector, self.work.target, samples, taken, until)
        self._silent = self._result.silent()


class Board:
    """One snapshot per (collector, target), swapped whole."""

    def __init__(self, catalogue: Catalogue, book: Book, clock: Clock) -> None:
        self.catalogue = catalogue
        self._book = book
        self._clock = clock
        self._lock = RLock()
        self._places: dict[tuple[str, str], _Place] = {}
        self._sums: list[_Sum] = []
        self._view: View | None = None
        self._expiry = FOREVER  # monotonic; no believed snapshot expires before it
        self._booked: Snapshot | None = None
        self._book_version = 0
        self._book_read = -FOREVER

    def announce(self, collector: str, target: str, verdicts: Sequence[Sample]) -> None:
        """Show the verdicts a collector answers for, as unknown, before it has collected anything."""
        self.publish(Snapshot(collector, target, tuple(verdicts), self._clock.time(), valid_until=-FOREVER))

    def publish(self, snapshot: Snapshot) -> None:
        """Put a snapshot in the place of the last one from its collector and target."""
        with self._lock:
            key = (snapshot.collector, snapshot.target)
            self._places[key] = _Place(snapshot)
            self._expiry = min(self._expiry, snapshot.valid_until)
            self._view = None

    def fail(self, collector: str, target: str) -> None:
        """Show the last snapshot in its silent form: its collector has failed, or hangs."""
        with self._lock:
            place = self._places.get((collector, target))
            if place is not None and place.believed:
                place.silence()
                self._view = None

    def drop(self, collector: str, target: str) -> None:
        """Forget a target that is no longer watched, its verdicts included."""
        with self._lock:
            self._places.pop((collector, target), None)
            self._view = None

    def derive(self, work: Derived) -> None:
        """Show what `work` reckons from its inputs, from the moment all of them are there."""
        with self._lock:
            self._sums.append(_Sum(work))
            self._view = None

    def view(self) -> View:
        """What is to be shown right now. May reckon derived figures: call it off the event loop."""
        with self._lock:
            now = self._clock.monotonic()
            self._expire(now)
            self._read_book(now)
            if self._view is None:
                book = [self._booked] if self._booked else []
                self._view = View((*self._believed(), *book))
            return self._view

    def is_current(self, view: View) -> bool:
        """Whether `view` is still what `view()` would return. Cheap, and never waits."""
        now = self._clock.monotonic()
        return view is self._view and now < self._expiry and not self._book_due(now)

    def snapshots(self) -> list[Snapshot]:
        """Every snapshot as it may be believed right now, without the Book."""
        with self._lock:
            self._expire(self._clock.monotonic())
            return list(self._believed())

    def believed(self) -> dict[tuple[str, str], bool]:
        """Whether the last snapshot of each collector and target may be believed right now."""
        with self._lock:
            self._expire(self._clock.monotonic())
            return {key: place.believed for key, place in self._places.items()}

    def samples(self) -> Iterator[Sample]:
        """Every sample that may be believed right now, then those of the Book as it stands."""
        for snapshot in self.snapshots():
            yield from snapshot.samples
        yield from self._book.read()

    def _believed(self) -> Iterator[Snapshot]:
        for place in self._places.values():
            yield place.shown
        for figure in self._sums:
            shown = figure.shown([self._places.get(key) for key in figure.work.inputs])
            if shown is not None:
                yield shown

    def _expire(self, now: float) -> None:
        if now < self._expiry:
            return
        for place in self._places.values():
            if now >= place.latest.valid_until:
                place.silence()
        self._expiry = min((p.latest.valid_until for p in self._places.values() if p.believed), default=FOREVER)
        self._view = None

    def _book_due(self, now: float) -> bool:
        return self._book.version != self._book_version and now >= self._book_read + BOOK_EVERY

    def _read_book(self, now: float) -> None:
        if not self._book_due(now):
            return
        self._book_version = self._book.version  # before reading: what changes meanwhile is read next time
        self._book_read = now
        self._booked = Snapshot("tallykeep", "", self._book.read(), self._clock.time())
        self._view = None
