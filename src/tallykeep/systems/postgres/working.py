"""What every command of `tallykeep postgres` does around its work: settings, clusters, telemetry, Ctrl-C, output."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

from tallykeep.clock import Clock, SystemClock
from tallykeep.errors import ConfigError
from tallykeep.metrics import Book
from tallykeep.runtime.signals import stop_requested
from tallykeep.systems.postgres.cluster import Cluster, clusters_of
from tallykeep.systems.postgres.settings import PostgresSettings

INTERRUPTED = 130
NO_ANSWER = 3


@dataclass(frozen=True, slots=True)
class Work:
    """What commands work with."""

    args: argparse.Namespace
    settings: PostgresSettings
    clusters: list[Cluster]
    book: Book
    clock: Clock

    def one(self) -> Cluster:
        """The cluster that is meant. Raises: ConfigError where that is not clear."""
        if len(self.clusters) == 1:
            return self.clusters[0]
        names = ", ".join(cluster.name for cluster in self.clusters)
        raise ConfigError(f"postgres: several clusters are configured; choose one with --cluster: {names}")


def run_work(args: argparse.Namespace, work: Callable[[Work], Coroutine[Any, Any, int]]) -> int:
    """Run `work` with the clusters that are meant; its exit status, or 130 after Ctrl-C.

    Its spans are sent where the settings say so. Raises: TallykeepError.
    """
    return asyncio.run(_worked(args, work))


async def _worked(args: argparse.Namespace, work: Callable[[Work], Coroutine[Any, Any, int]]) -> int:
    config = args.load_config(args.config)
    settings: PostgresSettings = config.section("postgres")
    clusters = clusters_of(settings, args.cluster)
    if not clusters:
        raise ConfigError(
            "postgres: no cluster is configured: set TALLYKEEP_POSTGRES_URL, or name one in tallykeep.yaml"
        )
    book = Book()
    async with AsyncExitStack() as stack:
        for cluster in clusters:
            stack.push_async_callback(cluster.close)
        stop = stop_requested()
        await stack.enter_async_context(args.send_traces(config))
        return await _until(stop, work(Work(args, settings, clusters, book, SystemClock())))


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, int]) -> int:
    """What `work` returns; once `stop` is set it is cancelled, and its end waited for."""
    task = asyncio.ensure_future(work)
    return task.result() if await ended_before(stop, task) else INTERRUPTED


async def ended_before(stop: asyncio.Event, task: asyncio.Future[Any]) -> bool:
    """Wait for the end of `task`; false where `stop` was set first: it was cancelled then, and its end waited for.

    Raises: what the task raises.
    """
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return False
    finally:
        stopping.cancel()
