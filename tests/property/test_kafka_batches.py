"""Record batches: round trips, another implementation's word, and hostile bytes."""

from __future__ import annotations

from collections.abc import Callable

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from tallykeep.systems.kafka.wire import (
    BatchError,
    Codec,
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
from tallykeep.systems.kafka.wire.varint import put, take

optional = st.none() | st.binary(max_size=40)
moments = st.integers(-(1 << 40), 1 << 42)
headers = st.lists(st.tuples(st.binary(max_size=5), optional), max_size=3).map(tuple)
text_headers = st.lists(st.tuples(st.text(max_size=5).map(str.encode), optional), max_size=3).map(tuple)
codecs = st.sampled_from(list(Codec))


@st.composite
def records(draw: Callable[..., object], gaps: bool = True, headers: st.SearchStrategy[object] = headers) -> object:
    """Records in order, from any offset on, with or without gaps between them."""
    steps = draw(st.lists(st.integers(1, 1000) if gaps else st.just(1), min_size=1, max_size=8))
    base = draw(st.integers(0, 1 << 50)) if gaps else 0
    offsets = [base + sum(steps[:index]) for index in range(len(steps))]  # type: ignore[arg-type,index,operator]
    return [Record(offset, draw(moments), draw(optional), draw(optional), draw(headers)) for offset in offsets]  # type: ignore[arg-type]


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_varints(number: int) -> None:
    """Every number of 64 bits comes back, and says where it ends."""
    out = bytearray(b"?")
    put(out, number)
    assert take(bytes(out) + b"\xff", 1) == (number, len(out))


@given(records(), codecs, st.integers(0, 1 << 40), st.integers(0, 1 << 14), st.integers(0, (1 << 31) - 1))
def test_round_trip(wanted: list[Record], codec: Codec, producer: int, epoch: int, sequence: int) -> None:
    """Records come back from a batch exactly, also under another producer's stamp; encoding them again changes nothing."""  # noqa: E501
    data = encode_batch(wanted, codec)
    batch = only(data)
    assert decode_records(batch) == wanted
    assert encode_batch(decode_records(batch), codec) == data
    moved = only(stamped(batch, producer, epoch, sequence))
    assert [record.offset for record in decode_records(moved)] == [r.offset - wanted[0].offset for r in wanted]
    assert (moved.header.producer_id, moved.header.base_sequence) == (producer, sequence)
    assert uncompressed_size(codec, batch.payload) == len(encode_batch(wanted)) - 61


@given(records(gaps=False, headers=text_headers), codecs)
def test_another_client_reads_ours(wanted: list[Record], codec: Codec) -> None:
    """aiokafka reads from our batches what we wrote."""
    batch = DefaultRecordBatch(encode_batch(wanted, codec))
    assert batch.validate_crc()
    found = [
        Record(r.offset, r.timestamp, r.key, r.value, tuple((key.encode(), value) for key, value in r.headers))
        for r in batch
    ]
    assert found == wanted


@given(records(gaps=False, headers=text_headers), codecs)
def test_we_read_another_clients(wanted: list[Record], codec: Codec) -> None:
    """What aiokafka wrote is read as it was meant, and its size uncompressed is exact."""
    builder = DefaultRecordBatchBuilder(2, int(codec), False, -1, -1, -1, 1 << 20)
    for r in wanted:
        named = [(key.decode(), value) for key, value in r.headers]
        assert builder.append(r.offset, r.timestamp, r.key, r.value, named)
    batch = only(bytes(builder.build()))
    assert decode_records(batch) == wanted
    assert uncompressed_size(batch.header.codec, batch.payload) == len(encode_batch(wanted)) - 61


def read_everything(data: bytes) -> None:
    """Use all that reads, on bytes whose checksum is made to fit."""
    for batch in walk(data):
        fitting = bytearray(batch.data)
        fitting[17:21] = crc32c(memoryview(fitting)[21:]).to_bytes(4, "big")
        [again] = walk(fitting)
        again.check()
        announces_size(again.header.codec, again.payload)
        decode_records(again, 1 << 20)


@given(st.binary(max_size=300), st.integers(0, 6), st.binary(max_size=120))
def test_hostile_bytes(noise: bytes, attributes: int, payload: bytes) -> None:
    """Bytes of anybody raise a BatchError or nothing: no other error, no endless loop."""
    head = bytearray(encode_batch([Record(0, 0, None, None)])[:61])
    head[8:12] = (49 + len(payload)).to_bytes(4, "big")
    head[22] = attributes
    for data in (noise, bytes(head) + payload, bytes(head) + payload + noise):
        try:
            read_everything(data)
        except BatchError as error:
            assert error.reason


@given(records(), codecs, st.data())
def test_spoilt_batches(wanted: list[Record], codec: Codec, data: st.DataObject) -> None:
    """A batch with bytes changed in it, checksum made to fit, is read or refused with a BatchError."""
    batch = bytearray(encode_batch(wanted, codec))
    for at in data.draw(st.lists(st.integers(0, len(batch) - 1), min_size=1, max_size=4)):
        batch[at] = data.draw(st.integers(0, 255))
    try:
        read_everything(bytes(batch))
    except BatchError as error:
        assert error.reason
