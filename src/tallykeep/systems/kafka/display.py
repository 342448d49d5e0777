"""How far a run has come, on standard error: one line that is written anew on a terminal, a line now and then in a log.

Besides, it keeps up to date on /metrics what changes with time alone.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TextIO

from tallykeep.systems.kafka.figures import BackupFigures, RestoreFigures
from tallykeep.systems.kafka.summary import duration
from tallykeep.units import format_bytes

_EVERY = 5.0  # seconds between two lines of a log
_BAR = 20  # characters
_CLEAR = "\r\x1b[K"


class Display:
    """Shows `figures` while the context lasts."""

    def __init__(
        self, title: str, figures: BackupFigures | RestoreFigures, *, interval: float = 0.5, silent: bool = False,
        stream: TextIO | None = None,
    ) -> None:  # fmt: skip
        """`interval`: seconds between two looks."""
        self._title, self._figures, self._interval, self._silent = title, figures, interval, silent
        self._stream = stream or sys.stderr
        self._drawn = self._stream.isatty()
        self._said = figures.seconds
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._run(), name="display")

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._drawn and not self._silent:
            print(_CLEAR, end="", file=self._stream, flush=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            self._figures.ticked()
            if self._silent:
                continue
            if self._drawn:
                print(_CLEAR + self.line(), end="", file=self._stream, flush=True)
            elif self._figures.seconds - self._said >= _EVERY:
                self._said = self._figures.seconds
                print(self.line(), file=self._stream, flush=True)

    def line(self) -> str:
        """Where it stands."""
        totals, now = self._figures.totals, self._figures.clock.monotonic()
        rate = self._figures.records.at(now)
        share = totals.done / totals.target if totals.target else 0.0
        parts = [f"{self._title} {_bar(share)} {share:4.0%}", f"{totals.done:,} of {totals.target:,} records"]
        parts.append(f"{format_bytes(self._figures.bytes.at(now))}/s, {rate:,.0f} records/s")
        if lag := sum(totals.lag.values()):
            parts.append(f"lag {lag:,}")
        if rate and totals.left:
            parts.append(f"ETA {duration(totals.left / rate)}")
        return "  ".join(parts)


def _bar(share: float) -> str:
    full = min(_BAR, round(share * _BAR))
    return f"[{'#' * full}{'.' * (_BAR - full)}]"
