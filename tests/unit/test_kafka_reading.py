"""A backup as it is read: what it adds up to, and what is refused before it is used."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.clock import FakeClock
from tests.support.kafka_backup import ORDERS, a_segment, write_segments

from tallykeep.errors import IntegrityError, NotFound
from tallykeep.storage.memory import MemoryStore
from tallykeep.systems.kafka.chain import Chain
from tallykeep.systems.kafka.committing import store_segment
from tallykeep.systems.kafka.failures import code_of
from tallykeep.systems.kafka.manifest import CompleteEntry, SegmentEntry, StartEntry, key_of, segment_entry
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.segment import batches
from tallykeep.systems.kafka.snapshot import Snapshot, SnapshotGroup, SnapshotOffset, SnapshotTopic

RUN = "ab" * 16
SNAPSHOT = Snapshot(
    RUN, "cluster", "localhost:9092", 1.5, "full", [SnapshotTopic("orders", ORDERS.topic_id, 1, {}, [])],
    [SnapshotGroup("billing", "Empty", "consumer", [SnapshotOffset("orders", 0, 4, "", -1)])],
)  # fmt: skip


async def opened(store: MemoryStore, upto: int | None = None) -> BackupSet:
    return await BackupSet.open(store, FakeClock(), upto=upto)


async def a_run(store: MemoryStore) -> None:
    """A fence, a snapshot, three segments and the run's end: records 1 to 6."""
    chain = await Chain.open(store, FakeClock())
    await chain.take_over()
    data = SNAPSHOT.encode()
    entry = SNAPSHOT.entry(data)
    await store.create(entry.key, data)
    await chain.append([entry, StartEntry(*ORDERS, 0)])
    for start in (0, 9, 18):
        sealed = a_segment(start)
        await store_segment(store, sealed)
        await chain.append([segment_entry(sealed)])
    await chain.append([CompleteEntry(RUN, 27, 1500, 1500, 2.0)])


async def test_what_it_adds_up_to() -> None:
    """Segments, runs that began and runs that were completed, and how far the chain goes."""
    await a_run(store := MemoryStore())
    backup = await opened(store)
    held = backup.held[ORDERS]
    assert (held.start, held.checkpoint, len(held.segments), backup.sequence) == (0, 27, 3, 6)
    assert [entry.run for entry in backup.snapshots] == list(backup.completed) == [RUN]
    assert await backup.snapshot() == SNAPSHOT
    assert backup.newest_incarnation("orders") == ORDERS.topic_id


async def test_as_it_was_before() -> None:
    """A reader that began with some records goes on with exactly these, whatever was added since."""
    await a_run(store := MemoryStore())
    early = await opened(store, 4)
    assert (early.sequence, early.held[ORDERS].checkpoint, early.completed) == (4, 18, {})


async def test_no_backup() -> None:
    """Where there is no manifest it is said, with the published code, and not taken for an empty backup."""
    with pytest.raises(NotFound, match="holds no backup") as caught:
        await opened(MemoryStore())
    assert code_of(caught.value) == "VALIDATION_BACKUP_NOT_FOUND"


async def test_last_records_removed() -> None:
    """That the end of a chain was cut off cannot be seen from the chain; who knows how far it went sees it."""
    await a_run(store := MemoryStore())
    for sequence in (6, 5):
        await store.delete(key_of(sequence))
    assert (await opened(store)).held[ORDERS].checkpoint == 18
    with pytest.raises(IntegrityError, match="ends at record 4, and there was a record 6"):
        await opened(store, 6)


async def test_records_that_cannot_be() -> None:
    """A record that is missing, changed, or from another backup is named, wherever it stands."""
    await a_run(other := MemoryStore())
    for sequence in range(1, 6):
        await a_run(store := MemoryStore())
        data = await store.read(key_of(sequence))
        await store.delete(key_of(sequence))
        with pytest.raises(IntegrityError, match=f"{key_of(sequence)} is missing"):
            await opened(store)
        await store.create(key_of(sequence), data[:20] + b"?" + data[21:])
        with pytest.raises(IntegrityError, match=key_of(sequence)):
            await opened(store)
        await store.replace(key_of(sequence), await other.read(key_of(sequence)))
        with pytest.raises(IntegrityError, match=f"{key_of(max(2, sequence))}|{key_of(sequence + 1)}"):
            await opened(store)


@pytest.mark.parametrize("start", [6, 12], ids=["overlap", "hole"])
async def test_defect_15_continuity(start: int) -> None:
    """Segments that overlap, or leave offsets between them, are refused with record and partition: each object by
    itself is sound, which is all that the peer's validation looks at."""
    store = MemoryStore()
    chain = await write_segments(store, 0)
    sealed = a_segment(start)
    await store_segment(store, sealed)
    await chain.append([segment_entry(sealed)])
    with pytest.raises(IntegrityError, match=rf"{key_of(3)}: orders-0 .* to offset 9, and goes on with {start}"):
        await opened(store)


async def test_objects_are_proved() -> None:
    """A segment, an index and a snapshot come back as they were written, or are refused by name."""
    await a_run(store := MemoryStore())
    backup = await opened(store)
    entry = backup.held[ORDERS].segments[1]
    index, data = await backup.segment(entry)
    assert sum(batch.header.record_count for batch in batches(index, data, "segment")) == entry.records
    for key in (entry.key, entry.index_key, backup.snapshots[0].key):
        sound = await store.read(key)
        await store.replace(key, sound[:-1] + bytes([sound[-1] ^ 1]))
        with pytest.raises(IntegrityError, match=key):
            await backup.segment(entry)
            await backup.snapshot()
        await store.delete(key)
        with pytest.raises(NotFound, match=key):
            await backup.segment(entry)
            await backup.snapshot()
        await store.create(key, sound)


async def test_swapped_objects() -> None:
    """Two segments, or two indexes, that were exchanged are found, though each is sound by itself; so is an index that
    is sound and belongs to another segment than the manifest says."""
    await a_run(store := MemoryStore())
    backup = await opened(store)
    first, second, _ = backup.held[ORDERS].segments
    for one, other in ((first.key, second.key), (first.index_key, second.index_key)):
        left, right = await store.read(one), await store.read(other)
        await store.replace(one, right)
        with pytest.raises(IntegrityError, match=one):
            await backup.segment(first)
        await store.replace(one, left)
    lying: SegmentEntry = replace(first, index_key=second.index_key, index_hash=second.index_hash)
    with pytest.raises(IntegrityError, match="index of another segment"):
        await backup.index(lying)


async def test_topic_made_again() -> None:
    """Of a topic that was deleted and made again the newest incarnation is meant, unless another one is asked for."""
    await a_run(store := MemoryStore())
    chain = await Chain.open(store, FakeClock())
    await chain.take_over()
    await chain.append([StartEntry("orders", "f" * 32, 0, 0)])
    backup = await opened(store)
    assert backup.newest_incarnation("orders") == "f" * 32
    with pytest.raises(NotFound, match="'nothing' is not in this backup"):
        backup.newest_incarnation("nothing")
