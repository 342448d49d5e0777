"""docs/formats/kafka-record-batch.md, row by row."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path
from typing import get_args

import cramjam
import lz4.frame
import pytest
import zstandard

from tallykeep.systems.kafka.wire import (
    BatchError,
    BatchHeader,
    Codec,
    Reason,
    Record,
    announces_size,
    decode_records,
    encode_batch,
    only,
    stamped,
    uncompressed_size,
    walk,
)
from tallykeep.systems.kafka.wire.checksum import crc32c
from tallykeep.systems.kafka.wire.codec import compress, decompress
from tallykeep.systems.kafka.wire.record import encode_records

PAGE = (Path(__file__).parents[2] / "docs/formats/kafka-record-batch.md").read_text()
FIELDS = [
    (0, 8, "base offset", 1 << 40),
    (8, 4, "length", 49),
    (12, 4, "leader epoch", 7),
    (16, 1, "magic", 2),
    (17, 4, "CRC", 0x7EADBEEF),
    (21, 2, "attributes", 0x7C),
    (23, 4, "last offset delta", 9),
    (27, 8, "base timestamp", -5),
    (35, 8, "max timestamp", 1_700_000_000_000),
    (43, 8, "producer id", 4000),
    (51, 2, "producer epoch", 3),
    (53, 4, "base sequence", 12),
    (57, 4, "record count", 8),
]
BITS = [
    ("3", "timestamp type", "is_log_append_time"),
    ("4", "transactional", "is_transactional"),
    ("5", "control", "is_control"),
    ("6", "delete horizon", "has_delete_horizon"),
]
RECORDS = [
    Record(5, 1000, b"k", b"v", ((b"h", b"1"), (b"h", None), (b"\xff", b""))),
    Record(6, -1000, None, b""),
    Record(9, 1 << 41, b"", None),
]


def a_header(**changes: int) -> BatchHeader:
    return BatchHeader(*(field[3] for field in FIELDS))._replace(**changes)


def reason(data: bytes) -> str:
    with pytest.raises(BatchError) as caught:
        BatchHeader.decode(data)
    return caught.value.reason


@pytest.mark.parametrize(("offset", "size", "field", "value"), FIELDS, ids=[field[2] for field in FIELDS])
def test_header_row(offset: int, size: int, field: str, value: int) -> None:
    """Each field lies at the offset the table gives, big-endian."""
    raw = a_header().encode()[offset : offset + size]
    assert int.from_bytes(raw, "big", signed=True) == value
    assert re.search(rf"^\| {offset} \| {size} \| {field} ", PAGE, re.MULTILINE)


def test_header_is_read_whole() -> None:
    """The decoder reads every field of the table, and nothing else stands in the header."""
    assert BatchHeader.decode(b"??" + a_header().encode(), 2) == a_header()
    assert sum(field[1] for field in FIELDS) == 61
    assert len(re.findall(r"^\| \d+ \| \d+ \| ", PAGE, re.MULTILINE)) == len(FIELDS)


@pytest.mark.parametrize(("bit", "field", "name"), BITS, ids=[bit[1] for bit in BITS])
def test_attribute_row(bit: str, field: str, name: str) -> None:
    """Each flag is the bit the table gives."""
    assert getattr(a_header(attributes=1 << int(bit)), name) is True
    assert getattr(a_header(attributes=0x7F & ~(1 << int(bit)) & ~7), name) is False
    assert f"| {bit} | {field} |" in PAGE


def test_codec_row() -> None:
    """The lowest three bits are the codec, with the numbers that the table gives; 5 to 7 are none."""
    said = ", ".join(f"{codec.value} {codec.name.lower()}" for codec in Codec)
    assert f"| 0-2 | codec | {said};" in PAGE
    assert [a_header(attributes=0x78 | codec).codec for codec in Codec] == list(Codec)
    assert {reason(a_header(attributes=bits).encode()) for bits in (5, 6, 7)} == {"bad_codec"}


@pytest.mark.parametrize(
    "change",
    [{"length": 48}, {"length": -1}, {"base_offset": -1}, {"last_offset_delta": -1}, {"record_count": 11},
     {"record_count": -1}],
    ids=str,
)  # fmt: skip
def test_impossible_header(change: dict[str, int]) -> None:
    """What no producer or broker writes is bad_header."""
    assert reason(a_header(**change).encode()) == "bad_header"


def test_other_formats() -> None:
    """Message sets of old brokers are told from garbage, even where less than a header of them is there."""
    for magic, expected in ((0, "old_format"), (1, "old_format"), (3, "bad_magic")):
        assert reason(a_header(magic=magic).encode()) == expected
        assert reason(a_header(magic=magic).encode()[:26]) == expected
    assert reason(a_header().encode()[:60]) == "truncated"


def test_every_reason_is_documented() -> None:
    """The table of reasons lists each, and no other."""
    table = PAGE.split("## Reasons")[1]
    assert set(re.findall(r"^\| (\w+) \| (?!meaning)", table, re.MULTILINE)) == set(get_args(Reason))


def test_crc_is_castagnoli() -> None:
    """CRC-32C has its check value, and covers all from the attributes on: nothing before them."""
    assert crc32c(b"123456789") == 0xE3069283
    data = bytearray(encode_batch(RECORDS))
    for at in range(len(data)):
        data[at] ^= 1
        if at in range(8) or at in range(12, 16):  # base offset and leader epoch: the broker's
            only(data)
        else:
            with pytest.raises(BatchError):
                only(data)
        data[at] ^= 1


def test_record_rows() -> None:
    """A record is written field by field as the table says."""
    body = b"\0\x04\x02\x02k\x01\x04\x02h\x00\x02h\x01"  # delta 2 ms, offset +1, key k, value null, two headers
    record = Record(6, 1002, b"k", None, ((b"h", b""), (b"h", None)))
    assert encode_records([record], 5, 1000) == bytes([len(body) * 2]) + body


@pytest.mark.parametrize("codec", list(Codec))
def test_records_come_back(codec: Codec) -> None:
    """Null and empty, duplicate headers, bytes that are no UTF-8, timestamps out of order: as they were."""
    batch = only(encode_batch(RECORDS, codec))
    assert decode_records(batch) == RECORDS
    assert batch.header.is_gapped
    assert (batch.header.base_timestamp, batch.header.max_timestamp) == (1000, 1 << 41)


def test_log_append_time() -> None:
    """Where the broker set the time, every record has the batch's, whatever its own delta says."""
    data = bytearray(encode_batch(RECORDS))
    data[22] |= 0x08
    [batch] = walk(data)
    assert {record.timestamp for record in decode_records(batch)} == {1 << 41}


@pytest.mark.parametrize("cut", [1, 12, 60, 61, 80])
def test_cut_last_batch(cut: int) -> None:
    """The last batch of a Fetch response may be cut anywhere: the whole ones are found, and nothing is raised."""
    first, second = encode_batch(RECORDS), encode_batch(RECORDS, Codec.ZSTD)
    assert [bytes(batch.data) for batch in walk(first + second[:cut])] == [first]
    assert [bytes(batch.data) for batch in walk(first + second)] == [first, second]


def test_stamped() -> None:
    """Another producer's stamp changes base offset, epoch, producer, transactional bit and CRC; nothing else."""
    data = bytearray(encode_batch(RECORDS, Codec.LZ4))
    data[22] |= 0x10
    struct.pack_into(">i", data, 12, 99)
    struct.pack_into(">I", data, 17, crc32c(data[21:]))
    source = only(data)
    batch = only(stamped(source, 77, 2, 5))
    assert batch.header == source.header._replace(
        base_offset=0, leader_epoch=-1, attributes=Codec.LZ4, crc=batch.header.crc,
        producer_id=77, producer_epoch=2, base_sequence=5,
    )  # fmt: skip
    assert batch.payload == source.payload


DATA = b"tally" * 100_000
KNOWN = {
    "none": (Codec.NONE, DATA),
    "zstd with a content size": (Codec.ZSTD, zstandard.ZstdCompressor().compress(DATA)),
    "zstd in two frames": (Codec.ZSTD, b"".join(zstandard.compress(part) for part in (DATA[:300], DATA[300:]))),
    "lz4 with a content size": (Codec.LZ4, lz4.frame.compress(DATA)),
    "raw snappy": (Codec.SNAPPY, bytes(cramjam.snappy.compress_raw(DATA))),
    "xerial snappy": (Codec.SNAPPY, compress(Codec.SNAPPY, DATA)),
}
COUNTED = {
    "zstd as Java writes it": (Codec.ZSTD, zstandard.ZstdCompressor(write_content_size=False).compress(DATA)),
    "lz4 as Java writes it": (Codec.LZ4, lz4.frame.compress(DATA, store_size=False)),
    "gzip": (Codec.GZIP, gzip.compress(DATA)),
    "gzip in two members": (Codec.GZIP, gzip.compress(DATA[:300]) + gzip.compress(DATA[300:])),
}


@pytest.mark.parametrize("case", [*KNOWN, *COUNTED])
def test_uncompressed_size(case: str) -> None:
    """The size is exact, read from the frame where it is said and counted where it is not; and the data is there."""
    codec, payload = (KNOWN | COUNTED)[case]
    assert uncompressed_size(codec, memoryview(payload)) == len(DATA)
    assert announces_size(codec, memoryview(payload)) is (case in KNOWN)
    assert decompress(codec, memoryview(payload), len(DATA)) == DATA


@pytest.mark.parametrize("case", [name for name in KNOWN | COUNTED if name != "none"])
def test_cut_payload(case: str) -> None:
    """A payload that is cut anywhere near its ends does not pass for a shorter one."""
    codec, payload = (KNOWN | COUNTED)[case]
    for cut in (1, 5, 9, len(payload) // 2, len(payload) - 9, len(payload) - 1):
        with pytest.raises(BatchError) as caught:
            decompress(codec, memoryview(payload)[:cut], len(DATA))
        assert caught.value.reason == "bad_payload"


def test_a_bomb_is_stopped() -> None:
    """Records that become more than allowed are refused before they are."""
    for codec in (Codec.GZIP, Codec.LZ4, Codec.ZSTD, Codec.SNAPPY):
        with pytest.raises(BatchError, match="more than 1000000 uncompressed"):
            decompress(codec, memoryview(compress(codec, bytes(20_000_000))), 1_000_000)
