"""Records inside a batch: decoded only where a batch has to be changed, and encoded again.

Bytes stay bytes: header keys need not be UTF-8, may come twice, and null is not empty. Numbers are zigzag varints.
Source: Apache Kafka, DefaultRecord.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from tallykeep.systems.kafka.wire.batch import Batch
from tallykeep.systems.kafka.wire.codec import decompress
from tallykeep.systems.kafka.wire.error import BatchError
from tallykeep.systems.kafka.wire.header import BatchHeader
from tallykeep.systems.kafka.wire.varint import put, take

LARGEST = 1 << 30  # bytes of records that one batch may become: brokers refuse to read more than 2 GiB as a whole

Header = tuple[bytes, bytes | None]


class Record(NamedTuple):
    """One record, with the offset and the timestamp that consumers see."""

    offset: int
    timestamp: int  # Unix milliseconds
    key: bytes | None
    value: bytes | None  # None: a tombstone
    headers: tuple[Header, ...] = ()


def decode_records(batch: Batch, limit: int = LARGEST) -> list[Record]:
    """Every record of a checked batch. Raises: BatchError (bad_payload, bad_records)."""
    header = batch.header
    data = decompress(header.codec, batch.payload, limit)
    try:
        records = list(_records(header, data))
    except IndexError:
        raise _bad(header, "they end within a record") from None
    except ValueError as error:
        raise _bad(header, str(error)) from None
    if any(later.offset <= earlier.offset for earlier, later in pairwise(records)):
        raise _bad(header, "their offsets do not ascend")
    if records and not header.base_offset <= records[0].offset <= records[-1].offset <= header.last_offset:
        raise _bad(header, "their offsets lie outside the batch")
    return records


def encode_records(records: Sequence[Record], base_offset: int, base_timestamp: int) -> bytes:
    """The uncompressed payload of a batch with that base."""
    out, body = bytearray(), bytearray()
    for record in records:
        body.clear()
        body.append(0)  # attributes, unused
        put(body, record.timestamp - base_timestamp)
        put(body, record.offset - base_offset)
        _put_bytes(body, record.key)
        _put_bytes(body, record.value)
        put(body, len(record.headers))
        for key, value in record.headers:
            _put_bytes(body, key)
            _put_bytes(body, value)
        put(out, len(body))
        out += body
    return bytes(out)


def _records(header: BatchHeader, data: bytes) -> Iterator[Record]:
    position = 0
    for _ in range(header.record_count):
        length, position = take(data, position)
        if length < 0:
            raise ValueError(f"one has {length} bytes")
        record, end = _record(header, data, position)
        if end != position + length:
            raise ValueError(f"one has {end - position} bytes and says {length}")
        yield record
        position = end
    if position != len(data):
        raise ValueError(f"{len(data) - position} bytes follow the last")


def _record(header: BatchHeader, data: bytes, position: int) -> tuple[Record, int]:
    timestamp, position = take(data, position + 1)
    offset, position = take(data, position)
    key, position = _take_bytes(data, position)
    value, position = _take_bytes(data, position)
    headers, position = _take_headers(data, position)
    moment = header.max_timestamp if header.is_log_append_time else header.base_timestamp + timestamp
    return Record(header.base_offset + offset, moment, key, value, headers), position


def _take_headers(data: bytes, position: int) -> tuple[tuple[Header, ...], int]:
    count, position = take(data, position)
    if not 0 <= count <= len(data) - position:
        raise ValueError(f"one has {count} headers")
    headers = []
    for _ in range(count):
        key, position = _take_bytes(data, position)
        value, position = _take_bytes(data, position)
        if key is None:
            raise ValueError("a header's key is null")
        headers.append((key, value))
    return tuple(headers), position


def _take_bytes(data: bytes, position: int) -> tuple[bytes | None, int]:
    length, position = take(data, position)
    if length == -1:
        return None, position
    if length < 0 or position + length > len(data):
        raise ValueError(f"{length} bytes are said to follow where {len(data) - position} do")
    return data[position : position + length], position + length


def _put_bytes(out: bytearray, value: bytes | None) -> None:
    put(out, -1 if value is None else len(value))
    out += value or b""


def _bad(header: BatchHeader, problem: str) -> BatchError:
    place = f"offsets {header.base_offset} to {header.last_offset}"
    return BatchError("bad_records", f"the {header.record_count} records of the batch at {place} cannot be: {problem}")
