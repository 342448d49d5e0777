"""KRB1: what is written is read back, and bytes of anybody are refused with one error."""

from __future__ import annotations

import json
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st
from tests.support.kafka_backup import ORDERS, a_segment

from tallykeep.errors import IntegrityError
from tallykeep.systems.kafka.index import Extent, Row, SegmentIndex
from tallykeep.systems.kafka.manifest import (
    CompleteEntry,
    Entry,
    GapEntry,
    Record,
    SnapshotEntry,
    StartEntry,
    segment_entry,
)
from tallykeep.systems.kafka.segment import batches
from tallykeep.systems.kafka.snapshot import (
    Snapshot,
    SnapshotGroup,
    SnapshotOffset,
    SnapshotPartition,
    SnapshotTopic,
)
from tallykeep.systems.kafka.wire import Aborted, Codec
from tallykeep.systems.kafka.wire.checksum import crc32c

int16, int32, int64 = (st.integers(-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (16, 32, 64))
unsigned = st.integers(0, (1 << 32) - 1)
rows = st.builds(Row, int64, int32, int32, int64, int64, int32, int64, unsigned, int16, int32, int64)
names = st.text(min_size=1, max_size=20)
texts = st.text(max_size=9)
seconds = st.floats(0, 1e12)
runs = st.one_of(
    st.builds(GapEntry, names, names, int32, int64, int64, names),
    st.builds(StartEntry, names, names, int32, int64),
    st.builds(SnapshotEntry, names, names, names, int64, int32, int32, int32),
    st.builds(CompleteEntry, names, int64, int64, int64, seconds),
)
partitions = st.builds(SnapshotPartition, int32, int64, int64, int64, int64)
topics = st.builds(
    SnapshotTopic, texts, texts, int32, st.dictionaries(texts, texts, max_size=3), st.lists(partitions, max_size=3)
)
offsets = st.builds(SnapshotOffset, texts, int32, int64, texts, int32)
groups = st.builds(SnapshotGroup, texts, texts, texts, st.lists(offsets, max_size=3))
snapshots = st.builds(
    Snapshot, texts, texts, texts, seconds, texts, st.lists(topics, max_size=3), st.lists(groups, max_size=3)
)
anything = st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=4))


@given(names, st.lists(rows, max_size=6), st.lists(st.builds(Aborted, int64, int64), max_size=3), int64)
def test_index_comes_back(topic: str, wanted: list[Row], aborted: list[Aborted], end: int) -> None:
    """An index of any figures that the columns can hold comes back."""
    extents = [Extent(1, row.size, 1, Codec.NONE) for row in wanted]
    index = SegmentIndex(topic, "0" * 32, 0, 0, end, wanted, extents, aborted)
    assert SegmentIndex.decode(index.encode(), "index") == index


@given(names, st.integers(0), names, st.booleans(), st.lists(runs))
def test_record_comes_back(writer: str, number: int, previous: str, fence: bool, gaps: list[Entry]) -> None:
    """A record of any content comes back, and is one object of two lines."""
    entries: tuple[Entry, ...] = (*gaps, segment_entry(a_segment()))
    record = Record(number, number, writer, previous, 1.5, fence, entries)
    assert Record.decode(record.encode(), "record") == record
    assert [set(json.loads(line)) for line in record.encode().splitlines()][1] == {"hash"}


@given(snapshots)
def test_snapshot_comes_back(wanted: Snapshot) -> None:
    """A snapshot of any content comes back."""
    assert Snapshot.decode(wanted.encode(), "snapshot") == wanted


@given(snapshots, st.dictionaries(st.sampled_from(["format", "time", "topics", "groups"]), anything))
def test_hostile_snapshot(wanted: Snapshot, changes: dict[str, object]) -> None:
    """A snapshot of anybody is read or refused."""
    for body in (changes, json.loads(wanted.encode()) | changes):
        with suppress(IntegrityError):
            Snapshot.decode(json.dumps(body).encode(), "snapshot")


@given(
    st.integers(0, 15),
    st.binary(max_size=4),
    st.dictionaries(st.sampled_from(["topic", "partition", "start", "end", "extents", "aborted"]), anything),
)
def test_hostile_index(at: int, noise: bytes, changes: dict[str, object]) -> None:
    """An index with a head or a description of anybody, its checksum made to fit, is read or refused."""
    data = a_segment().index_data
    size = int.from_bytes(data[4:8], "little")
    text = json.dumps(json.loads(data[16 : 16 + size]) | changes).encode()
    body = bytearray(data[:4] + len(text).to_bytes(4, "little") + data[8:16] + text + data[16 + size : -4])
    body[at : at + len(noise)] = noise
    with suppress(IntegrityError):
        index = SegmentIndex.decode(bytes(body) + crc32c(body).to_bytes(4, "little"), "index")
        list(batches(index, a_segment().data, "segment"))


@given(st.binary(max_size=60), anything)
def test_hostile_record(noise: bytes, body: object) -> None:
    """A record of anybody is refused."""
    for data in (noise, noise + b"\n", json.dumps(body).encode(), Record(1, 1, *ORDERS[:2], 0.0).encode()[:-1] + noise):
        with suppress(IntegrityError):
            Record.decode(data, "record")
