"""The head of a record batch: 61 bytes that say everything about it but the records themselves.

Only format 2 (`magic` 2), which every broker since 0.11 writes and the only one since 4.0. Offsets of the fields
are in docs/formats/kafka-record-batch.md. What stands before the CRC is the broker's to set and is not covered by it.
Source: Apache Kafka, DefaultRecordBatch and DefaultRecordBatch.RecordBatchIterator.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from tallykeep.systems.kafka.wire.error import BatchError

Data = bytes | bytearray | memoryview

HEADER_SIZE = 61
LENGTH_END = 12  # batchLength counts what follows it
CRC_START = 21  # the CRC covers the batch from its attributes on
MAGIC = 2
NO_PRODUCER = -1

CODEC_MASK = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
DELETE_HORIZON = 0x40

_LAYOUT = struct.Struct(">qiibIhiqqqhii")
_PREFIX = struct.Struct(">qiib")


class Codec(IntEnum):
    """What the records of a batch are compressed with: the lowest three bits of its attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


_LAST_CODEC = int(Codec.ZSTD)
_made = tuple.__new__  # a third of the cost of _make, and everything that comes is read here


class BatchHeader(NamedTuple):
    """What a record batch says of itself."""

    base_offset: int  # of the first record the batch was written with; the record itself may be compacted away
    length: int  # bytes after this field
    leader_epoch: int  # of the partition; -1 from a producer
    magic: int
    crc: int  # CRC-32C of the batch from the attributes on
    attributes: int
    last_offset_delta: int  # last offset - base offset, kept by compaction
    base_timestamp: int  # Unix milliseconds that the records' deltas count from; the delete horizon, where there is one
    max_timestamp: int  # Unix milliseconds; of every record, where the topic has LogAppendTime
    producer_id: int  # -1: neither idempotent nor transactional
    producer_epoch: int
    base_sequence: int  # of the first record; -1 without a producer id, and in control batches
    record_count: int  # 0 where compaction kept a batch for its producer's sequence alone

    @classmethod
    def decode(cls, data: Data, position: int = 0) -> BatchHeader:
        """Read and check the header that starts at `position`; the CRC is not looked at.

        Raises: BatchError (truncated, old_format, bad_magic, bad_header, bad_codec).
        """
        if len(data) - position < HEADER_SIZE:
            _judge_prefix(data, position)
            raise BatchError("truncated", f"{len(data) - position} bytes are not a batch: its header has {HEADER_SIZE}")
        base, length, _, magic, _, attributes, delta, _, _, _, _, _, count = found = _LAYOUT.unpack_from(data, position)
        header: BatchHeader = _made(cls, found)
        if magic != MAGIC:
            raise _foreign(magic)
        if length < HEADER_SIZE - LENGTH_END or base < 0 or delta < 0 or not 0 <= count <= delta + 1:
            raise BatchError("bad_header", f"the header of a batch cannot be: {header._problem()}")
        if attributes & CODEC_MASK > _LAST_CODEC:
            raise BatchError("bad_codec", f"a batch is compressed with codec {attributes & CODEC_MASK}")
        return header

    def encode(self) -> bytes:
        """The 61 bytes."""
        return _LAYOUT.pack(*self)

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return LENGTH_END + self.length

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def codec(self) -> Codec:
        return Codec(self.attributes & CODEC_MASK)

    @property
    def is_log_append_time(self) -> bool:
        """Whether every record's timestamp is `max_timestamp`, whatever its own delta says."""
        return bool(self.attributes & LOG_APPEND_TIME)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        """Whether it holds a transaction's end (or another marker) in place of records of a user."""
        return bool(self.attributes & CONTROL)

    @property
    def has_delete_horizon(self) -> bool:
        """Whether `base_timestamp` says when the cleaner may remove the batch's tombstones."""
        return bool(self.attributes & DELETE_HORIZON)

    @property
    def is_gapped(self) -> bool:
        """Whether offsets are missing between its first and its last, as compaction leaves them."""
        return self.record_count != self.last_offset_delta + 1

    def _problem(self) -> str:
        if self.size < HEADER_SIZE:
            return f"a length of {self.length} bytes"
        if self.base_offset < 0 or self.last_offset_delta < 0:
            return f"base offset {self.base_offset}, last offset delta {self.last_offset_delta}"
        return f"{self.record_count} records at {self.last_offset_delta + 1} offsets"


def _judge_prefix(data: Data, position: int) -> None:
    """Tell a foreign format from a batch that is merely cut: the magic byte stands in the same place in all of them."""
    if len(data) - position >= _PREFIX.size and (magic := _PREFIX.unpack_from(data, position)[3]) != MAGIC:
        raise _foreign(magic)


def _foreign(magic: int) -> BatchError:
    if magic in (0, 1):
        return BatchError(
            "old_format", f"messages of format {magic}, as written before Kafka 0.11; convert the topic to format 2"
        )
    return BatchError("bad_magic", f"format {magic} where a record batch should be (format 2)")
