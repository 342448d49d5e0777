"""The spans of a command that is soon done: sent where the settings say, while it works.

Figures are not: a server has its own, and two processes of one name would tell them in turn. So neither is a port
opened where `prometheus` is asked for; the server beside it has that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from tallykeep.clock import SystemClock
from tallykeep.metrics import Book, Catalogue
from tallykeep.runtime.board import Board
from tallykeep.telemetry import families
from tallykeep.telemetry.settings import TelemetrySettings
from tallykeep.telemetry.work import start_telemetry


@asynccontextmanager
async def send_traces(settings: TelemetrySettings) -> AsyncIterator[None]:
    """Record spans while the context lasts; its end sends what is left.

    Raises: ConfigError for settings that cannot be used, and where OpenTelemetry is missing.
    """
    async with AsyncExitStack() as stack:
        if settings.traces:
            clock, book = SystemClock(), Book()
            board = Board(Catalogue(families.FAMILIES), book, clock)
            await start_telemetry(stack, replace(settings, metrics_exporter="none"), board, book, clock)
        yield
