"""Backups made of records, and what a restore makes of them, without a broker."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.support.clock import FakeClock

from tallykeep.storage.memory import MemoryStore
from tallykeep.storage.store import Store
from tallykeep.systems.kafka.chain import Chain
from tallykeep.systems.kafka.committing import commit, store_segment
from tallykeep.systems.kafka.held import Incarnation, add_up
from tallykeep.systems.kafka.index import SegmentIndex
from tallykeep.systems.kafka.manifest import CompleteEntry, SegmentEntry, StartEntry, segment_entry
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.restoring.choosing import Window
from tallykeep.systems.kafka.restoring.outgoing import Outgoing, Stint
from tallykeep.systems.kafka.restoring.stream import PartitionStream
from tallykeep.systems.kafka.segment import Sealed, SegmentBuilder
from tallykeep.systems.kafka.snapshot import Snapshot, SnapshotPartition, SnapshotTopic
from tallykeep.systems.kafka.wire import Aborted, Record, decode_records, only
from tallykeep.systems.kafka.wire.checksum import crc32c

STINT = Stint(100, 7, 1)
ALWAYS = Window()


@dataclass
class Stored:
    """Segments in a store."""

    store: Store = field(default_factory=MemoryStore)
    entries: list[SegmentEntry] = field(default_factory=list)

    async def add(self, sealed: Sealed) -> None:
        """One segment more."""
        await store_segment(self.store, sealed)
        self.entries.append(segment_entry(sealed))

    async def index(self, entry: SegmentEntry) -> SegmentIndex:
        """As BackupSet's."""
        return SegmentIndex.decode(await self.store.read(entry.index_key), entry.index_key)


async def sent(
    stored: Stored, *, window: Window = ALWAYS, largest: int = 1 << 20, reached: int = STINT.start,
    stints: Sequence[Stint] = (STINT,),
) -> tuple[list[Outgoing], list[tuple[int, int, int]]]:  # fmt: skip
    """What goes out, and the runs of the offset map."""
    stream = PartitionStream(stored, stored.entries, stints, reached, window, largest)
    found = [one async for batches in stream.batches() for one in batches]
    return found, stream.assembler.runs


def whole(one: Outgoing) -> bytes:
    """A batch as the broker gets it."""
    return one.head + bytes(one.payload)


def records_of(one: Outgoing) -> list[Record]:
    """The records, with the offsets that the target gives them."""
    found = decode_records(only(whole(one)))
    return [record._replace(offset=record.offset + one.offset) for record in found]


def with_attributes(data: bytes, attributes: int, **fields: int) -> bytes:
    """A batch with more attributes (and other fields of its header), its checksum made to fit."""
    batch = only(data)
    header = batch.header._replace(attributes=batch.header.attributes | attributes, **fields)
    out = bytearray(header.encode() + bytes(batch.payload))
    out[17:21] = crc32c(memoryview(out)[21:]).to_bytes(4, "big")
    return bytes(out)


TOPIC_ID = "1" * 32


def a_topic(name: str, partitions: int = 1, topic_id: str = TOPIC_ID, end: int = 9, **configs: str) -> SnapshotTopic:
    """A topic as a snapshot has it; dots in the names of settings are written as underscores."""
    parts = [SnapshotPartition(number, 0, 0, end, end) for number in range(partitions)]
    named = {key.replace("_", "."): value for key, value in configs.items()}
    return SnapshotTopic(name, topic_id, 1, named, parts)


async def a_run(store: Store, topics: Sequence[SnapshotTopic], segments: Sequence[Sealed] = ()) -> BackupSet:
    """One more run of a backup in `store`, and the backup then."""
    chain = await Chain.open(store, FakeClock())
    await chain.take_over()
    snapshot = Snapshot(secrets.token_hex(16), "source", "localhost:9092", 0.0, "full", topics, [])
    data = snapshot.encode()
    entry = snapshot.entry(data)
    await store.create(entry.key, data)
    held = add_up(chain.records)
    places = [Incarnation(topic.name, topic.topic_id, part.partition) for topic in topics for part in topic.partitions]
    await chain.append([entry, *(StartEntry(*place, 0) for place in places if place not in held)])
    for sealed in segments:
        await commit(store, chain, [sealed])
    await chain.append([CompleteEntry(snapshot.run, 0, 0, 0, 0.0)])
    return await BackupSet.open(store, FakeClock())


def a_log(topic: str, batches: Sequence[bytes], *, partition: int = 0, topic_id: str = TOPIC_ID, start: int = 0,
          aborted: Sequence[Aborted] = ()) -> Sealed:  # fmt: skip
    """A segment of these batches."""
    builder = SegmentBuilder(topic, topic_id, partition, start)
    for data in batches:
        batch = only(data)
        seen = decode_records(batch)
        builder.add(batch, uncompressed=len(data), min_timestamp=min(record.timestamp for record in seen))
    builder.aborted(aborted)
    return builder.seal()
