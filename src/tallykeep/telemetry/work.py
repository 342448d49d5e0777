"""Puts telemetry to work beside a Board, for `tallykeep run` and for commands that run long.

What the settings do not ask for is neither imported nor started.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tallykeep.clock import Clock
from tallykeep.errors import ConfigError
from tallykeep.metrics import Book
from tallykeep.runtime import tracing
from tallykeep.runtime.board import Board
from tallykeep.runtime.threads import in_thread
from tallykeep.runtime.work import Collector, Service
from tallykeep.telemetry.families import METRICS, TRACES
from tallykeep.telemetry.settings import TelemetrySettings

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from tallykeep.telemetry.sender import MetricsSender
    from tallykeep.telemetry.traces import SpanRecorder

NOT_INSTALLED = "OpenTelemetry is not installed: pip install 'tallykeep[telemetry]'"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What is to be run as long as telemetry is on."""

    collectors: Sequence[Collector] = ()
    services: Sequence[Service] = ()


async def start_telemetry(
    stack: AsyncExitStack, settings: TelemetrySettings, board: Board, book: Book, clock: Clock
) -> Telemetry:
    """Record spans and prepare to send metrics until `stack` ends, which sends what is left.

    To be called before what is to be traced and measured is opened: then its end is still seen.

    Raises: ConfigError for settings that cannot be used, and where OpenTelemetry is missing.
    """
    for warning in _warnings(settings):
        _log.warning("%s", warning)
    if not (settings.traces or settings.metrics):
        return Telemetry()
    services: list[Service] = []
    if settings.metrics in ("otlp", "console"):
        sender = await in_thread(_sender, settings, board, book, clock)
        stack.push_async_callback(sender.close)
        services.append(sender)
    if settings.traces:
        recorder = await in_thread(_recorder, settings, book, clock)
        stack.push_async_callback(recorder.close)
        stack.callback(tracing.install(recorder))
    return Telemetry(await in_thread(_collectors, settings), services)


def _warnings(settings: TelemetrySettings) -> list[str]:
    from tallykeep.telemetry.resource import SERVICE, named, unknown_detectors

    on = settings.traces or settings.metrics
    if not on and (settings.otlp.endpoint or settings.otlp_traces.endpoint or settings.otlp_metrics.endpoint):
        return [
            "nothing is sent to the OTLP endpoint: neither OTEL_TRACES_EXPORTER nor OTEL_METRICS_EXPORTER says otlp"
        ]
    if not on:
        return []
    unknown = [f"OTEL_RESOURCE_DETECTORS: there is no detector {name!r} here" for name in unknown_detectors(settings)]
    if not named(settings):
        unknown.append(f"OTEL_SERVICE_NAME is not set: telemetry is sent in the name of {SERVICE!r}")
    return unknown


def _sender(settings: TelemetrySettings, board: Board, book: Book, clock: Clock) -> MetricsSender:
    try:
        from tallykeep.telemetry.exporters import metric_exporter
        from tallykeep.telemetry.sender import MetricsSender
    except ImportError as error:
        raise ConfigError(f"metrics cannot be sent: {NOT_INSTALLED} ({error})") from error
    from tallykeep.telemetry.words import Account, listen

    listen()
    exporter, place = metric_exporter(settings)
    _log.info("metrics are sent to %s every %g s", place, settings.export_interval_ms / 1000)
    return MetricsSender(
        board, clock, exporter, _resource(settings), Account(METRICS, place, book),
        interval=settings.export_interval_ms / 1000, timeout=settings.export_timeout_ms / 1000,
    )  # fmt: skip


def _recorder(settings: TelemetrySettings, book: Book, clock: Clock) -> SpanRecorder:
    try:
        from tallykeep.telemetry.exporters import span_exporter
        from tallykeep.telemetry.traces import SpanRecorder
    except ImportError as error:
        raise ConfigError(f"traces cannot be sent: {NOT_INSTALLED} ({error})") from error
    from tallykeep.telemetry.words import Account, listen

    listen()
    exporter, place = span_exporter(settings)
    _log.info("traces are sent to %s", place)
    return SpanRecorder(exporter, _resource(settings), Account(TRACES, place, book), clock.time)


def _resource(settings: TelemetrySettings) -> Resource:
    from opentelemetry.sdk.resources import Resource

    from tallykeep.telemetry.resource import attributes

    return Resource(attributes(settings))


def _collectors(settings: TelemetrySettings) -> Sequence[Collector]:
    """That of process, runtime and host; none where metrics are off."""
    if not settings.metrics:
        return ()
    if find_spec("psutil") is None:
        _log.warning("figures of this process and host are left out: psutil is not installed (tallykeep[telemetry])")
        return ()
    from tallykeep.telemetry.host import HostCollector

    return (HostCollector(),)
