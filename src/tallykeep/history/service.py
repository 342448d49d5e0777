"""History as the rest of the program sees it: rounds go in, figures come out, and nothing of it raises.

Every figure of the summary is held in memory, so reading it costs no query. The file is written by one thread of its
own; the event loop never waits for a disk longer than PATIENCE. What cannot be written is held (bounded, see
held.py), served from memory, and written when the file can be written again:

    cannot be opened    error says why; tried again with every round
    disk full           error says so; held rounds follow when space returns
    damaged             set aside with a date; a fresh file goes on with the lifetimes and windows known here
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from tallykeep.clock import Clock
from tallykeep.errors import Corrupt, StoreError
from tallykeep.history import recovery
from tallykeep.history.deltas import Deltas
from tallykeep.history.held import Held
from tallykeep.history.periods import Period
from tallykeep.history.purge import purge_some
from tallykeep.history.recovery import Opened
from tallykeep.history.rises import Rise, rises
from tallykeep.history.rounds import Round, Row, finite, row_of
from tallykeep.history.series import Chart, Query, chart
from tallykeep.history.store import HistoryStore
from tallykeep.history.windows import KEPT, Figure, Windows
from tallykeep.history.worker import Worker

T = TypeVar("T")

PATIENCE = 10.0  # seconds a caller waits for the disk before it goes on without
PURGE_EVERY = 3600.0  # seconds
HELD = 1440  # rounds held for the file at least; more, and rounds of one quarter of an hour are folded

_log = logging.getLogger(__name__)


class History:
    """One history: a file where it can be had, memory where not. All methods belong to the event loop."""

    name = "history"  # as a service

    def __init__(
        self,
        path: Path | None,
        *,
        zone: ZoneInfo,
        clock: Clock,
        names: Mapping[str, str] | None = None,
        gauges: frozenset[str] = frozenset(),
        retention: float = 90 * 86400.0,
        ring: int = 168,
    ) -> None:
        self.path = path
        self.error: str | None = None  # why the file is not written at present
        self.aside: Path | None = None  # where a damaged file was put
        self.damaged = 0  # files set aside since the start
        self.zone = zone
        self._clock = clock
        self._names = dict(names or {})  # tracked total -> its name on a page
        self._gauges = gauges
        self._retention = retention
        self._ring: deque[Row] = deque(maxlen=ring)
        self._held = Held(max(ring, HELD))
        self._windows = Windows(zone)
        self._lifetimes: dict[str, float] = {}
        self._deltas: dict[str, Deltas] = {}
        self._worker = Worker("history")
        self._store: HistoryStore | None = None  # the worker's
        self._news: Opened | None = None  # what stood in the file when the worker opened it
        self._job: asyncio.Future[None] | None = None  # the last writing
        self._said: str | None = None  # the error that was logged last
        self._writing = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        path: Path | None,
        *,
        zone: ZoneInfo,
        clock: Clock,
        names: Mapping[str, str] | None = None,
        gauges: frozenset[str] = frozenset(),
        retention: float = 90 * 86400.0,
        ring: int = 168,
    ) -> History:
        """The history at `path` (None: in memory). Never fails: where the file cannot be had, `error` says why.

        `names`: the tracked totals, each with its name on a page; `gauges`: those of them that are none that rise.
        `retention` in seconds. `ring`: rounds served, and held for the file, while it cannot be written.
        """
        history = cls(path, zone=zone, clock=clock, names=names, gauges=gauges, retention=retention, ring=ring)
        await history._flush()
        return history

    async def close(self) -> None:
        """Write what is held, as far as the disk answers, and let go of the file."""
        await self._flush()
        await self._patiently(self._close_store)
        self._worker.stop()

    @property
    def source(self) -> str:
        """Where figures come from: sqlite, memory, or disabled (neither)."""
        if self.path is not None and self.error is None:
            return "sqlite"
        return "memory" if self._ring.maxlen else "disabled"

    @property
    def held(self) -> int:
        """Rounds that wait to be written."""
        return len(self._held)

    def deltas(self, target: str) -> Deltas:
        """The counters of one target, as they stood when it was last scraped."""
        return self._deltas.setdefault(target, Deltas())

    async def append(self, round: Round) -> None:
        """Keep a round: at once in memory, and in the file if it can be written; if not, `error` says why."""
        round = finite(round)
        self._windows.add(round)
        for name, total in round.totals.items():
            if not total.gauge:
                self._lifetimes[name] = self._lifetimes.get(name, 0.0) + total.delta
        if round.totals:
            self._ring.append(row_of(round))
        if self.path is not None or self._ring.maxlen:
            self._held.put(round)
        await self._flush()

    def windows(self, now: float) -> dict[str, dict[str, float]]:
        """Of each tracked total {daily, weekly, monthly}: what it rose by, of a gauge its highest value."""
        figures = self._windows.read(now)
        return {name: self._of(name, figures.get(name, {})) for name in {**self._names, **figures}}

    def _of(self, name: str, figures: Mapping[Period, Figure]) -> dict[str, float]:
        nothing, part = Figure(0.0, 0.0), "highest" if name in self._gauges else "delta"
        return {period.value: getattr(figures.get(period, nothing), part) for period in Period}

    def lifetimes(self) -> dict[str, float]:
        """What each tracked counter has risen by since it was first scraped: never falls."""
        return {**{name: 0.0 for name in self._names if name not in self._gauges}, **self._lifetimes}

    async def rows(self, limit: int) -> list[Row]:
        """The newest rounds, oldest of them first."""
        if limit < 1:
            return []
        if self.source == "sqlite":
            found = await self._patiently(lambda: self._store.rows(limit) if self._store else None)
            if found is not None:
                return found
        return list(self._ring)[-limit:]

    async def series(self, query: Query) -> Chart:
        """The chart of a family or of a tracked total.

        Raises: ValueError for a query that makes no sense.
        """
        now = self._clock.time()
        found = await self._patiently(lambda: self._charted(query, now))
        return found or Chart(query.name, int(query.step), [], [])

    async def rises(self, since: float) -> list[Rise]:
        """What every kept counter rose by since a moment at which a day of the zone began."""
        found = await self._patiently(lambda: self._risen(since))
        return found or []

    async def run(self) -> None:
        """Forget what is older than retention, every hour. A service: returns only when cancelled."""
        while True:
            while await self._patiently(self._purge_some):
                await self._clock.sleep(0)
            await self._clock.sleep(PURGE_EVERY)

    # --- on the worker's thread

    def _write_held(self) -> None:
        """Write every held round, having opened the file if need be."""
        if self._store is None and self.path is not None:
            now = self._clock.time()
            self._news = recovery.open_history(self.path, self.zone, self._names, now, now - KEPT)
            self._store = self._news.store
        while self._store is not None and (round := self._held.first()) is not None:
            try:
                self._store.append(round)
            except StoreError:
                self._held.kept()
                raise
            except Exception:  # a defect in one round must not stop all that follow
                _log.exception("a round of %s cannot be kept and is left out", round.moment)
            self._held.written()

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _start_afresh(self, lifetimes: Mapping[str, float], tracked: list[tuple[int, str, float, float]]) -> Path:
        """Set the damaged file aside and open another that knows what is known here."""
        assert self.path is not None
        self._close_store()
        aside = recovery.set_aside(self.path, self._clock.time())
        self._store = HistoryStore(self.path, self.zone)
        self._store.adopt(lifetimes, tracked)
        return aside

    def _charted(self, query: Query, now: float) -> Chart:
        with self._readable() as store:
            return chart(store, query, now, self._gauges)

    def _risen(self, since: float) -> list[Rise]:
        with self._readable() as store:
            return rises(store, since)

    @contextmanager
    def _readable(self) -> Iterator[HistoryStore]:
        """The file; where it could not be opened, what is held."""
        if self._store is not None:
            yield self._store
            return
        store = HistoryStore(None, self.zone)
        try:
            for round in self._held.all():
                store.append(round)
            yield store
        finally:
            store.close()

    def _purge_some(self) -> bool:
        return self._store is not None and purge_some(self._store, self._clock.time(), self._retention)

    # --- the loop's side of the worker

    async def _flush(self) -> None:
        """Write what is held, if the file can be written, and say so if not. One at a time."""
        if self.path is None:
            return
        fresh = False
        async with self._writing:
            while True:
                try:
                    await self._write_once()
                except Corrupt as error:
                    if fresh:  # damaged again at once: the disk is bad
                        self._failed(str(error))
                    elif await self._recovered(error):
                        fresh = True
                        continue
                except StoreError as error:
                    self._failed(str(error))
                except Exception as error:
                    _log.exception("history: a defect")
                    self._failed(f"{type(error).__name__}: {error}")
                if self.error is not None or not len(self._held):
                    return

    async def _write_once(self) -> None:
        """One writing, or the end of the one that hung. Raises: StoreError."""
        if self._job is None:
            self._job = self._worker.submit(self._write_held)
        done, _ = await asyncio.wait({self._job}, timeout=PATIENCE)
        if not done:
            self._failed(f"{self.path} does not answer")
            return
        job, self._job = self._job, None
        if self._news is not None:
            self._know(self._news)
            self._news = None
        job.result()
        self._succeeded()

    def _know(self, opened: Opened) -> None:
        """Take over what stood in the file when it was opened, and what was written to it since."""
        if opened.aside is not None:
            self.aside, self.damaged = opened.aside, self.damaged + 1
        for target, (since, memories) in opened.memories.items():
            if self.deltas(target).since is None:
                self._deltas[target] = Deltas.resumed(since, memories)
        self._join(opened)

    def _join(self, opened: Opened) -> None:
        """The file's past beside what was counted here before it could be opened."""
        here = self._windows.quarters()
        sums: dict[tuple[int, str], Figure] = {}
        for quarter, name, delta, highest in [*opened.tracked, *here]:
            known = sums.get((quarter, name), Figure(0.0, highest))
            sums[quarter, name] = Figure(known.delta + delta, max(known.highest, highest))
        self._windows.fill((quarter, name, *figure) for (quarter, name), figure in sums.items())
        for name, total in opened.lifetimes.items():
            self._lifetimes[name] = self._lifetimes.get(name, 0.0) + total

    async def _recovered(self, error: Corrupt) -> bool:
        """Go on with a fresh file in place of a damaged one. Whether that worked."""
        lifetimes, tracked = self._without_held()
        try:
            self.aside = await self._worker.submit(lambda: self._start_afresh(lifetimes, tracked))
        except StoreError as failure:
            self._failed(str(failure))
            return False
        self.damaged += 1
        extra = {"aside": str(self.aside)}
        _log.error("%s. It is set aside as %s and a fresh history begins", error, self.aside, extra=extra)
        self._remember_all()
        return True

    def _without_held(self) -> tuple[dict[str, float], list[tuple[int, str, float, float]]]:
        """Lifetimes and quarters as they were before the rounds that are still to be written."""
        lifetimes = dict(self._lifetimes)
        quarters = {(quarter, name): Figure(delta, high) for quarter, name, delta, high in self._windows.quarters()}
        for round in self._held.all():
            for name, total in round.totals.items():
                if not total.gauge:
                    lifetimes[name] -= total.delta
                    key = (round.quarter, name)
                    quarters[key] = quarters[key]._replace(delta=quarters[key].delta - total.delta)
        return lifetimes, [(quarter, name, *figure) for (quarter, name), figure in quarters.items()]

    def _remember_all(self) -> None:
        """Have every counter's last value written to the fresh file."""
        known = {target: deltas for target, deltas in self._deltas.items() if deltas.since is not None}
        memories = {target: deltas.memories() for target, deltas in known.items()}
        since = {target: deltas.since or 0.0 for target, deltas in known.items()}
        self._held.put(Round(self._clock.time(), memories=memories, since=since))

    async def _patiently(self, job: Callable[[], T]) -> T | None:
        """What a job of the worker returns; None where it fails or takes too long. Raises: ValueError."""
        future = self._worker.submit(job)
        done, _ = await asyncio.wait({future}, timeout=PATIENCE)
        if not done:
            return None
        try:
            return future.result()
        except StoreError as error:
            _log.warning("history: %s", error)
            return None

    def _failed(self, error: str) -> None:
        self.error = error
        if error != self._said:
            _log.warning("history: %s; going on in memory", error)
        self._said = error

    def _succeeded(self) -> None:
        if self._said is not None:
            _log.info("history is written again")
        self.error = self._said = None
