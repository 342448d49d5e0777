"""Metrics on their way to a receiver: all that the Board shows, every interval, and once more at the end.

An export works off the event loop and is never begun while the last one goes on. It goes out in portions; the first
that fails ends it, and the next interval sends everything as it stands then: nothing is queued.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from threading import Lock
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource

from tallykeep import __version__
from tallykeep.clock import Clock
from tallykeep.exposition.otlp import portions
from tallykeep.runtime.board import Board
from tallykeep.runtime.threads import in_thread
from tallykeep.telemetry.words import Account

LAST_WORDS = 3.0  # seconds that the last export may take

_log = logging.getLogger(__name__)


class MetricsSender:
    """Sends what a Board shows. Times are in seconds."""

    name = "telemetry_metrics"

    def __init__(
        self, board: Board, clock: Clock, exporter: MetricExporter, resource: Resource, account: Account,
        *, interval: float, timeout: float,
    ) -> None:  # fmt: skip
        self._board = board
        self._clock = clock
        self._exporter = exporter
        self._resource = resource
        self._account = account
        self._interval = interval
        self._timeout = timeout
        self._turn = Lock()  # an export whose caller was cancelled goes on in its thread

    async def run(self) -> None:
        """Send every interval until cancelled."""
        due = self._clock.monotonic() + self._interval
        while True:
            await self._clock.sleep(due - self._clock.monotonic())
            await self.send()
            due = max(due + self._interval, self._clock.monotonic())

    async def send(self) -> None:
        """Send everything once. What fails is counted and logged."""
        await in_thread(self._send_in_turn)

    async def close(self) -> None:
        """Send everything a last time, for at most LAST_WORDS seconds."""
        try:
            await asyncio.wait_for(self.send(), LAST_WORDS)
        except TimeoutError:
            _log.warning("the last metrics were not sent: the receiver did not take them within %g s", LAST_WORDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(in_thread(self._exporter.shutdown), 1.0)

    def _send_in_turn(self) -> None:
        with self._turn:
            self._send()

    def _send(self) -> None:
        snapshots = self._board.view().snapshots
        deadline = self._clock.monotonic() + self._timeout
        sent = 0
        for portion in portions(snapshots, self._resource, __version__, self._clock.time()):
            count = _count(portion)
            if self._clock.monotonic() > deadline:
                self._account.failed(count, f"an export took longer than {self._timeout:g} s")
                return
            if self._exporter.export(portion) is not MetricExportResult.SUCCESS:
                self._account.failed(count)
                return
            sent += count
        self._account.succeeded(sent, self._clock.time())


def _count(portion: MetricsData) -> int:
    return sum(len(metric.data.data_points) for metric in _metrics(portion))


def _metrics(portion: MetricsData) -> Iterable[Any]:
    for one in portion.resource_metrics:
        for scope in one.scope_metrics:
            yield from scope.metrics
