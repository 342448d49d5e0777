"""A look at batches: exact sizes and least timestamps, or an honest "not known"."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tallykeep.systems.kafka.index import UNKNOWN_TIME
from tallykeep.systems.kafka.looking import look
from tallykeep.systems.kafka.wire import HEADER_SIZE, Batch, BatchError, BatchHeader, Codec, Record, encode_batch, only
from tallykeep.systems.kafka.wire.checksum import crc32c
from tallykeep.systems.kafka.wire.codec import decompress
from tallykeep.systems.kafka.wire.timestamps import least_timestamp

moments = st.integers(-(1 << 40), 1 << 42) | st.integers(-3, 3)
sizes = st.sampled_from([0, 1, 50, 63, 64, 100, 8000, 8192, 20_000])  # lengths of one, two and three bytes
codecs = st.sampled_from(list(Codec))


@given(st.lists(st.tuples(moments, sizes), min_size=1, max_size=8), codecs)
@example([(5, 1), (4, 1), (6, 20_000), (3, 8192)], Codec.NONE)
def test_the_least_timestamp_is_the_least(wanted: list[tuple[int, int]], codec: Codec) -> None:
    """Whatever the order of timestamps and the size of records, a look finds what decoding them finds."""
    records = [Record(at, moment, None, bytes(size)) for at, (moment, size) in enumerate(wanted)]
    batch = only(encode_batch(records, codec))
    found = look([batch, batch], exact=True)
    assert found.least == [min(moment for moment, _ in wanted)] * 2
    assert found.uncompressed == [len(encode_batch(records))] * 2
    assert not found.unreadable


@given(st.lists(st.tuples(moments, sizes), min_size=1, max_size=4), codecs)
def test_wire_accounting_says_what_headers_say(wanted: list[tuple[int, int]], codec: Codec) -> None:
    """Without a look into records sizes are not counted, and a least timestamp is known of one record only."""
    batch = only(encode_batch([Record(at, moment, b"k", b"") for at, (moment, _) in enumerate(wanted)], codec))
    found = look([batch], exact=False)
    assert found.uncompressed == [0]
    assert found.least == [wanted[0][0] if len(wanted) == 1 else UNKNOWN_TIME]


@given(st.lists(moments, min_size=1, max_size=4), st.integers(0, 40), st.binary(max_size=3))
def test_no_wrong_minimum(wanted: list[int], at: int, noise: bytes) -> None:
    """Bytes of anybody have a least timestamp that may be read there, or are refused with one error."""
    batch = only(encode_batch([Record(number, moment, None, b"v") for number, moment in enumerate(wanted)]))
    records = bytearray(batch.payload)
    records[at : at + len(noise)] = noise
    with suppress(BatchError):
        least_timestamp(batch.header, bytes(records))
    for cut in range(len(batch.payload)):
        with pytest.raises(BatchError, match="cannot be"):
            least_timestamp(batch.header, batch.payload[:cut])


def test_a_batch_nobody_can_read() -> None:
    """Records that do not decompress are named, and counted as they came: they are what their producer sent."""
    good = only(encode_batch([Record(0, 5, None, b"v")]))
    for codec in (Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD):
        header = good.header._replace(attributes=codec, record_count=2, last_offset_delta=1)
        data = bytearray(header.encode() + b"no such records")
        spoilt = Batch(header._replace(length=len(data) - 12), memoryview(data))
        spoilt = Batch(spoilt.header._replace(crc=_crc(data)), spoilt.data)
        found = look([good, spoilt], exact=True)
        assert found.uncompressed == [good.header.size, len(data)]
        assert found.least == [5, UNKNOWN_TIME]
        assert [error.reason for error in found.unreadable] == ["bad_payload"]


def test_records_that_are_not_as_many_as_the_header_says() -> None:
    """A header that contradicts its records gives no minimum."""
    batch = only(encode_batch([Record(0, 5, None, b"v"), Record(1, 4, None, b"v")]))
    with pytest.raises(BatchError, match="there are 2"):
        least_timestamp(batch.header._replace(record_count=3), batch.payload)


def test_a_batch_without_records() -> None:
    """What compaction keeps for its producer's sequence alone has a header and no payload, whatever its codec."""
    header = only(encode_batch([Record(0, 5, None, b"v")])).header
    for codec in Codec:
        empty = header._replace(attributes=codec, record_count=0, length=HEADER_SIZE - 12)
        empty = empty._replace(crc=_crc(bytearray(empty.encode())))
        found = look([Batch(empty, memoryview(empty.encode()))], exact=True)
        assert (found.uncompressed, found.least, found.unreadable) == ([HEADER_SIZE], [empty.max_timestamp], [])


def test_log_append_time() -> None:
    """Where the broker set the time, it is every record's."""
    batch = only(encode_batch([Record(0, 5, None, b"v"), Record(1, 9, None, b"v")]))
    header = batch.header._replace(attributes=8)
    assert least_timestamp(header, batch.payload) == 9


def test_a_frame_that_promises_much_is_not_believed() -> None:
    """A zstd frame whose announced size its blocks cannot hold is refused before memory is taken for it."""
    frame = bytearray(b"\x28\xb5\x2f\xfd\xe0" + (1 << 50).to_bytes(8, "little") + b"\x01\0\0")
    with pytest.raises(BatchError, match="its blocks hold 0 at the most"):
        decompress(Codec.ZSTD, memoryview(frame), 1 << 40)


def _crc(data: bytearray) -> int:
    return int(crc32c(bytes(data[21:])))


def test_headers_alone_are_enough_of_a_check() -> None:
    """A spoilt batch is refused before anything is read."""
    data = bytearray(encode_batch([Record(0, 5, None, b"v")]))
    data[-1] ^= 1
    with pytest.raises(BatchError, match="CRC"):
        look([Batch(BatchHeader.decode(data), memoryview(data))], exact=True)
