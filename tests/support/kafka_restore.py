"""Backups made of records, and what a restore makes of them, without a broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tallykeep.storage.memory import MemoryStore
from tallykeep.storage.store import Store
from tallykeep.systems.kafka.committing import store_segment
from tallykeep.systems.kafka.index import SegmentIndex
from tallykeep.systems.kafka.manifest import SegmentEntry, segment_entry
from tallykeep.systems.kafka.restoring.choosing import Window
from tallykeep.systems.kafka.restoring.outgoing import Outgoing, Stint
from tallykeep.systems.kafka.restoring.stream import PartitionStream
from tallykeep.systems.kafka.segment import Sealed
from tallykeep.systems.kafka.wire import Record, decode_records, only
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
