"""What is sent as OpenTelemetry carries the contract's names, and a translator gives every family's own name back."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import _CustomCollector
from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, InMemoryMetricReader, Metric, MetricsData, Sum
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tallykeep.cli.metrics import groups
from tallykeep.exposition.otlp import meter, otlp_name, otlp_unit, portions
from tallykeep.exposition.page import Format, Renderer
from tallykeep.metrics import Catalogue, Distribution, Family, Kind, Sample, Snapshot
from tallykeep.systems.postgres.families import FAMILIES as POSTGRES
from tallykeep.systems.postgres.families import PUBLISHED, of_cluster
from tallykeep.telemetry.host import HostCollector
from tallykeep.telemetry.host_families import HOST

DATA = Path(__file__).parent / "data" / "metrics.tsv"
with DATA.open(newline="") as file:
    ROWS = {row["name"]: row for row in csv.DictReader(file, delimiter="\t") if row["system"] == "postgres"}
EVERYTHING = tuple(dict.fromkeys([*(family for group in groups().values() for family in group), *POSTGRES]))
RESOURCE = Resource({"service.name": "test"})


def a_sample(family: Family) -> Sample:
    """One sample of any family."""
    labels = {name: f"a {name}" for name in family.labels}
    if family.kind is Kind.HISTOGRAM:
        return family(Distribution((2,) + (1,) * len(family.buckets), 4.5), **labels)
    return family(family.states[0] if family.states else 7.0, **labels)


def as_otlp(samples: Iterable[Sample], now: float = 100.0) -> dict[str, Metric]:
    snapshot = Snapshot("test", "", tuple(samples), now)
    return {
        metric.name: metric
        for portion in portions([snapshot], RESOURCE, "1", now)
        for resource in portion.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def through_the_exporter(data: Iterable[MetricsData]) -> str:
    """The page that opentelemetry-exporter-prometheus makes of it."""
    collector = _CustomCollector(disable_target_info=True, scope_info_enabled=False)
    for portion in data:
        collector.add_metrics_data(portion)
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def series(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every series of a page with its value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


# --- the standard translation


@pytest.mark.parametrize("family", EVERYTHING, ids=lambda family: family.name)
def test_the_python_exporter_gives_the_page_back(family: Family) -> None:
    """OTLP and then the Prometheus exporter: names, types, labels and values of a family's series are the page's own.

    But for `ratio`, which the specification adds for the unit 1, and this exporter (0.66b2) does not yet.
    """
    snapshot = Snapshot("test", "", (a_sample(family),), 100.0)
    own = Renderer(Catalogue([family])).render([snapshot], Format.TEXT, 100.0).data.decode()
    theirs = through_the_exporter(portions([snapshot], RESOURCE, "1", 100.0))
    if otlp_unit(family) == "1":
        theirs = theirs.replace(family.name.removesuffix("_ratio"), family.name)
    assert series(theirs) == series(own)
    types = re.compile(r"^# TYPE (\S+ \S+)$", re.MULTILINE)
    assert types.findall(theirs) == types.findall(own)


def go_translation(name: str, unit: str, kind: Kind) -> str:
    """What Prometheus and the collector's exporter make of a name, after prometheus/otlptranslator.

    Of its units only those that occur here.
    """
    words = [word for word in re.split(r"[^a-zA-Z0-9]+", name) if word]
    suffix = {"By": "bytes", "s": "seconds", "%": "percent"}.get(unit, "")
    if unit and not unit.startswith("{") and unit != "1":
        assert suffix, unit
    if suffix and suffix not in words:
        words.append(suffix)
    if kind is Kind.COUNTER:
        words = [word for word in words if word != "total"] + ["total"]
    if unit == "1" and kind is Kind.GAUGE:
        words = [word for word in words if word != "ratio"] + ["ratio"]
    return "_".join(words)


@pytest.mark.parametrize("family", EVERYTHING, ids=lambda family: family.name)
def test_prometheus_own_translation_gives_the_name_back(family: Family) -> None:
    """A Prometheus that receives OTLP, or a collector that exports it, shows the family under its own name."""
    assert go_translation(otlp_name(family), otlp_unit(family), family.kind) == family.name


def test_without_translation_a_name_is_still_the_published_one() -> None:
    """A family that was not published under a dotted name is sent under its whole name: NoTranslation keeps it."""
    assert all(otlp_name(family) == family.name for family in EVERYTHING if not family.otel)


# --- the 25 families of the contract


def test_every_published_family_is_declared() -> None:
    """The catalogue has the 25 names of the contract, in its order, under the meter klio."""
    assert len(ROWS) == 25
    assert [family.otel for family in PUBLISHED] == list(ROWS)
    assert {meter(family) for family in PUBLISHED} == {"klio"}


@pytest.mark.parametrize("family", PUBLISHED, ids=lambda family: family.otel)
def test_published_family_is_sent_with_its_type_unit_and_attributes(family: Family) -> None:
    """Name, type, unit and attributes of what is sent are those of the contract."""
    row = ROWS[family.otel]
    metric = as_otlp([a_sample(family)])[row["name"]]
    assert metric.unit == row["unit"]
    assert isinstance(metric.data, Sum if row["type"] == "counter" else Gauge)
    [point] = metric.data.data_points
    assert list(point.attributes or ()) == [label for label in row["labels"].split(",") if label]
    assert not isinstance(metric.data, Sum) or metric.data.is_monotonic


def test_several_clusters_add_one_label() -> None:
    """With several clusters a family that told nothing of whose it is has the label `cluster_name` besides."""
    for family in PUBLISHED:
        labels = of_cluster(family).labels
        assert "cluster_name" in labels or "snapshot_source" in labels
        assert of_cluster(family) is of_cluster(family)


def test_an_age_is_sent_as_seconds() -> None:
    """klio.base.latest_snapshot_age holds a timestamp inside and is sent as the seconds since then."""
    family = next(family for family in PUBLISHED if family.otel == "klio.base.latest_snapshot_age")
    metric = as_otlp([family(40.0, snapshot_source="main")], now=100.0)[family.otel]
    assert [point.value for point in metric.data.data_points] == [60.0]  # type: ignore[union-attr]


def test_alerts_of_postgres_ask_for_families_there_are() -> None:
    """Every name in an expression is a family, so that a rename cannot leave an alert that never fires."""
    known = {family.name for family in POSTGRES}
    for family in POSTGRES:
        for alert in family.alerts:
            named = set(re.findall(r"(?:klio|tallykeep)_\w+", alert.expr.replace("{n}", family.name)))
            assert named and named <= known, alert.title


def test_the_two_stalls_have_an_alert_each() -> None:
    """No WAL arriving and no WAL reaching tier 2 are told apart, and each fires as well where nobody can tell."""
    rules = {alert.title: alert.expr for family in POSTGRES for alert in family.alerts}
    assert "unless on (job, instance, cluster_name)" in rules["PostgresWalNotArriving"]
    assert 'tier="1"' in rules["PostgresWalNotArriving"] and 'tier="2"' in rules["PostgresWalNotOffloaded"]


# --- process, runtime and host


RENAMED = {"system.swap.usage": "system.paging.usage", "system.swap.utilization": "system.paging.utilization"}
LEFT_OUT = re.compile(r"process\.runtime\.|system\.network\.connections|system\.thread_count")


async def test_host_figures_are_those_of_the_instrumentation() -> None:
    """Names, units (but for notes) and attributes are those that opentelemetry-instrumentation-system-metrics sends."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    instrumentor = SystemMetricsInstrumentor()
    instrumentor.instrument(meter_provider=provider, skip_dep_check=True)
    try:
        data: Any = reader.get_metrics_data()
    finally:
        instrumentor.uninstrument()
        provider.shutdown()
    theirs = {
        RENAMED.get(metric.name, metric.name): metric
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        if not LEFT_OUT.match(metric.name)
    }
    collector = HostCollector()
    [_ async for _ in collector.collect()]
    ours = as_otlp([sample async for sample in collector.collect()])
    assert set(ours) == {family.otel for family in HOST} == set(theirs)
    for name, metric in theirs.items():
        if name != "system.paging.usage":  # they say `pages` of what psutil counts in bytes
            assert plain(ours[name].unit) == plain(metric.unit), name
        assert keys(ours[name]) == keys(metric) - {"cpython.gc.generation"}, name


def plain(unit: str | None) -> str | None:
    return unit if unit in ("s", "By", "1") else ""


def keys(metric: Metric) -> set[str]:
    return {key for point in metric.data.data_points for key in point.attributes or ()}
