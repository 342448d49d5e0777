"""Spans, for code that need not know whether anybody records them.

    _tracer = tracer("klio.backup")
    with _tracer.span("backup", {"backup.name": name}) as span:
        ...
        span.set("backup.bytes", written)

Until `install` has been called a span is a no-op of half a microsecond, and OpenTelemetry is not imported. An
exception that leaves a span is recorded in it and gives it the status ERROR; a cancellation does not.

Spans nest by context: tasks and `in_thread` hand it on. What crosses a queue or a process carries `carrier()` and
is continued with `span(..., parent=carried)`. Not for async generators: a span in one may outlive its context.
Source: OpenTelemetry, Tracing API; W3C Trace Context, traceparent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

Value = str | bool | int | float


class Span(Protocol):
    """What goes on between two moments."""

    def set(self, name: str, value: Value) -> None:
        """Give it an attribute."""
        ...


class Recorder(Protocol):
    """What spans are given to: telemetry, or a list in a test."""

    def span(
        self, tracer: str, name: str, attributes: Mapping[str, Value], parent: str
    ) -> AbstractContextManager[Span]:
        """A span that begins on entry and ends on exit, under `parent` where that is not empty."""
        ...

    def carrier(self) -> str:
        """The traceparent of the current span, or ""."""
        ...


class _Unseen:
    """A span that nobody records, and its context manager."""

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def set(self, name: str, value: Value) -> None:
        return None


_UNSEEN = _Unseen()
_recorder: Recorder | None = None


class Tracer:
    """Makes spans under one name. Made once, at import; it looks for the recorder at each span."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def span(
        self, name: str, attributes: Mapping[str, Value] | None = None, *, parent: str = ""
    ) -> AbstractContextManager[Span]:
        """A span for a `with` statement; `parent` is what `carrier` gave elsewhere."""
        if _recorder is None:
            return _UNSEEN
        return _recorder.span(self.name, name, attributes or {}, parent)


def tracer(name: str) -> Tracer:
    """A tracer of that published name, such as klio.backup."""
    return Tracer(name)


def carrier() -> str:
    """The current span as W3C traceparent text, for a message or a child process; "" where there is none."""
    return "" if _recorder is None else _recorder.carrier()


def install(recorder: Recorder) -> Callable[[], None]:
    """Have spans recorded from now on. What is returned puts back what was there."""
    global _recorder
    before, _recorder = _recorder, recorder

    def restore() -> None:
        global _recorder
        _recorder = before

    return restore
