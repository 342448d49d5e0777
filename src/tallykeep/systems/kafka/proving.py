"""A segment of a backup proved by reading all of it, as `validate --deep` does.

What hashes and checksums cannot tell: that the index says what is in the batches, that offsets ascend without overlaps,
that records are as many as was said and have the timestamps that were said, and that of each transaction that was
aborted, and of no other, the records are known to be. Problems are told, not raised: one is no reason not to look on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from tallykeep.errors import IntegrityError
from tallykeep.storage.digest import check_digest
from tallykeep.systems.kafka.index import UNKNOWN_TIME, Row, SegmentIndex
from tallykeep.systems.kafka.manifest import SegmentEntry
from tallykeep.systems.kafka.segment import batches
from tallykeep.systems.kafka.transactions import AbortedTransactions
from tallykeep.systems.kafka.wire import HEADER_SIZE, Batch, BatchError, decode_records
from tallykeep.systems.kafka.wire.codec import decompress
from tallykeep.systems.kafka.wire.header import CONTROL, TRANSACTIONAL
from tallykeep.systems.kafka.wire.record import LARGEST
from tallykeep.systems.kafka.wire.varint import take

_ABORT, _COMMIT = 0, 1  # types of markers
_MARKER = struct.Struct(">hh")  # version, type: the key of a marker


@dataclass(slots=True)
class Proof:
    """What one partition has come to so far; its segments are proved in their order."""

    records: int = 0
    batches: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    transactions: Transactions | None = field(default_factory=lambda: Transactions())

    def segment(self, entry: SegmentEntry, index: SegmentIndex, data: bytes, name: str) -> None:
        """Go through a segment; `name` is for messages. Blocks: call it off the loop."""
        self.object(entry, data, name)
        self.problems += (f"{name}: {problem}" for problem in (*_entry(entry, index), *_rows(index)))
        try:
            if self.transactions:
                self.transactions.note(index)
            for row, batch in zip(index.rows, batches(index, data, name), strict=True):
                self._batch(row, batch, name)
        except IntegrityError as error:
            self.problems.append(str(error))
            self.skipped()

    def object(self, entry: SegmentEntry, data: bytes, name: str) -> None:
        """Look at the bytes alone. Blocks."""
        try:
            check_digest(name, data, entry.hash)
        except IntegrityError as error:
            self.problems.append(str(error))

    def skipped(self) -> None:
        """A segment cannot be gone through: what transactions came to in it is not known from here on."""
        self.transactions = None

    def _batch(self, row: Row, batch: Batch, name: str) -> None:
        self.batches += 1
        self.records += row.record_count
        where = f"{name}: the batch at offsets {row.base_offset} to {row.last_offset}"
        try:
            found = _read(batch)
            self.problems += (f"{where}: {problem}" for problem in _compared(row, *found))
            if self.transactions and (problem := self.transactions.batch(row, batch)):
                self.problems.append(f"{where}: {problem}")
        except BatchError as error:
            self.notes.append(f"{where} cannot be read by anybody, and is as its producer sent it: {error}")


class Transactions:
    """Whether the lists of aborted transactions agree with the markers, which say how each one ended."""

    def __init__(self) -> None:
        self._aborted = AbortedTransactions()
        self._open: dict[int, tuple[int, set[bool]]] = {}  # by producer: its first offset, and whether it is hidden

    def note(self, index: SegmentIndex) -> None:
        """What a segment names."""
        self._aborted.note(index.aborted)

    def batch(self, row: Row, batch: Batch) -> str:
        """What is wrong with the transaction that the next batch ends; empty for nothing. Raises: BatchError."""
        hidden = self._aborted.hides(row)
        if row.attributes & CONTROL:
            first, seen = self._open.pop(row.producer_id, (0, set[bool]()))
            kind = _kind(batch)
            whose = f"the transaction of producer {row.producer_id} that began at offset {first}"
            if kind == _ABORT and False in seen:
                return f"it ends {whose} by aborting it, and no index lists that: its records would be restored"
            if kind == _COMMIT and True in seen:
                return f"it commits {whose}, and an index lists it as aborted: its records would not be restored"
        elif row.attributes & TRANSACTIONAL:
            self._open.setdefault(row.producer_id, (row.base_offset, set()))[1].add(hidden)
        return ""


def _kind(batch: Batch) -> int:
    """The type of a marker; -1: another kind of control batch."""
    records = decode_records(batch)
    key = records[0].key if records else None
    return int(_MARKER.unpack_from(key)[1]) if key and len(key) >= _MARKER.size else -1


def _entry(entry: SegmentEntry, index: SegmentIndex) -> Iterator[str]:
    """Where the manifest says other things than the index."""
    least = None if index.min_timestamp == UNKNOWN_TIME else index.min_timestamp
    for name, said, found in (
        ("records", entry.records, index.records),
        ("bytes of batches", entry.raw, index.raw),
        ("bytes uncompressed", entry.uncompressed, index.uncompressed),
        ("least timestamp", entry.min_timestamp, least),
        ("greatest timestamp", entry.max_timestamp, index.max_timestamp),
        ("bytes", entry.stored, sum(extent.stored for extent in index.extents)),
    ):
        if said != found:
            yield f"{name}: the manifest says {said}, and its index {found}"


def _rows(index: SegmentIndex) -> Iterator[str]:
    """Offsets that overlap, go back, or lie outside."""
    end = index.start
    for number, row in enumerate(index.rows):
        where = f"the batch at offsets {row.base_offset} to {row.last_offset}"
        if row.last_offset < end or (number and row.base_offset < end):
            yield f"{where} comes after offset {end - 1}"
        if row.last_offset >= index.end:
            yield f"{where} reaches beyond the segment's end, {index.end}"
        end = max(end, row.last_offset + 1)
    for transaction in index.aborted:
        if transaction.producer_id < 0 or not 0 <= transaction.first_offset < index.end:
            yield f"an aborted transaction that cannot be: producer {transaction[0]}, offset {transaction[1]}"


def _read(batch: Batch) -> tuple[int, int, int]:
    """Bytes uncompressed, least and greatest timestamp. Raises: BatchError where the records cannot be read."""
    header = batch.header
    if not header.record_count:
        return header.size, header.max_timestamp, header.max_timestamp
    data = decompress(header.codec, batch.payload, LARGEST)
    try:
        least, most = _timestamps(data, header.record_count, header.last_offset_delta)
    except (IndexError, ValueError) as error:
        raise BatchError("bad_records", str(error) or "they end within a record") from None
    if header.is_log_append_time:
        least = most = header.max_timestamp - header.base_timestamp
    return HEADER_SIZE + len(data), header.base_timestamp + least, header.base_timestamp + most


def _timestamps(data: bytes, count: int, last_delta: int) -> tuple[int, int]:
    """Least and greatest delta of the records, each proved to end where the next begins and to have its own offset.

    Raises: ValueError, IndexError.
    """
    position, before, least, most = 0, -1, 1 << 63, -(1 << 63)
    for number in range(count):
        size, start = take(data, position)
        moment, at = take(data, start + 1)
        offset, _ = take(data, at)
        if not before < offset <= last_delta:
            raise ValueError(f"record {number} of the batch has offset delta {offset} after {before}")
        before, position = offset, start + size
        least, most = min(least, moment), max(most, moment)
        if size < 0 or position > len(data):
            raise ValueError(f"record {number} of the batch ends beyond it")
    if position != len(data):
        raise ValueError(f"{len(data) - position} bytes follow its last record")
    return least, most


def _compared(row: Row, size: int, least: int, most: int) -> Iterator[str]:
    """Where the index says other things than the records."""
    if row.uncompressed not in (0, size):
        yield f"has {size} bytes uncompressed, and its index says {row.uncompressed}"
    if row.min_timestamp not in (UNKNOWN_TIME, least):
        yield f"its least timestamp is {least}, and its index says {row.min_timestamp}"
    if row.max_timestamp < most:
        yield f"its greatest timestamp is {most}, and its index says {row.max_timestamp}"
