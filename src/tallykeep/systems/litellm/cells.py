"""Cells: what groups of spend-log rows add up to.

A cell is the sum over the rows of one stretch of time that share one set of labels on one axis. Money is kept in
whole nano-dollars, so that adding and taking away for a month leaves neither dust nor drift. Stretches are
minutes, hours or days, in UTC, by `startTime`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple

NANO = 1_000_000_000  # nano-dollars in a dollar
MICRO = 1_000_000  # microseconds in a second
_new = tuple.__new__  # a named tuple's own constructor costs a call more


class Axis(IntEnum):
    """What rows are summed by. The number stands in ledgers: append, never renumber."""

    MODEL = 0  # model, provider, status, error_type
    USER = 1  # user_id, model
    TEAM = 2  # team_id, model
    ORGANIZATION = 3  # organization_id, model
    KEY = 4  # hash of the key
    TAG = 5  # request tag
    DURATION = 6  # model, index of the histogram bucket
    DETAIL = 7  # model, type of token that metadata tells apart; counted in total_tokens


class Series(NamedTuple):
    """One set of labels on one axis."""

    axis: Axis
    labels: tuple[str, ...]


class Sums(NamedTuple):
    """What the rows of a cell add up to. Plain integers: they add and subtract exactly."""

    requests: int = 0
    spend: int = 0  # nano-dollars
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    duration: int = 0  # microseconds

    # Written out: these run for every cell that changed, and a comprehension costs four times as much.

    def plus(self, other: Sums) -> Sums:
        a, b, c, d, e, f, g, h = self
        i, j, k, m, n, o, p, q = other
        return _new(Sums, (a + i, b + j, c + k, d + m, e + n, f + o, g + p, h + q))

    def minus(self, other: Sums) -> Sums:
        a, b, c, d, e, f, g, h = self
        i, j, k, m, n, o, p, q = other
        return _new(Sums, (a - i, b - j, c - k, d - m, e - n, f - o, g - p, h - q))

    def peak(self, other: Sums) -> Sums:
        """The larger of the two, sum by sum: what a counter has seen of a cell."""
        return self if other == self else Sums(*map(max, self, other))


ZERO = Sums()
Cells = dict[Series, Sums]


def add(into: Cells, series: Series, sums: Sums) -> None:
    """Raise one cell."""
    into[series] = into[series].plus(sums) if series in into else sums


def total(parts: Iterable[Mapping[Series, Sums]]) -> Cells:
    """Several stretches as one."""
    result: Cells = {}
    for part in parts:
        for series, sums in part.items():
            add(result, series, sums)
    return result


def peaks(old: Mapping[Series, Sums], new: Mapping[Series, Sums]) -> Cells:
    """The highest each cell has ever been, given what it was and what it is."""
    result = dict(old)
    for series, sums in new.items():
        result[series] = result[series].peak(sums) if series in result else sums
    return result


def difference(new: Mapping[Series, Sums], old: Mapping[Series, Sums]) -> Cells:
    """What must be added to `old` to make `new`; cells that did not change are left out."""
    result = {series: sums.minus(old.get(series, ZERO)) for series, sums in new.items() if old.get(series) != sums}
    for series, sums in old.items():
        if series not in new:
            result[series] = ZERO.minus(sums)
    return result


class Check(NamedTuple):
    """A fingerprint of the rows of an hour: cheap to read again, different when a row came or went."""

    rows: int
    spend: int  # nano-dollars
    tokens: int

    def agrees(self, other: Check) -> bool:
        """Equal, but for the last digits in which sums of floats may differ with the order of their terms."""
        return (
            self.rows == other.rows
            and self.tokens == other.tokens
            and abs(self.spend - other.spend) <= 1000 + abs(self.spend) // NANO
        )
