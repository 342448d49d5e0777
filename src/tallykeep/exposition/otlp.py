"""Snapshots as what OpenTelemetry's own exporters take: MetricsData, in portions a receiver accepts.

The SDK's instruments are not used: they keep 2,000 series an instrument and drop the rest without a word. Names and
units are such that the standard translation of OTLP to Prometheus gives the family's own name back: a family keeps
its whole name (so it is right as well where nothing is translated), and where that name does not end with its unit,
the unit is an annotation in braces, which adds nothing.

A state set becomes a gauge with one point a state. Sums and histograms are cumulative, and since many of them outlive
a restart their start is left at 0, which OTLP reads as unknown. A point is dated at the moment of the export, as a
scrape is.
Source: OpenTelemetry, Metrics Data Model; Prometheus and OpenMetrics Compatibility.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from opentelemetry.sdk.metrics import Exemplar as OtelExemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from tallykeep.exposition.page import grouped
from tallykeep.metrics import Distribution, Exemplar, Family, Kind, Sample, Snapshot

MOST = 2000  # points in one portion: 1 MB or so, where gRPC receivers refuse more than 4 MiB
_WORDS = {"By": "bytes", "s": "seconds", "%": "percent", "1": "ratio"}  # what the translation adds for a unit
_NOTE = re.compile(r"\{[^{}]*\}")
_CUMULATIVE = AggregationTemporality.CUMULATIVE
_POINTS_OF_A_BUCKET = 0.25  # what a bucket weighs beside a point
_NANOSECONDS = 1_000_000_000
_START = 0  # unknown

_Point = NumberDataPoint | HistogramDataPoint


def otlp_name(family: Family) -> str:
    """The name a family is sent under: the dotted one where it has been published, else its own."""
    return family.otel or family.name


def otlp_unit(family: Family) -> str:
    """The unit a family is sent with: UCUM, or a note in braces where its name would grow in translation."""
    unit = family.unit.ucum
    if family.otel or not unit or _NOTE.fullmatch(unit):
        return unit
    word = _WORDS.get(unit)
    name = family.name.removesuffix("_total") if family.kind is Kind.COUNTER else family.name
    if word is not None and name.endswith(f"_{word}"):
        return unit
    return f"{{{word or unit.replace('{', '').replace('}', '')}}}"


def meter(family: Family) -> str:
    """The meter a family belongs to: the one its names were published under, else tallykeep."""
    return "klio" if family.otel.startswith("klio.") else "tallykeep"


def portions(
    snapshots: Iterable[Snapshot], resource: Resource, version: str, now: float, most: int = MOST
) -> Iterator[MetricsData]:
    """Everything the snapshots hold at `now` (Unix seconds), in portions of about `most` points, made one by one."""
    full: list[tuple[Family, list[_Point]]] = []
    room = float(most)
    for family, points in _points(snapshots, now):
        weight = _weight(family)
        for point in points:
            if room < weight and full:
                yield _portion(full, resource, version)
                full, room = [], float(most)
            if not full or full[-1][0] is not family:
                full.append((family, []))
            full[-1][1].append(point)
            room -= weight
    if full:
        yield _portion(full, resource, version)


def _points(snapshots: Iterable[Snapshot], now: float) -> Iterator[tuple[Family, Iterator[_Point]]]:
    """Families with their points, those of one meter together; a family may come several times in a row."""
    found: dict[Family, list[Sequence[Sample]]] = {}
    for snapshot in snapshots:
        for family, group in grouped(snapshot.samples).items():
            found.setdefault(family, []).append(group)
    for family in sorted(found, key=meter):
        for samples in found[family]:
            yield family, _MAKERS[family.kind](family, samples, now)


def _numbers(family: Family, samples: Sequence[Sample], now: float) -> Iterator[_Point]:
    date = int(now * _NANOSECONDS)
    for sample in samples:
        assert isinstance(sample.value, float)
        value = family.shown(sample.value, now) if family.moving else sample.value
        yield NumberDataPoint(dict(zip(family.labels, sample.labels, strict=True)), _START, date, value)


def _states(family: Family, samples: Sequence[Sample], now: float) -> Iterator[_Point]:
    date = int(now * _NANOSECONDS)
    for sample in samples:
        labels = dict(zip(family.labels, sample.labels, strict=True))
        for state in family.states:
            yield NumberDataPoint({**labels, family.name: state}, _START, date, float(state == sample.value))


def _histograms(family: Family, samples: Sequence[Sample], now: float) -> Iterator[_Point]:
    date = int(now * _NANOSECONDS)
    bounds = [float(bound) for bound in family.buckets]
    for sample in samples:
        seen = sample.value
        assert isinstance(seen, Distribution)
        yield HistogramDataPoint(
            attributes=dict(zip(family.labels, sample.labels, strict=True)),
            start_time_unix_nano=_START,
            time_unix_nano=date,
            count=sum(seen.counts),
            sum=seen.total if bounds[0] >= 0 else None,  # type: ignore[arg-type]  # it could fall
            bucket_counts=list(seen.counts),
            explicit_bounds=bounds,
            min=None,  # type: ignore[arg-type]  # not counted, and optional in OTLP
            max=None,  # type: ignore[arg-type]
            exemplars=[_exemplar(mark, now) for mark in seen.exemplars if mark is not None],
        )


def _exemplar(mark: Exemplar, now: float) -> OtelExemplar:
    moment = now if mark.timestamp is None else mark.timestamp
    return OtelExemplar(dict(mark.labels), float(mark.value), int(moment * _NANOSECONDS), None, None)


_Maker = Callable[[Family, Sequence[Sample], float], Iterator[_Point]]
_MAKERS: dict[Kind, _Maker] = {
    Kind.COUNTER: _numbers,
    Kind.GAUGE: _numbers,
    Kind.STATE_SET: _states,
    Kind.HISTOGRAM: _histograms,
}


def _weight(family: Family) -> float:
    return 1 + _POINTS_OF_A_BUCKET * len(family.buckets)


def _portion(full: Iterable[tuple[Family, list[_Point]]], resource: Resource, version: str) -> MetricsData:
    scopes = [
        ScopeMetrics(
            InstrumentationScope(name, version), [_metric(family, points) for family, points in of_meter], schema_url=""
        )
        for name, of_meter in groupby(full, key=lambda one: meter(one[0]))
    ]
    return MetricsData([ResourceMetrics(resource, scopes, schema_url=resource.schema_url)])


def _metric(family: Family, points: Sequence[_Point]) -> Metric:
    data: Sum | Gauge | Histogram
    if family.kind is Kind.HISTOGRAM:
        data = Histogram([p for p in points if isinstance(p, HistogramDataPoint)], _CUMULATIVE)
    else:
        numbers = [p for p in points if isinstance(p, NumberDataPoint)]
        data = Sum(numbers, _CUMULATIVE, is_monotonic=True) if family.kind is Kind.COUNTER else Gauge(numbers)
    return Metric(otlp_name(family), family.help, otlp_unit(family), data)
