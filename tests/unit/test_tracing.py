"""Spans that nobody records, and those that somebody does."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.spans import Kept, kept

from tallykeep.runtime import tracing
from tallykeep.runtime.threads import in_thread

__all__ = ["kept"]


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
