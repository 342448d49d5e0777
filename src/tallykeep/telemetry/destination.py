"""Where each signal goes by the settings, with every file it needs read once: found before anything is started."""

from __future__ import annotations

from pathlib import Path

from tallykeep.errors import ConfigError
from tallykeep.telemetry.families import METRICS, TRACES
from tallykeep.telemetry.otlp_settings import Receiver, receiver
from tallykeep.telemetry.settings import TelemetrySettings


def destination(signal: str, settings: TelemetrySettings) -> Receiver:
    """The OTLP receiver of a signal. Raises: ConfigError for an address or a file that cannot be used."""
    own = settings.otlp_traces if signal == TRACES else settings.otlp_metrics
    try:
        place = receiver(signal, settings.otlp, own)
    except ValueError as error:
        raise ConfigError(f"{signal} cannot be sent: {error}; see OTEL_EXPORTER_OTLP_*") from None
    if place.secure:
        for path in (place.certificate, place.client_certificate, place.client_key):
            read_pem(path, signal)
    return place


def check(settings: TelemetrySettings) -> None:
    """Find what would end a start, and send nothing. Raises: ConfigError with every mistake."""
    problems: list[str] = []
    for signal, exporter in ((TRACES, settings.traces), (METRICS, settings.metrics)):
        try:
            if exporter == "otlp":
                destination(signal, settings)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)


def read_pem(path: Path | None, signal: str) -> bytes | None:
    """The content of a file of certificates or keys; None where none is named. Raises: ConfigError."""
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{signal} cannot be sent: {path} cannot be read: {error.strerror}; see OTEL_EXPORTER_OTLP_*CERTIFICATE "
            "and OTEL_EXPORTER_OTLP_*CLIENT_KEY"
        ) from error
