"""The least timestamp of a batch: the one thing that its header does not tell and a point in time asks for.

The records are gone through by their lengths alone, and of each only the lowest bit of its timestamp's delta is
looked at, the sign: a producer counts deltas from its first record, so that one is the least unless there are
negative ones. 0.2 microseconds a record: docs/decisions/0014-least-timestamps.md.
Source: Apache Kafka, DefaultRecord; varints as in varint.py.
"""

from __future__ import annotations

from tallykeep.systems.kafka.wire.error import BatchError
from tallykeep.systems.kafka.wire.header import BatchHeader
from tallykeep.systems.kafka.wire.varint import take


def least_timestamp(header: BatchHeader, records: bytes | memoryview) -> int:
    """The least timestamp, Unix milliseconds, of the `records` of a batch that has some, uncompressed.

    What is returned is true or an error: the records are as many as the header says, and fill their bytes.
    Raises: BatchError (bad_records).
    """
    try:
        found, deltas = _deltas(records)
        if found != header.record_count:
            raise ValueError(f"there are {found}")
    except (IndexError, ValueError) as error:
        problem = "they end within a record" if isinstance(error, IndexError) else str(error)
        place = f"offsets {header.base_offset} to {header.last_offset}"
        raise BatchError(
            "bad_records", f"the {header.record_count} records of the batch at {place} cannot be: {problem}"
        ) from None
    if header.is_log_append_time:
        return header.max_timestamp
    return header.base_timestamp + deltas


def cheap_least_timestamp(header: BatchHeader) -> int | None:
    """The least timestamp as far as a header tells: of one record, or none, or set by the broker for all."""
    return header.max_timestamp if header.record_count <= 1 or header.is_log_append_time else None


def _deltas(data: bytes | memoryview) -> tuple[int, int]:
    """How many records there are, and the least of their timestamp deltas."""
    end, position, count = len(data), 0, 1
    least, position = _first(data)
    while position < end:
        count += 1
        size = data[position]
        if size < 0x80:
            start, position = position + 2, position + (size >> 1) + 1
        elif (more := data[position + 1]) < 0x80:
            start, position = position + 3, position + (more << 6) + (size >> 1) - 62
        else:
            start, position = _long(data, position)
            size &= ~1
        if size & 1:
            raise ValueError("one has a negative length")
        if data[start] & 1 or least > 0:
            least = min(least, take(data, start)[0])
    if position != end:
        raise ValueError(f"{position - end} bytes are missing behind the last")
    return count, least


def _first(data: bytes | memoryview) -> tuple[int, int]:
    """The first record's delta, and where the next record begins."""
    start, end = _long(data, 0)
    return take(data, start)[0], end


def _long(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Where the delta of the record at `position` begins, behind length and attributes, and where the record ends."""
    size, position = take(data, position)
    if size < 0:
        raise ValueError("one has a negative length")
    return position + 1, position + size
