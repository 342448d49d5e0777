"""Samples as JSON-ready objects, for `tallykeep metrics show` and /status.

Numbers that JSON cannot spell are the strings a page would show: "NaN", "+Inf", "-Inf". Ages are reckoned as on
a page. Encoding is left to the caller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import accumulate

from tallykeep.exposition.lexical import go_float
from tallykeep.exposition.page import grouped
from tallykeep.metrics import Distribution, Family, Sample

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def families_as_json(samples: Iterable[Sample], now: float) -> list[Json]:
    """One object a family: name, type, unit, help and samples; `now` in Unix seconds."""
    return [
        {**family_as_json(family), "samples": [sample_as_json(sample, now) for sample in group]}
        for family, group in grouped(samples).items()
    ]


def family_as_json(family: Family) -> dict[str, Json]:
    """What a family is, without samples."""
    return {
        "name": family.name,
        "type": family.kind.value,
        "unit": family.unit.suffix.rpartition("_")[2],
        "labels": list(family.labels),
        "help": family.help,
    }


def sample_as_json(sample: Sample, now: float) -> dict[str, Json]:
    """Labels and value: a number, the name of a state, or {"buckets": {"0.1": count, ...}, "count", "sum"}."""
    return {"labels": labels_as_json(sample), "value": _value(sample, now)}


def labels_as_json(sample: Sample) -> dict[str, Json]:
    """Label values by name."""
    return dict(zip(sample.family.labels, sample.labels, strict=True))


def _value(sample: Sample, now: float) -> Json:
    value = sample.value
    if isinstance(value, Distribution):
        return _distribution(sample.family, value)
    if isinstance(value, str):
        return value
    return number_as_json(sample.family.shown(value, now))


def _distribution(family: Family, seen: Distribution) -> Json:
    bounds = [*(go_float(float(bound)) for bound in family.buckets), "+Inf"]
    running: list[Json] = list(accumulate(seen.counts))
    buckets: Json = dict(zip(bounds, running, strict=True))
    return {"buckets": buckets, "count": running[-1], "sum": number_as_json(seen.total)}


def number_as_json(value: float) -> Json:
    """The number, whole ones without a point; "NaN", "+Inf" and "-Inf" as strings."""
    if not math.isfinite(value):
        return go_float(value)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
