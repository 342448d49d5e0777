"""A recorder that keeps spans as lines: `parent > tracer name {attributes}`. A span is its own context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import pytest

from tallykeep.runtime import tracing
from tallykeep.runtime.tracing import Span, Value

_current: ContextVar[str] = ContextVar("_current", default="")


class Kept:
    """What was recorded, in the order in which spans began."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def span(self, tracer: str, name: str, attributes: Mapping[str, Value], parent: str) -> Iterator[Span]:
        self.lines.append(f"{parent or _current.get()} > {tracer} {name} {dict(attributes)}")
        token = _current.set(name)
        try:
            yield self
        finally:
            _current.reset(token)

    def set(self, name: str, value: Value) -> None:
        self.lines.append(f"{name}={value}")

    def carrier(self) -> str:
        return _current.get()


@pytest.fixture
def kept() -> Iterator[Kept]:
    """Spans of this test."""
    recorder = Kept()
    restore = tracing.install(recorder)
    yield recorder
    restore()
