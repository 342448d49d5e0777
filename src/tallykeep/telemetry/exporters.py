"""OpenTelemetry's own exporters, told everything: nothing is left for them to find in the environment.

Left alone they read a timeout of 10000 as seconds, refuse `none` as a compression over gRPC, prefer a machine's
REQUESTS_CA_BUNDLE to the certificate given, and know neither NAME_FILE variables nor tallykeep.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExporter
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter

from tallykeep.telemetry.destination import destination, read_pem
from tallykeep.telemetry.families import METRICS, TRACES
from tallykeep.telemetry.otlp_settings import GRPC, Receiver
from tallykeep.telemetry.settings import TelemetrySettings


def metric_exporter(settings: TelemetrySettings) -> tuple[MetricExporter, str]:
    """The exporter of metrics, and where it sends. Raises: ConfigError."""
    if settings.metrics == "console":
        return ConsoleMetricExporter(), "standard output"
    place = destination(METRICS, settings)
    if place.protocol == GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as Grpc

        return Grpc(**_grpc(place)), place.endpoint
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http

    return Http(**_http(place)), place.endpoint


def span_exporter(settings: TelemetrySettings) -> tuple[SpanExporter, str]:
    """The exporter of traces, and where it sends. Raises: ConfigError."""
    if settings.traces == "console":
        return ConsoleSpanExporter(), "standard output"
    place = destination(TRACES, settings)
    if place.protocol == GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        return Grpc(**_grpc(place)), place.endpoint
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

    return Http(**_http(place)), place.endpoint


def _grpc(place: Receiver) -> Mapping[str, Any]:
    from grpc import Compression

    return {
        "endpoint": place.endpoint,
        "insecure": not place.secure,
        "credentials": _credentials(place) if place.secure else None,
        "headers": tuple(place.headers.items()),
        "timeout": place.timeout,
        "compression": Compression.Gzip if place.gzip else Compression.NoCompression,
    }


def _credentials(place: Receiver) -> Any:
    from grpc import ssl_channel_credentials

    return ssl_channel_credentials(
        root_certificates=read_pem(place.certificate, "telemetry"),
        private_key=read_pem(place.client_key, "telemetry"),
        certificate_chain=read_pem(place.client_certificate, "telemetry"),
    )


def _http(place: Receiver) -> Mapping[str, Any]:
    from opentelemetry.exporter.otlp.proto.http import Compression

    return {
        "session": _session(),
        "endpoint": place.endpoint,
        "certificate_file": _text(place.certificate),
        "client_certificate_file": _text(place.client_certificate),
        "client_key_file": _text(place.client_key),
        "headers": dict(place.headers),
        "timeout": place.timeout,
        "compression": Compression.Gzip if place.gzip else Compression.NoCompression,
    }


def _session() -> Any:
    """A requests.Session in which a certificate that was given wins over REQUESTS_CA_BUNDLE, not so in theirs."""
    from requests import Session

    class Given(Session):
        def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
            asked = self.verify if verify is None else verify
            return super().merge_environment_settings(url, proxies, stream, asked, cert)

    return Given()


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
