"""Windows: what each tracked total rose by today, this week and this month, ready to be read at any moment.

The sums are carried along with every round. They are reckoned anew from quarters of an hour where a period begins,
and where the clock steps back into an earlier one. Not the file: it is filled from there when the history is opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tallykeep.history.periods import Period, begin
from tallykeep.history.rounds import Round

KEPT = 33 * 86400  # seconds of quarters; a month and a step of the clock


class Figure(NamedTuple):
    """One tracked total over some time."""

    delta: float  # what it rose by
    highest: float  # the highest value seen


class Windows:
    """Sums since the beginning of each period."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._quarters: dict[int, dict[str, Figure]] = {}  # Unix seconds -> name -> figure
        self._sums: dict[Period, tuple[float, dict[str, Figure]]] = {}  # when it began, and the sums since

    def fill(self, quarters: Iterable[tuple[int, str, float, float]]) -> None:
        """Put (quarter, name, delta, highest) of the past in place of everything known."""
        self._quarters.clear()
        self._sums.clear()
        for quarter, name, delta, highest in quarters:
            self._quarters.setdefault(quarter, {})[name] = Figure(delta, highest)

    def add(self, round: Round) -> None:
        """Count a round."""
        figures = {name: Figure(0.0 if t.gauge else t.delta, t.value) for name, t in round.totals.items()}
        quarter = self._quarters.get(round.quarter)
        if quarter is None:
            quarter = self._quarters[round.quarter] = {}
            self._forget(round.moment - KEPT)
        _add(quarter, figures)
        for since, sums in self._sums.values():
            if round.quarter >= since:
                _add(sums, figures)

    def read(self, now: float) -> dict[str, dict[Period, Figure]]:
        """Of each tracked total its figure in every period that runs at `now`."""
        found: dict[str, dict[Period, Figure]] = {}
        for period in Period:
            for name, figure in self._since_begin(period, now).items():
                found.setdefault(name, {})[period] = figure
        return found

    def quarters(self) -> list[tuple[int, str, float, float]]:
        """What `fill` takes."""
        return [(quarter, name, *figure) for quarter, names in self._quarters.items() for name, figure in names.items()]

    def _since_begin(self, period: Period, now: float) -> Mapping[str, Figure]:
        since = begin(period, now, self._zone)
        known = self._sums.get(period)
        if known is not None and known[0] == since:
            return known[1]
        sums: dict[str, Figure] = {}
        for quarter, figures in self._quarters.items():
            if quarter >= since:
                _add(sums, figures)
        self._sums[period] = (since, sums)
        return sums

    def _forget(self, oldest: float) -> None:
        for quarter in [quarter for quarter in self._quarters if quarter < oldest]:
            del self._quarters[quarter]


def _add(sums: dict[str, Figure], figures: Mapping[str, Figure]) -> None:
    for name, (delta, highest) in figures.items():
        known = sums.get(name)
        sums[name] = Figure(known.delta + delta, max(known.highest, highest)) if known else Figure(delta, highest)
