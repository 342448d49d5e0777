"""Families and samples for tests of pages, the same shown by prometheus_client, and comparison with a golden file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as TheirExemplar
from prometheus_client.utils import floatToGoString

from tallykeep.exposition.page import Format, unit_word
from tallykeep.metrics import Distribution, Family, Kind, Sample


class TheirPage(Collector):
    """The same samples as a prometheus_client collector, built with its own *MetricFamily classes."""

    def __init__(self, samples: Iterable[tuple[Family, Iterable[Sample]]]) -> None:
        self._samples = [(family, list(group)) for family, group in samples]

    def collect(self) -> Iterator[Metric]:
        for family, samples in self._samples:
            yield _theirs(family, samples)

    def render(self, format: Format) -> bytes:
        """What prometheus_client sends."""
        return generate_latest(self) if format is Format.TEXT else openmetrics.generate_latest(self)


def _theirs(family: Family, samples: Iterable[Sample]) -> Metric:
    unit = unit_word(family)
    if family.kind is Kind.GAUGE:
        gauge = GaugeMetricFamily(family.name, family.help, labels=family.labels, unit=unit)
        for sample in samples:
            assert isinstance(sample.value, float)
            gauge.add_metric(sample.labels, sample.value)
        return gauge
    if family.kind is Kind.COUNTER:
        counter = CounterMetricFamily(family.name, family.help, labels=family.labels, unit=unit)
        for sample in samples:
            assert isinstance(sample.value, float)
            counter.add_metric(sample.labels, sample.value)
        return counter
    if family.kind is Kind.STATE_SET:
        states = StateSetMetricFamily(family.name, family.help, labels=family.labels)
        for sample in samples:
            states.add_metric(sample.labels, {state: state == sample.value for state in family.states})
        return states
    histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels, unit=unit)
    for sample in samples:
        assert isinstance(sample.value, Distribution)
        histogram.add_metric(sample.labels, _buckets(family, sample.value), sample.value.total)
    return histogram


def _buckets(family: Family, seen: Distribution) -> list[tuple[str, float] | tuple[str, float, TheirExemplar]]:
    bounds = [*map(floatToGoString, family.buckets), "+Inf"]
    shown = seen.exemplars or (None,) * len(bounds)
    return [
        (bound, count, TheirExemplar(dict(mark.labels), mark.value, mark.timestamp)) if mark else (bound, count)
        for bound, count, mark in zip(bounds, accumulate(seen.counts), shown, strict=True)
    ]


def compare_with_golden(page: bytes, path: Path) -> None:
    """Compare a page with its golden file, byte for byte; with BLESS=1 in the environment, write the file instead."""
    if os.environ.get("BLESS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(page)
    assert path.exists(), f"{path} is missing: run the test once with BLESS=1 and read what it wrote"
    assert page.decode() == path.read_text(), f"the page differs from {path}; if it should, run with BLESS=1"
