"""The index of a segment: what is in it and where, so that a segment is searched without being read.

One row a batch, kept as columns; besides them what holds for the whole segment. docs/formats/krb1.md has the layout.
An index vouches for itself by a CRC-32C, so that a segment can be read even where the manifest is lost.
"""

from __future__ import annotations

import json
import struct
import sys
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import zstandard

from tallykeep.errors import IntegrityError
from tallykeep.systems.kafka.wire import Aborted, BatchHeader, Codec
from tallykeep.systems.kafka.wire.checksum import crc32c
from tallykeep.systems.kafka.wire.header import LENGTH_END

MAGIC = b"KRB1"
UNKNOWN_TIME = -(1 << 63)  # a minimum timestamp that was not looked for: it is not after the maximum, no more is known
_HEAD = struct.Struct("<4sIII")  # magic, bytes of the description, bytes of the columns, batches
_CRC = struct.Struct("<I")
_LIMIT = 1 << 24  # batches in a segment, at the most: 64 MiB of the smallest ones are a million


_made = tuple.__new__  # half the cost of calling a NamedTuple


class Row(NamedTuple):
    """One batch of a segment. The order is that of the columns in the file; the widths are _COLUMNS."""

    base_offset: int
    last_offset_delta: int
    record_count: int
    min_timestamp: int  # Unix milliseconds, or UNKNOWN_TIME
    max_timestamp: int  # Unix milliseconds
    size: int  # bytes of the batch as it came
    uncompressed: int  # bytes of the batch with its records uncompressed; 0 where they were not counted
    crc: int
    attributes: int
    leader_epoch: int
    producer_id: int

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @classmethod
    def of(cls, header: BatchHeader, uncompressed: int, min_timestamp: int) -> Row:
        """The row of a batch; the two figures are those that its header does not say."""
        base, length, epoch, _, crc, attributes, delta, _, latest, producer, _, _, count = header
        size = LENGTH_END + length
        row: Row = _made(
            cls,
            (base, delta, count, min_timestamp, latest, size, uncompressed, crc, attributes, epoch, producer),
        )
        return row


_COLUMNS = "qiiqqiqIhiq"  # array type codes, a letter for each field of Row
_WIDTH = sum(array(code).itemsize for code in _COLUMNS)  # bytes of a row


class Extent(NamedTuple):
    """Whole batches that lie together in the object: as they came, or compressed as one chunk."""

    stored: int  # bytes in the object
    raw: int  # bytes of the batches
    batches: int
    codec: Codec  # NONE: as they came, whatever they are compressed with themselves


class SegmentIndex(NamedTuple):
    """Everything there is to know of a segment but its bytes."""

    topic: str
    topic_id: str  # 32 hex digits; zeros from brokers that have none
    partition: int
    start: int  # offset from which the segment vouches for the partition
    end: int  # offset behind the last for which it does: where the next segment starts
    rows: Sequence[Row]
    extents: Sequence[Extent]
    aborted: Sequence[Aborted]

    @property
    def records(self) -> int:
        return sum(row.record_count for row in self.rows)

    @property
    def raw(self) -> int:
        """Bytes of the batches as they came."""
        return sum(row.size for row in self.rows)

    @property
    def uncompressed(self) -> int:
        return sum(row.uncompressed for row in self.rows)

    @property
    def max_timestamp(self) -> int:
        """Unix milliseconds; -1 where there is no batch."""
        return max((row.max_timestamp for row in self.rows), default=-1)

    @property
    def min_timestamp(self) -> int:
        """Unix milliseconds, or UNKNOWN_TIME where that of one batch is."""
        return min((row.min_timestamp for row in self.rows), default=-1)

    def encode(self) -> bytes:
        """The object that it is kept in."""
        description = {
            "topic": self.topic, "topic_id": self.topic_id, "partition": self.partition,
            "start": self.start, "end": self.end, "extents": self.extents, "aborted": self.aborted,
        }  # fmt: skip
        text = json.dumps(description, separators=(",", ":")).encode()
        columns = zstandard.ZstdCompressor(level=3).compress(_pack(self.rows))
        body = _HEAD.pack(MAGIC, len(text), len(columns), len(self.rows)) + text + columns
        return body + _CRC.pack(crc32c(body))

    @classmethod
    def decode(cls, data: bytes, name: str) -> SegmentIndex:
        """The index in `data`; `name` is for messages. Raises: IntegrityError."""
        try:
            return cls._decode(data)
        except (ValueError, KeyError, TypeError, struct.error, zstandard.ZstdError) as error:
            raise IntegrityError(f"{name}: not an index of a segment, or not as it was written: {error}") from None

    @classmethod
    def _decode(cls, data: bytes) -> SegmentIndex:
        magic, text_size, columns_size, batches = _HEAD.unpack_from(data)
        if magic != MAGIC:
            raise ValueError(f"it starts with {magic!r}, not with {MAGIC!r}")
        if len(data) != _HEAD.size + text_size + columns_size + _CRC.size or batches > _LIMIT:
            raise ValueError(f"it has {len(data)} bytes, and its head speaks of others")
        if crc32c(memoryview(data)[: -_CRC.size]) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
            raise ValueError("its CRC-32C does not match")
        text = json.loads(data[_HEAD.size : _HEAD.size + text_size])
        columns = data[_HEAD.size + text_size : -_CRC.size]
        rows = _unpack(_decompressed(columns, batches * _WIDTH), batches)
        return cls._described(text, rows)

    @classmethod
    def _described(cls, text: Any, rows: Sequence[Row]) -> SegmentIndex:
        extents = [Extent(stored, raw, batches, Codec(codec)) for stored, raw, batches, codec in text["extents"]]
        aborted = [Aborted(*pair) for pair in text["aborted"]]
        index = cls(
            str(text["topic"]), str(text["topic_id"]), int(text["partition"]), int(text["start"]), int(text["end"]),
            rows, extents, aborted,
        )  # fmt: skip
        if sum(extent.batches for extent in extents) != len(rows) or sum(e.raw for e in extents) != index.raw:
            raise ValueError("its extents are not those of its batches")
        return index


def _pack(rows: Sequence[Row]) -> bytes:
    columns = [array(code, values) for code, values in zip(_COLUMNS, zip(*rows, strict=True), strict=False)]
    return b"".join(_little(column).tobytes() for column in columns)


def _unpack(data: bytes, batches: int) -> list[Row]:
    columns, position = [], 0
    for code in _COLUMNS:
        column = array(code)
        end = position + batches * column.itemsize
        column.frombytes(data[position:end])
        columns.append(_little(column))
        position = end
    return list(map(Row._make, zip(*columns, strict=True)))


def _little(column: array[int]) -> array[int]:
    if sys.byteorder == "big":
        column.byteswap()
    return column


def _decompressed(data: bytes, size: int) -> bytes:
    found = zstandard.ZstdDecompressor().decompress(data, max_output_size=size) if size else b""
    if len(found) != size:
        raise ValueError(f"its columns have {len(found)} bytes and should have {size}")
    return found
