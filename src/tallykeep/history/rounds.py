"""Rounds: what one round of scrapes brings to the history, and how two of them become one.

While the history file cannot be written, rounds are held; when there are too many, neighbours are folded into one.
A fold loses resolution in time and nothing else: increases add up, and the later values stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import NamedTuple

from tallykeep.history.deltas import Memory, Series

QUARTER = 900  # seconds; no zone of today is off UTC by a smaller part of an hour


class Point(NamedTuple):
    """One kept series of one target at one scrape."""

    target: str
    series: Series
    value: float
    delta: float  # 0 for the first look; the change, for a gauge
    gauge: bool = False


class Total(NamedTuple):
    """One tracked total of a round."""

    value: float  # as it stands on the pages, summed over series and targets
    delta: float  # what it rose by; for a gauge its change
    gauge: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    """Everything one round of scrapes brings."""

    moment: float  # Unix seconds
    totals: Mapping[str, Total] = field(default_factory=dict)
    is_reset: bool = False
    source: str = ""
    points: Sequence[Point] = ()
    memories: Mapping[str, Sequence[Memory]] = field(default_factory=dict)  # target -> those that changed
    since: Mapping[str, float] = field(default_factory=dict)  # target -> Unix seconds of its first scrape

    @property
    def quarter(self) -> int:
        """Unix seconds at which its quarter of an hour began."""
        return quarter_of(self.moment)


class Row(NamedTuple):
    """A round as it is read back."""

    moment: float
    is_reset: bool
    totals: Mapping[str, tuple[float, float]]  # name -> value, delta


def quarter_of(moment: float) -> int:
    """Unix seconds at which a moment's quarter of an hour began."""
    return int(moment // QUARTER) * QUARTER


def row_of(round: Round) -> Row:
    """What is read back of a round."""
    return Row(round.moment, round.is_reset, {name: (t.value, t.delta) for name, t in round.totals.items()})


def finite(round: Round) -> Round:
    """The round without what can neither be summed nor drawn: figures that are infinite or not a number."""
    totals = {name: t for name, t in round.totals.items() if isfinite(t.value) and isfinite(t.delta)}
    points = [p for p in round.points if isfinite(p.value) and isfinite(p.delta)]
    return Round(round.moment, totals, round.is_reset, round.source, points, round.memories, round.since)


def fold(first: Round, then: Round) -> Round:
    """Two rounds as one, at the moment of the later."""
    totals = dict(first.totals)
    for name, total in then.totals.items():
        earlier = totals.get(name)
        totals[name] = total if earlier is None else total._replace(delta=earlier.delta + total.delta)
    points = {(p.target, p.series): p for p in first.points}
    for point in then.points:
        key = (point.target, point.series)
        known = points.get(key)
        points[key] = point if known is None else point._replace(delta=known.delta + point.delta)
    return Round(
        then.moment,
        totals,
        first.is_reset or then.is_reset,
        then.source or first.source,
        list(points.values()),
        _folded_memories(first, then),
        {**then.since, **first.since},
    )


def _folded_memories(first: Round, then: Round) -> dict[str, list[Memory]]:
    folded: dict[str, list[Memory]] = {}
    for target in {**first.memories, **then.memories}:
        both = [*first.memories.get(target, ()), *then.memories.get(target, ())]
        folded[target] = list({(m.series, m.created): m for m in both}.values())
    return folded
