"""An export of 100,000 series as OTLP against the SDK's own observable instruments, without the network.

Both sides end with the serialized protobuf of everything they found. The peer is asked twice: as it is, where it keeps
2,000 series an instrument, and with that limit lifted.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from benchmarks import support
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider, ObservableGauge
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.resources import Resource

from tallykeep.exposition.otlp import portions
from tallykeep.metrics import Family, Kind, Snapshot
from tallykeep.units import BYTES

FAMILIES = [
    Family(f"wide_{number}_size_bytes", Kind.GAUGE, BYTES, ("model", "user", "team"), "Very many.")
    for number in range(10)
]


def main() -> None:
    arguments = _parser().parse_args()
    each = arguments.series // len(FAMILIES)
    series = [(f"model-{n % 37}", f"user-{n}", f"team-{n % 100}") for n in range(each)]
    report = support.Report(f"OTLP export of {arguments.series:,} series, no network")
    ours, limited, lifted = Ours(series), Peer(series, None), Peer(series, {ObservableGauge: each + 1})
    assert ours.points() == lifted.points() == arguments.series
    report.compare(
        "series that arrive", [ours.points()], [limited.points()], against="SDK", unit="", more_is_better=True
    )
    mine = support.cpu_seconds(ours.export, arguments.rounds)
    theirs = support.cpu_seconds(lifted.export, arguments.rounds)
    report.compare("CPU of an export", mine, theirs, against="SDK, limit lifted", unit="s")
    report.finish(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = support.parser(__doc__)
    parser.add_argument("--series", type=int, default=100_000)
    return parser


class Ours:
    """A snapshot, turned into portions."""

    def __init__(self, series: list[tuple[str, str, str]]) -> None:
        samples = tuple(
            family(1.0, model=model, user=user, team=team) for family in FAMILIES for model, user, team in series
        )
        self._snapshot = Snapshot("benchmark", "", samples, 0.0)
        self._resource = Resource({"service.name": "benchmark"})

    def export(self) -> None:
        for data in self._portions():
            encode_metrics(data).SerializeToString()

    def points(self) -> int:
        return sum(_points(data) for data in self._portions())

    def _portions(self) -> Iterable[MetricsData]:
        return portions([self._snapshot], self._resource, "1", 0.0)


class Peer:
    """Observable gauges whose callbacks yield the same series."""

    def __init__(self, series: list[tuple[str, str, str]], limits: dict[type, int] | None) -> None:
        attributes = [{"model": model, "user": user, "team": team} for model, user, team in series]
        self._reader = InMemoryMetricReader(cardinality_limits=limits)
        self._provider = MeterProvider([self._reader], shutdown_on_exit=False)
        meter = self._provider.get_meter("benchmark")

        def observe(options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(1.0, one) for one in attributes]

        for family in FAMILIES:
            meter.create_observable_gauge(family.name, [observe], "By", family.help)

    def export(self) -> None:
        data = self._reader.get_metrics_data()
        assert data is not None
        encode_metrics(data).SerializeToString()

    def points(self) -> int:
        data = self._reader.get_metrics_data()
        assert data is not None
        return _points(data)


def _points(data: MetricsData) -> int:
    scopes = (scope for resource in data.resource_metrics for scope in resource.scope_metrics)
    return sum(len(metric.data.data_points) for scope in scopes for metric in scope.metrics)


if __name__ == "__main__":
    main()
