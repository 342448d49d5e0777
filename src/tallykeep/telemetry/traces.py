"""Spans as OpenTelemetry's SDK records and sends them: behind runtime.tracing, which does not know it.

Batches go out by a thread of the SDK (OTEL_BSP_*), sampled as OTEL_TRACES_SAMPLER says; the SDK reads both itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import Status, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tallykeep import __version__
from tallykeep.runtime.threads import in_thread
from tallykeep.runtime.tracing import Span, Value
from tallykeep.telemetry.words import Account

LAST_WORDS = 3.0  # seconds that the last batch may take
_HEADER = "traceparent"
_propagator = TraceContextTextMapPropagator()


class _Recorded:
    __slots__ = ("_span",)

    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    def set(self, name: str, value: Value) -> None:
        self._span.set_attribute(name, value)


class SpanRecorder:
    """A runtime.tracing.Recorder that hands spans to the SDK."""

    def __init__(self, exporter: SpanExporter, resource: Resource, account: Account, time: Callable[[], float]) -> None:
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_Counted(exporter, account, time)))

    @contextmanager
    def span(self, tracer: str, name: str, attributes: Mapping[str, Value], parent: str) -> Iterator[Span]:
        """A span around a `with` block; an exception that leaves it is recorded."""
        with self._provider.get_tracer(tracer, __version__).start_as_current_span(
            name, _context(parent), attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield _Recorded(span)
            except Exception as error:
                span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
                raise

    def carrier(self) -> str:
        """The traceparent of the current span, or ""."""
        carried: dict[str, str] = {}
        if get_current_span().get_span_context().is_valid:
            _propagator.inject(carried)
        return carried.get(_HEADER, "")

    async def close(self) -> None:
        """Send what is left, for at most LAST_WORDS seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(in_thread(self._provider.shutdown), LAST_WORDS)


class _Counted(SpanExporter):
    """An exporter whose outcomes are accounted for."""

    def __init__(self, exporter: SpanExporter, account: Account, time: Callable[[], float]) -> None:
        self._exporter = exporter
        self._account = account
        self._time = time

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._account.succeeded(len(spans), self._time())
        else:
            self._account.failed(len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _context(parent: str) -> Context | None:
    return _propagator.extract({_HEADER: parent}) if parent else None
