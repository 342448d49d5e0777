"""Batches made anew: from records, or from a batch whose sender has to be another one.

A batch keeps its bytes wherever it can. What a broker overwrites (base offset, leader epoch) lies outside the CRC;
the producer's id, epoch and sequence lie inside it, so a stamped batch gets a new CRC over the same records.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tallykeep.systems.kafka.wire.batch import Batch
from tallykeep.systems.kafka.wire.checksum import crc32c
from tallykeep.systems.kafka.wire.codec import compress
from tallykeep.systems.kafka.wire.header import (
    CRC_START,
    HEADER_SIZE,
    LENGTH_END,
    MAGIC,
    TRANSACTIONAL,
    BatchHeader,
    Codec,
    Data,
)
from tallykeep.systems.kafka.wire.record import Record, encode_records

_ATTRIBUTES = struct.Struct(">h")
_CRC = struct.Struct(">I")
_HEAD = struct.Struct(">qii")  # base offset, length, leader epoch
_PRODUCER = struct.Struct(">qhi")  # id, epoch, base sequence
_EPOCH = struct.Struct(">i")
_BEFORE_LENGTH = 8  # bytes of the base offset
_CRC_AT, _PRODUCER_AT = 17, 43


def encode_batch(records: Sequence[Record], codec: Codec = Codec.NONE) -> bytes:
    """One batch of `records`, one at least and in order, with their own timestamps (CreateTime) and no producer."""
    first, last = records[0], records[-1]
    payload = compress(codec, encode_records(records, first.offset, first.timestamp))
    header = BatchHeader(
        base_offset=first.offset,
        length=HEADER_SIZE - LENGTH_END + len(payload),
        leader_epoch=-1,
        magic=MAGIC,
        crc=0,
        attributes=codec,
        last_offset_delta=last.offset - first.offset,
        base_timestamp=first.timestamp,
        max_timestamp=max(record.timestamp for record in records),
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        record_count=len(records),
    )
    return bytes(_sealed(bytearray(header.encode() + payload)))


def stamped(batch: Batch, producer_id: int, epoch: int, sequence: int) -> bytearray:
    """A copy to be produced by another producer, outside any transaction; its records and their bytes are the same."""
    data = bytearray(batch.data)
    _HEAD.pack_into(data, 0, 0, batch.header.length, -1)
    _ATTRIBUTES.pack_into(data, CRC_START, batch.header.attributes & ~TRANSACTIONAL)
    _PRODUCER.pack_into(data, _PRODUCER_AT, producer_id, epoch, sequence)
    return _sealed(data)


def stamped_head(data: Data, producer_id: int, epoch: int, sequence: int) -> bytes:
    """The header under which the records of the batch in `data` are produced by another producer.

    As `stamped`, without copying the records: header and records are sent as two buffers.
    """
    view = memoryview(data)
    head = bytearray(view[:HEADER_SIZE])
    head[:_BEFORE_LENGTH] = bytes(_BEFORE_LENGTH)
    _EPOCH.pack_into(head, LENGTH_END, -1)
    head[CRC_START + 1] &= ~TRANSACTIONAL
    _PRODUCER.pack_into(head, _PRODUCER_AT, producer_id, epoch, sequence)
    _CRC.pack_into(head, _CRC_AT, crc32c(view[HEADER_SIZE:], crc32c(memoryview(head)[CRC_START:])))
    return bytes(head)


def _sealed(data: bytearray) -> bytearray:
    """`data` with the CRC that it now has."""
    _CRC.pack_into(data, _CRC_AT, crc32c(memoryview(data)[CRC_START:]))
    return data
