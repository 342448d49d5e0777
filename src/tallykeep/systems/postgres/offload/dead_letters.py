"""`queue list-failed`, `queue retry` and `queue status`: what commands ask of the queue, from another process."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from tallykeep.errors import ConfigError
from tallykeep.runtime.threads import in_thread
from tallykeep.runtime.tracing import carrier
from tallykeep.systems.postgres.offload.address import address_of
from tallykeep.systems.postgres.offload.items import Item, Letter
from tallykeep.systems.postgres.offload.jetstream import Failed, Queue, StreamState, connected
from tallykeep.systems.postgres.settings import PostgresSettings


async def list_failed(settings: PostgresSettings) -> list[Failed]:
    """What was given up, in the order in which it failed. Raises: Unreachable; Refused."""
    address = await in_thread(address_of, settings)
    async with connected(address, settings.queue.prefix, settings.queue.replicas) as queue:
        return [dead async for dead in queue.dead()]


async def retry(settings: PostgresSettings, ids: Collection[str] = ()) -> list[Failed]:
    """Queue what was given up once more, all of it or those of these ids; what was queued.

    Raises: ConfigError for an id that there is not; Unreachable; Refused.
    """
    address = await in_thread(address_of, settings)
    async with connected(address, settings.queue.prefix, settings.queue.replicas) as queue:
        failed = [dead async for dead in queue.dead()]
        unknown = set(ids) - {dead.id for dead in failed}
        if unknown:
            raise ConfigError(*(f"{id}: nothing of that id has failed; see list-failed" for id in sorted(unknown)))
        wanted = [dead for dead in failed if not ids or dead.id in ids]
        for dead in wanted:
            await _again(queue, dead)
        return wanted


async def queue_states(settings: PostgresSettings) -> list[StreamState]:
    """How much each stream holds. Raises: Unreachable; Refused."""
    address = await in_thread(address_of, settings)
    async with connected(address, settings.queue.prefix, settings.queue.replicas) as queue:
        return await queue.states()


async def announce(settings: PostgresSettings, item: Item) -> None:
    """Queue something to copy, for a command beside a running server. Raises: Unreachable; Refused."""
    address = await in_thread(address_of, settings)
    async with connected(address, settings.queue.prefix, settings.queue.replicas) as queue:
        await queue.put(Letter(item, carrier()), secrets.token_hex(8))


async def _again(queue: Queue, dead: Failed) -> None:
    """With an id of its own: it is no duplicate of what failed. Its trace goes on."""
    await queue.put(Letter(dead.item, dead.traceparent), secrets.token_hex(8))
    await queue.forget(dead.item)
