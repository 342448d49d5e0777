"""The receiver of OTLP: what is set for both signals, for traces, for metrics, and what that comes to.

Source: OpenTelemetry, OTLP Exporter Configuration. The variable of a signal wins over the one for both; a timeout
is in milliseconds; the endpoint for both gets the signal's path over HTTP, the one of a signal is taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from tallykeep.config.model import Secret, setting
from tallykeep.config.parse import FLAG, PATH, integer, one_of

GRPC, HTTP = "grpc", "http/protobuf"
_PROTOCOL = one_of(HTTP, GRPC)
_COMPRESSION = one_of("gzip", "none")
_PORTS = {GRPC: 4317, HTTP: 4318}
_TIMEOUT_MS = 10_000


@dataclass(frozen=True, slots=True)
class AnySignal:
    """The receiver of both signals."""

    protocol: str = setting(HTTP, env="OTEL_EXPORTER_OTLP_PROTOCOL", parse=_PROTOCOL, help="How it is spoken to.")
    endpoint: str = setting(
        "",
        env="OTEL_EXPORTER_OTLP_ENDPOINT",
        help="Its address: http://localhost:4318, with gRPC http://localhost:4317, where it is left out. Over HTTP "
        "`/v1/traces` and `/v1/metrics` are added.",
    )
    headers: Secret = setting(
        Secret(""), env="OTEL_EXPORTER_OTLP_HEADERS", parse=Secret, help="Headers of every request: key=value pairs."
    )
    compression: str = setting("", env="OTEL_EXPORTER_OTLP_COMPRESSION", parse=_COMPRESSION, help="gzip, or none.")
    timeout_ms: int | None = setting(
        None, env="OTEL_EXPORTER_OTLP_TIMEOUT", parse=integer(1), help="Milliseconds for a request; 10000 if left out."
    )
    insecure: bool | None = setting(
        None,
        env="OTEL_EXPORTER_OTLP_INSECURE",
        parse=FLAG,
        help="Whether an endpoint without http:// or https:// is spoken to without TLS.",
    )
    certificate: Path | None = setting(
        None, env="OTEL_EXPORTER_OTLP_CERTIFICATE", parse=PATH, help="The authorities that vouch for it, as PEM."
    )
    client_certificate: Path | None = setting(
        None, env="OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", parse=PATH, help="The certificate shown to it, as PEM."
    )
    client_key: Path | None = setting(
        None, env="OTEL_EXPORTER_OTLP_CLIENT_KEY", parse=PATH, help="The key of the client certificate, as PEM."
    )


@dataclass(frozen=True, slots=True)
class TracesSignal:
    """What is different for traces."""

    protocol: str = setting(
        "", env="OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", parse=_PROTOCOL, help="The protocol for traces."
    )
    endpoint: str = setting(
        "",
        env="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        help="Where traces are sent; over HTTP with the path, as nothing is added.",
    )
    headers: Secret = setting(
        Secret(""), env="OTEL_EXPORTER_OTLP_TRACES_HEADERS", parse=Secret, help="Headers of requests with traces."
    )
    compression: str = setting(
        "", env="OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", parse=_COMPRESSION, help="gzip or none, for traces."
    )
    timeout_ms: int | None = setting(
        None, env="OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", parse=integer(1), help="Milliseconds for a request with traces."
    )
    insecure: bool | None = setting(
        None,
        env="OTEL_EXPORTER_OTLP_TRACES_INSECURE",
        parse=FLAG,
        help="Whether traces go without TLS where the endpoint does not say.",
    )
    certificate: Path | None = setting(
        None,
        env="OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        parse=PATH,
        help="Authorities of the receiver of traces, as PEM.",
    )
    client_certificate: Path | None = setting(
        None,
        env="OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
        parse=PATH,
        help="The certificate shown with traces, as PEM.",
    )
    client_key: Path | None = setting(
        None, env="OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", parse=PATH, help="The key of that certificate, as PEM."
    )


@dataclass(frozen=True, slots=True)
class MetricsSignal:
    """What is different for metrics."""

    protocol: str = setting(
        "", env="OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", parse=_PROTOCOL, help="The protocol for metrics."
    )
    endpoint: str = setting(
        "",
        env="OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        help="Where metrics are sent; over HTTP with the path, as nothing is added.",
    )
    headers: Secret = setting(
        Secret(""), env="OTEL_EXPORTER_OTLP_METRICS_HEADERS", parse=Secret, help="Headers of requests with metrics."
    )
    compression: str = setting(
        "", env="OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", parse=_COMPRESSION, help="gzip or none, for metrics."
    )
    timeout_ms: int | None = setting(
        None,
        env="OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
        parse=integer(1),
        help="Milliseconds for a request with metrics.",
    )
    insecure: bool | None = setting(
        None,
        env="OTEL_EXPORTER_OTLP_METRICS_INSECURE",
        parse=FLAG,
        help="Whether metrics go without TLS where the endpoint does not say.",
    )
    certificate: Path | None = setting(
        None,
        env="OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE",
        parse=PATH,
        help="Authorities of the receiver of metrics, as PEM.",
    )
    client_certificate: Path | None = setting(
        None,
        env="OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE",
        parse=PATH,
        help="The certificate shown with metrics, as PEM.",
    )
    client_key: Path | None = setting(
        None, env="OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", parse=PATH, help="The key of that certificate, as PEM."
    )


class Receiver(NamedTuple):
    """Where one signal goes, and how: everything that an exporter is told."""

    protocol: str
    endpoint: str  # with its scheme, over HTTP with its path
    headers: Mapping[str, str]
    gzip: bool
    timeout: float  # seconds
    certificate: Path | None
    client_certificate: Path | None
    client_key: Path | None

    @property
    def secure(self) -> bool:
        """Whether it is spoken to over TLS."""
        return self.endpoint.startswith("https://")


def receiver(signal: str, both: AnySignal, own: TracesSignal | MetricsSignal) -> Receiver:
    """The receiver of `signal` ("traces" or "metrics").

    Raises: ValueError for an address that cannot be used, or a client certificate without its key.
    """
    protocol = own.protocol or both.protocol
    insecure = next((given for given in (own.insecure, both.insecure) if given is not None), None)
    endpoint = _endpoint(own.endpoint or both.endpoint, protocol, insecure)
    if protocol == HTTP and not own.endpoint:
        endpoint = f"{endpoint.rstrip('/')}/v1/{signal}"
    chosen = Receiver(
        protocol,
        endpoint,
        _headers((own.headers or both.headers).reveal()),
        (own.compression or both.compression) == "gzip",
        (own.timeout_ms or both.timeout_ms or _TIMEOUT_MS) / 1000,
        own.certificate or both.certificate,
        own.client_certificate or both.client_certificate,
        own.client_key or both.client_key,
    )
    if (chosen.client_certificate is None) != (chosen.client_key is None):
        raise ValueError(f"for {signal} a client certificate or its key is missing: give both, or neither")
    return chosen


def _endpoint(text: str, protocol: str, insecure: bool | None) -> str:
    if not text:
        return f"http://localhost:{_PORTS[protocol]}"
    if "://" not in text:
        text = f"{'http' if insecure else 'https'}://{text}"
    parts = urlsplit(text)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ValueError(f"the endpoint {text!r} is not an address such as http://collector:{_PORTS[protocol]}")
    return text


def _headers(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(key.strip() and equals for key, equals, _ in pairs):
        raise ValueError("the headers are to be key=value pairs, comma-separated")
    return {key.strip().lower(): unquote(value.strip()) for key, _, value in pairs}
