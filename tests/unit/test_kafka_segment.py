"""Segments and their indexes: docs/formats/krb1.md, and what happens when a byte of them changes."""

from __future__ import annotations

import re
import struct
from dataclasses import fields
from pathlib import Path

import pytest
import zstandard
from tests.support.kafka_backup import ORDERS, a_batch, a_segment

from tallykeep.errors import IntegrityError
from tallykeep.storage.digest import check_digest
from tallykeep.systems.kafka.index import UNKNOWN_TIME, Extent, Row, SegmentIndex
from tallykeep.systems.kafka.manifest import GapEntry, Record, SegmentEntry, segment_entry
from tallykeep.systems.kafka.segment import CHUNK, SegmentBuilder, batches
from tallykeep.systems.kafka.wire import Aborted, Codec, decode_records, only
from tallykeep.systems.kafka.wire.checksum import crc32c

PAGE = (Path(__file__).parents[2] / "docs/formats/krb1.md").read_text()


def rows_of(heading: str) -> list[str]:
    """The first cells of the table under a heading of the page."""
    table = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| (?!field|offset)([\w ]+) \|", table, re.MULTILINE)


def test_index_head_rows() -> None:
    """An index begins with its magic and three sizes, and ends with a CRC-32C of all before it."""
    data = a_segment().index_data
    magic, text, columns, count = struct.unpack_from("<4sIII", data)
    assert (magic, count) == (b"KRB1", 3)
    assert data[16:17] == b"{"
    assert len(zstandard.decompress(data[16 + text : 16 + text + columns])) == 62 * count
    assert data[16 + text + columns :] == crc32c(data[:-4]).to_bytes(4, "little")
    assert rows_of("Index") == ["0", "4", "8", "12", "16"]


def test_index_columns() -> None:
    """The columns stand in the order of the table, little-endian, each with the width that the table gives."""
    table = PAGE.split("## Columns of an index\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| (\d+) \| (\w+) \|", table, re.MULTILINE)
    assert [name for _, name in found] == list(Row._fields)
    sealed = a_segment()
    _, text, columns, _ = struct.unpack_from("<4sIII", sealed.index_data)
    data, position = zstandard.decompress(sealed.index_data[16 + text : 16 + text + columns]), 0
    for width, name in found:
        for row in sealed.index.rows:
            raw = data[position : position + int(width)]
            assert int.from_bytes(raw, "little", signed=name != "crc") == getattr(row, name)
            position += int(width)


def test_entries_are_documented() -> None:
    """Each field of a record, of a segment and of a gap is in the page's tables, in order, and nothing else."""
    assert rows_of("Record of the manifest") == ["format", *(field.name for field in fields(Record))]
    assert rows_of("Entry segment") == ["kind", *(field.name for field in fields(SegmentEntry))]
    assert rows_of("Entry gap") == ["kind", *(field.name for field in fields(GapEntry))]


@pytest.mark.parametrize("pack", [Codec.NONE, Codec.ZSTD, Codec.LZ4])
@pytest.mark.parametrize("codec", list(Codec))
def test_batches_come_back(codec: Codec, pack: Codec) -> None:
    """Every batch comes back byte for byte, however it was compressed and whatever the segment is packed with."""
    sent = [a_batch(first, codec=codec) for first in (0, 3, 6)]
    sealed = a_segment(codec=codec, pack=pack)
    index = SegmentIndex.decode(sealed.index_data, "index")
    assert [bytes(batch.data) for batch in batches(index, sealed.data, "segment")] == sent
    packed = pack is not Codec.NONE and codec is Codec.NONE
    assert (sealed.data == b"".join(sent)) is not packed
    [(name, sizes)] = sealed.stored_by_algorithm().items()
    assert (name, sizes.stored) == ((pack if packed else codec).name.lower(), len(sealed.data))


def test_index_says_it_all() -> None:
    """Offsets, counts, timestamps, sizes and aborted transactions of the segment are those of its batches."""
    sealed = a_segment(start=30)
    entry = segment_entry(sealed)
    assert (entry.topic, entry.topic_id, entry.partition) == ORDERS
    assert (entry.start, entry.end, entry.records, entry.max_timestamp) == (30, 39, 9, 1038)
    assert (entry.stored, entry.raw, entry.uncompressed) == (len(sealed.data), len(sealed.data), 1500)
    assert sealed.index.aborted == [Aborted(7, 30)]


def test_packed_chunks_can_be_read_alone() -> None:
    """A packed segment is cut into chunks of about a MiB: a batch in the middle is had without what lies before it."""
    builder = SegmentBuilder(*ORDERS, 0, pack=Codec.ZSTD)
    sent = [a_batch(first, 1, size=300_000) for first in range(12)]
    for data in sent:
        builder.add(only(data))
    sealed = builder.seal()
    assert [extent.batches for extent in sealed.index.extents] == [4, 4, 4]
    assert all(extent.raw >= CHUNK for extent in sealed.index.extents)
    first, second, _ = sealed.index.extents
    alone = sealed.data[first.stored : first.stored + second.stored]
    assert zstandard.decompress(alone) == b"".join(sent[4:8])


def test_only_uncompressed_batches_are_packed() -> None:
    """In a segment of both kinds, what the producer compressed lies as it came."""
    builder = SegmentBuilder(*ORDERS, 0, pack=Codec.ZSTD)
    codecs = [Codec.NONE, Codec.LZ4, Codec.LZ4, Codec.NONE]
    sent = [a_batch(3 * at, codec=codec) for at, codec in enumerate(codecs)]
    for data in sent:
        builder.add(only(data))
    sealed = builder.seal()
    assert [(extent.batches, extent.codec) for extent in sealed.index.extents] == [(1, 4), (2, 0), (1, 4)]
    assert b"".join(sent[1:3]) in sealed.data
    assert list(sealed.stored_by_algorithm()) == ["zstd", "lz4"]


def test_a_level_of_zstd() -> None:
    """A higher level packs smaller, and what comes back is the same."""
    found = {}
    for level in (1, 19):
        builder = SegmentBuilder(*ORDERS, 0, pack=Codec.ZSTD, level=level)
        for first in range(0, 3000, 100):
            builder.add(only(a_batch(first, 100, size=first % 700)))
        sealed = builder.seal()
        found[level] = sealed.stored, [bytes(batch.data) for batch in batches(sealed.index, sealed.data, "x")]
    assert found[19][0] < found[1][0]
    assert found[19][1] == found[1][1]


def test_what_does_not_shrink_is_not_packed() -> None:
    """A chunk that would become larger stays as it came."""
    builder = SegmentBuilder(*ORDERS, 0, pack=Codec.LZ4)
    builder.add(only(a_batch(0, 1, size=0)))
    sealed = builder.seal()
    assert sealed.index.extents == [Extent(len(sealed.data), len(sealed.data), 1, Codec.NONE)]


def test_minimum_timestamps() -> None:
    """The least timestamp is given where it is known, and said to be unknown where nobody looked."""
    builder = SegmentBuilder(*ORDERS, 0)
    builder.add(only(a_batch(0, 1)))
    assert segment_entry(builder.seal()).min_timestamp == 1000
    batch = only(a_batch(1, 3))
    builder.add(batch)
    assert builder.seal().index.min_timestamp == UNKNOWN_TIME
    assert segment_entry(builder.seal()).min_timestamp is None
    builder = SegmentBuilder(*ORDERS, 1)
    builder.add(batch, min_timestamp=min(record.timestamp for record in decode_records(batch)))
    assert segment_entry(builder.seal()).min_timestamp == 1001


def test_a_segment_reaches_as_far_as_it_vouches() -> None:
    """A fetch may return a batch that begins before the offset asked for, and know of nothing behind its last one."""
    builder = SegmentBuilder(*ORDERS, 1)
    builder.add(only(a_batch(0)))
    builder.vouch(10)
    index = builder.seal().index
    assert (index.start, index.end, index.rows[0].base_offset) == (1, 10, 0)
    for first in (0, 9):
        with pytest.raises(IntegrityError, match="came after offset 9"):
            builder.add(only(a_batch(first, 1)))


def test_an_empty_segment() -> None:
    """Offsets of which nothing is left are a segment without batches."""
    builder = SegmentBuilder(*ORDERS, 5)
    builder.vouch(9)
    sealed = builder.seal()
    assert (sealed.data, SegmentIndex.decode(sealed.index_data, "index")) == (b"", sealed.index)


@pytest.mark.parametrize("pack", [Codec.NONE, Codec.ZSTD])
def test_any_byte_flipped(pack: Codec) -> None:
    """One bit anywhere in a segment or its index is found by the object's hash, and the object named.

    Without the hash it is found as well, or the batches are what they were: a packed chunk has idle bits.
    """
    sealed = a_segment(pack=pack)
    for at in range(len(sealed.index_data)):
        spoilt = flipped(sealed.index_data, at)
        with pytest.raises(IntegrityError, match="the index"):
            SegmentIndex.decode(spoilt, "the index")
        with pytest.raises(IntegrityError, match="the index"):
            check_digest("the index", spoilt, sealed.index_digest)
    for at in range(len(sealed.data)):
        spoilt = flipped(sealed.data, at)
        with pytest.raises(IntegrityError, match="the segment"):
            check_digest("the segment", spoilt, sealed.data_digest)
        try:
            found = list(batches(sealed.index, spoilt, "the segment"))
        except IntegrityError as error:
            assert "the segment" in str(error)
        else:
            assert pack
            assert found == list(batches(sealed.index, sealed.data, "the segment"))


@pytest.mark.parametrize("cut", [0, 1, 15, 16, 100, -1])
def test_cut_objects(cut: int) -> None:
    """An object that ends too early, or goes on too long, is found."""
    sealed = a_segment()
    for index in (sealed.index_data[:cut], sealed.index_data + b"?"):
        with pytest.raises(IntegrityError, match="the index"):
            SegmentIndex.decode(index, "the index")
    for data in (sealed.data[:cut], sealed.data + b"?"):
        with pytest.raises(IntegrityError, match="the segment"):
            list(batches(sealed.index, data, "the segment"))


def flipped(data: bytes, at: int) -> bytes:
    """`data` with one bit changed, another one at each place."""
    return data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
