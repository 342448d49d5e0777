"""Samples: one value of one family under one set of label values."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tallykeep.metrics.family import Family


class Exemplar(NamedTuple):
    """One observation that stands for its bucket. Shown in OpenMetrics only."""

    labels: tuple[tuple[str, str], ...]
    value: float
    timestamp: float | None = None  # Unix seconds


class Distribution(NamedTuple):
    """What a histogram has counted: observations per bucket (not cumulative; the last is +Inf) and their sum."""

    counts: tuple[int, ...]
    total: float
    exemplars: tuple[Exemplar | None, ...] = ()  # one a bucket, or none at all


class Sample(NamedTuple):
    """A value of `family`. Made by calling the family, which checks it."""

    family: Family
    labels: tuple[str, ...]  # values, in the order of family.labels
    value: float | str | Distribution  # str: the state of a state set
