"""Progress of long work, on standard error: a bar on a terminal, a line now and then in a log, nothing when silent.

rich is imported only when a bar is drawn: a sidecar never pays for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TextIO

from tallykeep.units import format_bytes, format_duration

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

EVERY = 5.0  # seconds between two plain lines


class Meter(Protocol):
    """What long work reports to."""

    def advance(self, amount: float) -> None:
        """`amount` more is done."""
        ...

    def expect(self, total: float) -> None:
        """There is `total` to do, now that it is known."""
        ...


class _Silent:
    def advance(self, amount: float) -> None:
        return

    def expect(self, total: float) -> None:
        return


class _Lines:
    """A line every few seconds, and one at the end if there was any before."""

    def __init__(self, title: str, total: float | None, unit: str, stream: TextIO) -> None:
        self._title, self._total, self._unit, self._stream = title, total, unit, stream
        self._done = 0.0
        self._began = self._said = monotonic()

    def advance(self, amount: float) -> None:
        self._done += amount
        if monotonic() - self._said >= EVERY:
            self._said = monotonic()
            self.say()

    def expect(self, total: float) -> None:
        self._total = total

    def end(self) -> None:
        if self._said > self._began:
            self.say()

    def say(self) -> None:
        of = f" of {_amount(self._total, self._unit)}" if self._total else ""
        taken = format_duration(monotonic() - self._began)
        print(f"{self._title}: {_amount(self._done, self._unit)}{of} in {taken}", file=self._stream, flush=True)


class _Bar:
    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def advance(self, amount: float) -> None:
        self._bar.advance(self._task, amount)

    def expect(self, total: float) -> None:
        self._bar.update(self._task, total=total)


@contextmanager
def progress(
    title: str, *, total: float | None = None, unit: str = "bytes", silent: bool = False, stream: TextIO | None = None
) -> Iterator[Meter]:
    """A Meter for work of `total` units ("bytes", or a noun such as "files"); None where that is not known yet."""
    stream = stream or sys.stderr
    if silent:
        yield _Silent()
    elif stream.isatty():
        yield from _drawn(title, total, unit, stream)
    else:
        lines = _Lines(title, total, unit, stream)
        try:
            yield lines
        finally:
            lines.end()


def _drawn(title: str, total: float | None, unit: str, stream: TextIO) -> Iterator[Meter]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    amount = DownloadColumn(binary_units=True) if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=Console(file=stream), transient=True) as bar:
        yield _Bar(bar, bar.add_task(title, total=total))


def _amount(count: float, unit: str) -> str:
    return format_bytes(count) if unit == "bytes" else f"{count:.0f} {unit}"
