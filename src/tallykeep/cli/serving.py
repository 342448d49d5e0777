"""/metrics of a command that runs long: its own figures, on its own port, for as long as it works."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tallykeep import __version__
from tallykeep.cli.sections import TELEMETRY, sections
from tallykeep.cli.telemetry import serve_prometheus
from tallykeep.clock import SystemClock
from tallykeep.config.load import load
from tallykeep.metrics import Book, Catalogue, Family
from tallykeep.runtime import families as own
from tallykeep.runtime.board import Board
from tallykeep.runtime.health import Health
from tallykeep.runtime.runner import Runner
from tallykeep.runtime.supervisor import Supervisor, stop_tasks
from tallykeep.telemetry import families as telemetry_families
from tallykeep.telemetry.settings import TelemetrySettings
from tallykeep.telemetry.work import start_telemetry
from tallykeep.web import families as web_families
from tallykeep.web.app import MetricsApp
from tallykeep.web.listener import Listener


@asynccontextmanager
async def serve_metrics(
    book: Book, families: Iterable[Family], host: str, port: int | None, setting: str = "metrics.port"
) -> AsyncIterator[str]:
    """Serve what `book` holds of `families` while the context lasts; its URL. No `port`: nothing is served.

    What OTEL_* variables ask for is sent as well. Raises: ConfigError where the port cannot be had.
    """
    clock, health = SystemClock(), Health()
    board = Board(
        Catalogue((*families, *own.FAMILIES, *web_families.FAMILIES, *telemetry_families.FAMILIES)), book, clock
    )
    book.set(own.BUILD_INFO, 1, version=__version__, python=platform.python_version())
    supervisor = Supervisor(book, clock)
    app = MetricsApp(board, book, clock, health)
    settings: TelemetrySettings = load(sections(), os.environ, _named()).section(TELEMETRY)
    async with AsyncExitStack() as stack:
        started = await start_telemetry(stack, settings, board, book, clock)
        url = ""
        if port is not None:
            listener = Listener(app, host, port, setting=setting)
            await listener.start()
            stack.push_async_callback(listener.stop)
            url = listener.url
        await serve_prometheus(stack, settings, app, health)
        stack.push_async_callback(supervisor.stop)
        supervisor.start(started.services)
        runner = Runner(board, book, clock, health)
        runner.add(started.collectors)
        if started.collectors:
            stack.push_async_callback(stop_tasks, [asyncio.create_task(runner.run(), name="runner")])
        yield url


def _named() -> Path | None:
    from tallykeep.config.sources import CONFIG_VARIABLE

    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named) if named else None
