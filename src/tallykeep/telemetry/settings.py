"""The OTEL_* variables: their names, defaults and limits. What they come to for one signal is in otlp_settings.py.

Source: OpenTelemetry, Environment Variable Specification and OTLP Exporter Configuration. Differences on purpose: a
signal is on only when its exporter is named, and a value that cannot be used ends the start instead of being
passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from tallykeep.config.model import group, setting, several
from tallykeep.config.parse import PORT, TEXT, Parser, integer, one_of
from tallykeep.telemetry.otlp_settings import AnySignal, MetricsSignal, TracesSignal


def _pairs(text: str) -> Mapping[str, str]:
    found = {}
    for part in filter(None, map(str.strip, text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ValueError("not key=value")
        found[key.strip()] = unquote(value.strip())
    return found


PAIRS: Parser[Mapping[str, str]] = Parser(_pairs, "key=value pairs, comma-separated")


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What is sent as OpenTelemetry, where, and in whose name."""

    service_name: str = setting(
        "",
        env="OTEL_SERVICE_NAME",
        help="Name of the service. To be given when an exporter is named; without it, it is `tallykeep`, and a warning "
        "says so.",
    )
    resource_attributes: Mapping[str, str] | None = setting(
        None,
        env="OTEL_RESOURCE_ATTRIBUTES",
        parse=PAIRS,
        help="Attributes of everything that is sent, such as `deployment.environment=production`.",
    )
    resource_detectors: tuple[str, ...] = several(
        env="OTEL_RESOURCE_DETECTORS",
        parse=TEXT,
        help="What to find out about this machine and process: telemetry.sdk, host, host.id, os, os.type, "
        "os.description, process, process.pid, process.executable.name, process.executable.path, "
        "process.command.args, process.owner, process.runtime.name, process.runtime.version, "
        "process.runtime.description, container.",
    )
    traces_exporter: str = setting(
        "",
        env="OTEL_TRACES_EXPORTER",
        parse=one_of("otlp", "console", "none"),
        help="Where traces go: to an OTLP receiver, to standard output, or nowhere.",
    )
    metrics_exporter: str = setting(
        "",
        env="OTEL_METRICS_EXPORTER",
        parse=one_of("otlp", "prometheus", "console", "none"),
        help="Where metrics go beside /metrics: to an OTLP receiver, to a Prometheus listener of their own, to "
        "standard output, or nowhere.",
    )
    disabled: bool = setting(
        False, env="OTEL_SDK_DISABLED", help="Switches telemetry off, whatever the other variables say."
    )
    export_interval_ms: int = setting(
        "60000",
        env="OTEL_METRIC_EXPORT_INTERVAL",
        parse=integer(100),
        help="Milliseconds between two exports of metrics.",
    )
    export_timeout_ms: int = setting(
        "30000",
        env="OTEL_METRIC_EXPORT_TIMEOUT",
        parse=integer(1),
        help="Milliseconds that one export of metrics may take, all its requests together.",
    )
    otlp: AnySignal = group(AnySignal, help="The OTLP receiver of both signals.")
    otlp_traces: TracesSignal = group(TracesSignal, help="What is different for traces.")
    otlp_metrics: MetricsSignal = group(MetricsSignal, help="What is different for metrics.")
    prometheus_host: str = setting(
        "localhost",
        env="OTEL_EXPORTER_PROMETHEUS_HOST",
        help="Address of the listener that OTEL_METRICS_EXPORTER=prometheus opens.",
    )
    prometheus_port: int = setting(
        "9464",
        env="OTEL_EXPORTER_PROMETHEUS_PORT",
        parse=PORT,
        help="Port of the listener that OTEL_METRICS_EXPORTER=prometheus opens. 0 takes a free one and logs it.",
    )
    container_name: str = setting(
        "", env="CONTAINER_NAME", help="Becomes `k8s.container.name` unless OTEL_RESOURCE_ATTRIBUTES sets it."
    )
    pod_name: str = setting("", env="POD_NAME", help="Becomes `k8s.pod.name` unless OTEL_RESOURCE_ATTRIBUTES sets it.")
    namespace_name: str = setting(
        "", env="NAMESPACE_NAME", help="Becomes `k8s.namespace.name` unless OTEL_RESOURCE_ATTRIBUTES sets it."
    )

    @property
    def traces(self) -> str:
        """The exporter of traces: otlp or console; "" where there is none."""
        return self._exporter(self.traces_exporter)

    @property
    def metrics(self) -> str:
        """The exporter of metrics: otlp, prometheus or console; "" where there is none."""
        return self._exporter(self.metrics_exporter)

    def _exporter(self, name: str) -> str:
        return "" if self.disabled or name == "none" else name
