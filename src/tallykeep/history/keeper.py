"""Keeps the history of families of the program's own page, those listed under `history: keep:`.

Looks at the Board as a scrape would, at an even pace: what is not believed at that moment leaves a gap. Counters are
kept with what they rose by, gauges and states (1 or 0 for each) with their value, histograms as count and sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from typing import NamedTuple

from tallykeep.clock import Clock
from tallykeep.errors import ConfigError
from tallykeep.exposition.parse import Series, series_of
from tallykeep.history.deltas import Counter
from tallykeep.history.rounds import Point, Round
from tallykeep.history.service import History
from tallykeep.metrics import Catalogue, Distribution, Kind, Sample
from tallykeep.runtime.board import Board

TARGET = "tallykeep"  # of every kept series


class _Reading(NamedTuple):
    series: Series
    value: float
    rises: bool


class Keeper:
    """A service: one round of the kept families an interval."""

    name = "history-keeper"

    def __init__(self, history: History, board: Board, keep: Sequence[str], interval: float, clock: Clock) -> None:
        """Raises: ConfigError for a family that there is not."""
        self._history = history
        self._board = board
        self._keep = frozenset(keep)
        self._interval = interval
        self._clock = clock
        self._values: dict[Series, float] = {}  # of gauges, at the last look
        check_names(keep, board.catalogue)

    async def run(self) -> None:
        """Keep rounds until cancelled."""
        due = self._clock.monotonic()
        while True:
            await self._history.append(self.round(self._clock.time()))
            late = self._clock.monotonic() - due
            due += self._interval * max(1, ceil(late / self._interval))
            await self._clock.sleep(due - self._clock.monotonic())

    def round(self, now: float) -> Round:
        """What the Board shows of the kept families."""
        readings = {r.series: r for s in self._board.samples() if s.family.name in self._keep for r in _read(s, now)}
        counters = [Counter(r.series, r.value) for r in readings.values() if r.rises]
        deltas = self._history.deltas(TARGET)
        changes, memories = deltas.take(counters, now)
        points = [Point(TARGET, d.series, readings[d.series].value, d.amount) for d in changes]
        gauges = {r.series: r.value for r in readings.values() if not r.rises}
        points += [Point(TARGET, s, v, v - self._values.get(s, v), gauge=True) for s, v in gauges.items()]
        self._values = gauges
        return Round(now, points=points, memories={TARGET: memories}, since={TARGET: deltas.since or now})


def check_names(keep: Iterable[str], catalogue: Catalogue) -> None:
    """Raises: ConfigError for names of `history: keep:` that no family has."""
    known = {family.name for family in catalogue}
    problems = [
        f"history: keep: there is no family {name!r}; /metrics lists them" for name in keep if name not in known
    ]
    if problems:
        raise ConfigError(*problems)


def _read(sample: Sample, now: float) -> Iterator[_Reading]:
    family, value = sample.family, sample.value
    labels = dict(zip(family.labels, sample.labels, strict=True))
    if isinstance(value, Distribution):
        yield _Reading(series_of(f"{family.name}_count", labels), float(sum(value.counts)), rises=True)
        yield _Reading(series_of(f"{family.name}_sum", labels), value.total, rises=True)
    elif isinstance(value, str):
        for state in family.states:
            yield _Reading(series_of(family.name, {**labels, family.name: state}), float(state == value), rises=False)
    else:
        rises = family.kind is Kind.COUNTER
        yield _Reading(series_of(family.name, labels), family.shown(value, now), rises)
