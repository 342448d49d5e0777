"""Spans that nobody records, and those that somebody does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import pytest

from tallykeep.runtime import tracing
from tallykeep.runtime.threads import in_thread
from tallykeep.runtime.tracing import Span, Value

_current: ContextVar[str] = ContextVar("_current", default="")


class Kept:
    """A recorder that keeps spans as lines; a span is its own context."""

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
    recorder = Kept()
    restore = tracing.install(recorder)
    yield recorder
    restore()


def test_nobody_records() -> None:
    """Without a recorder a span does nothing, lets errors through and carries nothing."""
    with tracing.tracer("klio.backup").span("backup", {"backup.name": "b"}) as span:
        span.set("x", 1)
        assert tracing.carrier() == ""
    with pytest.raises(ValueError, match="mine"), tracing.tracer("t").span("s"):
        raise ValueError("mine")


async def test_spans_nest_across_tasks_and_threads(kept: Kept) -> None:
    """What is done in a task or thread begun inside a span is below it; a carried parent wins."""
    tracer = tracing.tracer("t")

    def work() -> None:
        with tracer.span("in_thread"):
            pass

    async def task() -> None:
        with tracer.span("in_task", {"n": 1}) as span:
            span.set("x", 2)

    with tracer.span("outer"):
        await asyncio.gather(asyncio.create_task(task()), in_thread(work))
        with tracer.span("elsewhere", parent="carried"):
            pass
    assert sorted(kept.lines) == [
        " > t outer {}",
        "carried > t elsewhere {}",
        "outer > t in_task {'n': 1}",
        "outer > t in_thread {}",
        "x=2",
    ]


def test_a_tracer_made_before_the_recorder_uses_it(kept: Kept) -> None:
    """Tracers are made at import: what is installed later records their spans, and not after it was taken away."""
    tracer = tracing.tracer("t")
    inner = Kept()
    restore = tracing.install(inner)
    with tracer.span("first"):
        assert tracing.carrier() == "first"
    restore()
    with tracer.span("second"):
        pass
    assert inner.lines == [" > t first {}"]
    assert kept.lines == [" > t second {}"]
