"""What a backup holds, record by record, to be compared with what a real consumer reads; and runs in a few words."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.kafka import KafkaServer
from tests.support.kafka_corpus import Read, Seen
from tests.support.kafka_live import Silent, client

from tallykeep.clock import SystemClock
from tallykeep.storage.store import Store
from tallykeep.systems.kafka.backup import back_up
from tallykeep.systems.kafka.backup_request import BackupRequest, BackupResult
from tallykeep.systems.kafka.held import Held, Incarnation
from tallykeep.systems.kafka.index import Row
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.segment import batches
from tallykeep.systems.kafka.selecting import Selection
from tallykeep.systems.kafka.transactions import AbortedTransactions
from tallykeep.systems.kafka.wire import decode_records


async def a_run(
    kafka: KafkaServer, store: Store, *topics: str, stop: asyncio.Event | None = None, figures: Silent | None = None,
    **settings: Any,
) -> BackupResult:  # fmt: skip
    """One run of these topics (patterns)."""
    request = BackupRequest(topics=Selection(include=topics), **settings)
    async with client(kafka) as (cluster, brokers):
        return await back_up(
            request, cluster, brokers, store, SystemClock(), figures or Silent(), stop or asyncio.Event()
        )


async def what_is_held(store: Store) -> Read:
    """Every committed record of the newest incarnation of each topic, with its offset, each object proved."""
    backup = await BackupSet.open(store, SystemClock())
    found: Read = {}
    for incarnation, held in backup.held.items():
        if incarnation.topic_id == backup.newest_incarnation(incarnation.topic):
            found[incarnation.topic, incarnation.partition] = await _records(backup, held)
    return found


async def partition_of(store: Store, topic: str, partition: int = 0) -> Held:
    """What the newest incarnation has of a partition."""
    backup = await BackupSet.open(store, SystemClock())
    return backup.held[Incarnation(topic, backup.newest_incarnation(topic), partition)]


async def _records(backup: BackupSet, held: Held) -> list[tuple[int, Seen]]:
    transactions, found = AbortedTransactions(), list[tuple[int, Seen]]()
    for entry in held.segments:
        index, data = await backup.segment(entry)
        transactions.note(index.aborted)
        for batch in batches(index, data, entry.key):
            if transactions.hides(Row.of(batch.header, 0, 0)):
                continue
            for record in decode_records(batch):
                if not entry.start <= record.offset < entry.end:
                    continue
                headers = tuple((name.decode(), value) for name, value in record.headers)
                found.append((record.offset, Seen(record.timestamp, record.key, record.value, headers)))
    return found
