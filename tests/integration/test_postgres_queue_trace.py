"""The trace of what is to be copied goes through a real queue: from a command, and when it is asked for once more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from tests.support.offloading import postgres_settings
from tests.support.servers import need
from tests.support.spans import Kept, kept

from tallykeep.clock import SystemClock
from tallykeep.errors import TallykeepError
from tallykeep.runtime.tracing import tracer
from tallykeep.systems.postgres.offload import jetstream
from tallykeep.systems.postgres.offload.address import address_of, queue_folder
from tallykeep.systems.postgres.offload.dead_letters import announce, retry
from tallykeep.systems.postgres.offload.items import BACKUP, WAL, Item, Letter
from tallykeep.systems.postgres.offload.jetstream import Queue, connected
from tallykeep.systems.postgres.offload.nats_server import MISSING, PROGRAM, NatsServer
from tallykeep.systems.postgres.settings import PostgresSettings

__all__ = ["kept"]
pytestmark = pytest.mark.server
PATIENCE = 60.0  # seconds


@asynccontextmanager
async def queue_of(settings: PostgresSettings) -> AsyncIterator[Queue]:
    """A queue of our own that nobody serves."""
    need(PROGRAM, MISSING)
    server = asyncio.create_task(NatsServer(queue_folder(settings), SystemClock()).run())
    try:
        async with AsyncExitStack() as stack:
            yield await _connected(settings, stack)
    finally:
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)


async def _connected(settings: PostgresSettings, stack: AsyncExitStack) -> Queue:
    """Once the server is up."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(TallykeepError):
                address = await asyncio.to_thread(address_of, settings)
                return await stack.enter_async_context(connected(address, "tallykeep", 1))
            await asyncio.sleep(0.05)


async def test_the_trace_goes_on(tmp_path: Path, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command announces within its span has the span's trace; so has a dead letter that is queued again."""
    monkeypatch.setattr(jetstream, "_TIMEOUT", PATIENCE)  # each message is synced, which a disk may take its time for
    settings = postgres_settings(tmp_path)
    async with queue_of(settings) as queue:
        with tracer("klio.backup").span("backup"):
            await announce(settings, Item(BACKUP, "main", "0" * 32))
        told = await queue.take(BACKUP, PATIENCE)
        assert told is not None and told.letter.traceparent == "backup"
        await queue.bury(Letter(Item(WAL, "main", "0" * 24), "receive_block", "no room", 3))
        assert [one.traceparent for one in await retry(settings)] == ["receive_block"]
        again = await queue.take(WAL, PATIENCE)
        assert again is not None and again.letter.traceparent == "receive_block"
