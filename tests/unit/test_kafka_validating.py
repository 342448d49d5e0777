"""What `validate` finds: everything that is not as it was, by its name, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.clock import FakeClock
from tests.support.kafka_backup import ORDERS, a_batch

from tallykeep.errors import NotFound
from tallykeep.storage.memory import MemoryStore
from tallykeep.systems.kafka.chain import Chain
from tallykeep.systems.kafka.committing import store_segment
from tallykeep.systems.kafka.manifest import CompleteEntry, Entry, segment_entry
from tallykeep.systems.kafka.segment import Sealed, SegmentBuilder
from tallykeep.systems.kafka.snapshot import Snapshot, SnapshotPartition, SnapshotTopic
from tallykeep.systems.kafka.validating import Expected, Report, validate
from tallykeep.systems.kafka.wire import HEADER_SIZE, Aborted, BatchHeader, Codec, Record, encode_batch, only
from tallykeep.systems.kafka.wire.checksum import crc32c
from tallykeep.systems.kafka.wire.header import CRC_START

RUN = "ab" * 16


def a_segment(start: int, batches: int = 3, *, codec: Codec = Codec.NONE, pack: Codec = Codec.NONE) -> Sealed:
    """A segment of batches of three records each, with what is true of them, and an aborted list."""
    builder = SegmentBuilder(*ORDERS, start, pack=pack)
    for first in range(start, start + 3 * batches, 3):
        size = len(a_batch(first))
        builder.add(only(a_batch(first, codec=codec)), uncompressed=size, min_timestamp=1000 + first)
    builder.aborted([Aborted(7, start)])
    return builder.seal()


def a_snapshot(end: int = 18) -> Snapshot:
    part = SnapshotPartition(0, 0, 0, end, end)
    topic = SnapshotTopic("orders", ORDERS.topic_id, 1, {}, [part])
    return Snapshot(RUN, "cluster", "kafka:9092", 1.0, "full", [topic], [])


async def a_backup(*segments: Sealed, end: int = 18, entries: Sequence[Entry] = ()) -> MemoryStore:
    """One complete run, of these segments; `entries`: what the manifest says of them, if it is not the truth."""
    store = MemoryStore()
    chain = await Chain.open(store, FakeClock())
    await chain.take_over()
    data = (snapshot := a_snapshot(end)).encode()
    entry = snapshot.entry(data)
    await store.create(entry.key, data)
    await chain.append([entry])
    for sealed in segments:
        await store_segment(store, sealed)
    for one in entries or [segment_entry(sealed) for sealed in segments]:
        await chain.append([one])
    await chain.append([CompleteEntry(RUN, 1, 1, 1, 1.0)])
    return store


async def small() -> MemoryStore:
    return await a_backup(a_segment(0, codec=Codec.ZSTD), a_segment(9, pack=Codec.LZ4))


async def look(store: MemoryStore, *, deep: bool = True, expected: Expected | None = None) -> Report:
    return await validate(store, FakeClock(), deep=deep, expected=expected)


def messages(report: Report) -> str:
    return "\n".join(problem.message for problem in report.problems)


async def objects(store: MemoryStore) -> dict[str, bytes]:
    keys = [info.key async for page in store.list() for info in page]
    return {key: await store.read(key) for key in sorted(keys)}


@pytest.mark.parametrize("deep", [False, True])
async def test_sound(deep: bool) -> None:
    """A backup with a run, packed and compressed segments and an aborted list has no problem and no note."""
    report = await look(await small(), deep=deep)
    assert (report.problems, report.notes) == ([], [])
    assert (report.segments, report.records, report.runs, report.completed) == (2, 18, 1, 1)
    assert report.proved == (2 if deep else 0)


async def test_nothing_there() -> None:
    """Where there is no backup that is said, and not that it is sound."""
    with pytest.raises(NotFound, match="holds no backup"):
        await look(MemoryStore())


_SMALL = asyncio.run(small())
_OBJECTS = asyncio.run(objects(_SMALL))


async def _changed(key: str, data: bytes | None) -> MemoryStore:
    store = MemoryStore()
    for name, content in _OBJECTS.items():
        if name != key:
            await store.create(name, content)
    if data is not None:
        await store.create(key, data)
    return store


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(_OBJECTS)), st.data())
def test_any_changed_byte_is_named(key: str, data: st.DataObject) -> None:
    """Whatever bit changes of manifest, snapshot, index or segment, `--deep` names the object."""
    content = bytearray(_OBJECTS[key])
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    report = asyncio.run(_reported(key, bytes(content)))
    assert key in messages(report)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(_OBJECTS)), st.data())
def test_any_cut_object_is_named(key: str, data: st.DataObject) -> None:
    """An object that was cut, or to which something was added, is named without reading it, be it a segment or not."""
    content = _OBJECTS[key]
    kept = data.draw(st.integers(0, len(content) - 1))
    for changed in (content[:kept], content + b"x"):
        assert key in messages(asyncio.run(_reported(key, changed, deep=False)))


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("key", sorted(_OBJECTS))
async def test_removed_objects_are_named(key: str, deep: bool) -> None:
    """An object that is gone is named; the manifest's last record is told by the sequence it was seen to reach."""
    report = await look(await _changed(key, None), deep=deep, expected=Expected(5))
    assert key in messages(report)
    assert not report.sound


async def test_swapped_objects_are_named() -> None:
    """Two objects that have changed places are named, even where they have the same size."""
    keys = [key for key in _OBJECTS if key.endswith(".batches")]
    for first, second in (keys, [key for key in _OBJECTS if key.startswith("manifest/")][2:4]):
        store = await _changed(first, _OBJECTS[second])
        await store.replace(second, _OBJECTS[first])
        report = await look(store)
        assert first in messages(report)
        assert second in messages(report) or first.startswith("manifest/")


async def _reported(key: str, data: bytes, *, deep: bool = True) -> Report:
    return await look(await _changed(key, data), deep=deep)


async def test_an_end_that_was_cut_off() -> None:
    """A manifest without its last records is sound by itself; with what `status` told before it is not."""
    report = await look(_SMALL)
    assert report.sequence == 5
    store = await _changed(max(key for key in _OBJECTS if key.startswith("manifest/")), None)
    assert (await look(store)).sound
    cut = await look(store, expected=Expected(5))
    assert [problem.code for problem in cut.problems] == ["VALIDATION_MANIFEST_CORRUPT"]
    assert "its end has been cut off" in messages(cut)
    assert (await look(_SMALL, expected=Expected.parse(f"5:{report.head}"))).sound
    assert "has been replaced" in messages(await look(_SMALL, expected=Expected(5, "blake3:00")))


async def test_what_nothing_names_is_a_note() -> None:
    """Objects that a killed run left are noted with their names, and are no problem."""
    store = await _changed("", None)
    await store_segment(store, a_segment(18))
    report = await look(store)
    assert report.sound
    [note] = report.notes
    assert "2 objects are named by no record" in note
    assert "00000000000000000018" in note


async def test_15_offsets_that_overlap_or_are_missing() -> None:
    """Segments that overlap, or leave offsets out, are found in the manifest alone, though every object is there."""
    for second in (6, 12):
        report = await look(await a_backup(a_segment(0), a_segment(second)), deep=False)
        assert "this manifest contradicts itself" in messages(report)
        assert "was backed up to offset 9" in messages(report)


@pytest.mark.parametrize("field", ["records", "raw", "uncompressed", "min_timestamp", "max_timestamp", "end"])
async def test_a_manifest_that_says_other_things(field: str) -> None:
    """Figures in the manifest that are not those of the segment are found by reading it."""
    entry = segment_entry(sealed := a_segment(0, batches=6))
    changes: dict[str, Any] = {field: getattr(entry, field) + 1}
    wrong = replace(entry, **changes)
    report = await look(await a_backup(sealed, entries=[wrong]))
    assert not report.sound
    assert sealed.index_key in messages(report) or sealed.key in messages(report)


def sealed_with(*batches: bytes, end: int = 18, aborted: Sequence[Aborted] = (), **figures: int) -> Sealed:
    builder = SegmentBuilder(*ORDERS, 0)
    for data in batches:
        builder.add(only(data), **figures)
    builder.aborted(aborted)
    builder.vouch(end)
    return builder.seal()


async def test_an_index_that_says_other_things() -> None:
    """Sizes and least timestamps in an index that are not those of the records are found, though every hash holds."""
    sound = await look(await a_backup(sealed_with(a_batch(0), uncompressed=len(a_batch(0)), min_timestamp=1000)))
    assert sound.sound, messages(sound)
    size = await look(await a_backup(sealed_with(a_batch(0), uncompressed=7)))
    assert "bytes uncompressed, and its index says 7" in messages(size)
    least = await look(await a_backup(sealed_with(a_batch(0), min_timestamp=1001)))
    assert "least timestamp is 1000, and its index says 1001" in messages(least)


async def test_a_run_that_did_not_reach_its_cut() -> None:
    """A run that is said to be complete, and is not, is found by what it was to take."""
    report = await look(await a_backup(a_segment(0), end=10), deep=False)
    assert "of orders-0 the backup has offsets up to 9 instead of up to 10" in messages(report)


def in_transaction(first: int, producer: int = 7) -> bytes:
    """Three records of a transaction."""
    records = [Record(offset, 1000, None, b"v") for offset in range(first, first + 3)]
    return _restamped(encode_batch(records, Codec.NONE), 0x10, producer)


def marker(offset: int, kind: int, producer: int = 7) -> bytes:
    """The end of a transaction: 0 aborts, 1 commits."""
    key = b"\0\0" + kind.to_bytes(2, "big")
    return _restamped(encode_batch([Record(offset, 1000, key, b"\0\0\0\0\0\0")], Codec.NONE), 0x30, producer)


def _restamped(data: bytes, attributes: int, producer: int) -> bytes:
    header = BatchHeader.decode(data)._replace(attributes=attributes, producer_id=producer, producer_epoch=0)
    changed = header.encode() + data[HEADER_SIZE:]
    return header._replace(crc=crc32c(changed[CRC_START:])).encode() + data[HEADER_SIZE:]


async def test_lists_of_aborted_transactions() -> None:
    """A list that does not name a transaction which was aborted, or names one that was committed, is found: restores
    go by these lists."""
    for kind, aborted, problem in (
        (0, [Aborted(7, 0)], ""),
        (1, [], ""),
        (0, [], "its records would be restored"),
        (1, [Aborted(7, 0)], "its records would not be restored"),
    ):
        sealed = sealed_with(in_transaction(0), marker(3, kind), aborted=aborted)
        report = await look(await a_backup(sealed))
        assert report.sound is (not problem)
        assert problem in messages(report)


async def test_batches_that_nobody_can_read() -> None:
    """What a producer sent broken, and Kafka kept, is in the backup as it was sent: a note, and no problem."""
    report = await look(await a_backup(sealed_with(_restamped(a_batch(0), Codec.ZSTD, -1))))
    assert report.sound, messages(report)
    assert "cannot be read by anybody" in report.notes[0]
