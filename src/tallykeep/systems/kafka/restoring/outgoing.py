"""Batches as they go out: copied under a new header, or made anew from the records that are to be kept.

Offsets of the target have no holes, so the sequence of a batch is its offset less the one at which its producer began.
That is the whole map from batches to sequences: it need not be written down, and a resumed restore arrives at the
same batches under the same sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tallykeep.errors import RestoreError
from tallykeep.systems.kafka.restoring.choosing import Fate, Window
from tallykeep.systems.kafka.wire.batch import Batch
from tallykeep.systems.kafka.wire.header import DELETE_HORIZON, HEADER_SIZE, LOG_APPEND_TIME
from tallykeep.systems.kafka.wire.rewrite import stamped_head
from tallykeep.systems.kafka.wire.slices import Slice, joined, slices

_SEQUENCES = 1 << 31  # behind the last sequence comes 0


class Stint(NamedTuple):
    """One producer id's part of a target partition."""

    start: int  # offset at which it begins, with sequence 0
    producer_id: int
    epoch: int

    def sequence(self, offset: int) -> int:
        """Of the record at that offset."""
        return (offset - self.start) % _SEQUENCES


class Run(NamedTuple):
    """Records that follow one another in the source without a hole."""

    offset: int
    records: int


class Outgoing(NamedTuple):
    """A batch for one target partition."""

    offset: int  # of its first record in the target
    records: int  # and offsets
    head: bytes
    payload: memoryview
    uncompressed: int  # bytes, as far as the backup knows them

    @property
    def end(self) -> int:
        """Offset behind its last record."""
        return self.offset + self.records

    @property
    def size(self) -> int:
        """Bytes of the batch."""
        return len(self.head) + len(self.payload)


class Kept(NamedTuple):
    """What goes out of one batch of the backup."""

    batches: Sequence[bytes | memoryview]  # whole, not stamped
    runs: Sequence[Run]


def keep(batch: Batch, fate: Fate, start: int, window: Window, largest: int) -> Kept:
    """What a batch becomes. Blocks where it is not copied. Raises: BatchError; RestoreError for too large a record."""
    if fate is Fate.COPY:
        return _whole(batch)
    records = slices(batch)
    kept = [record for record in records if record.offset >= start and record.timestamp in window]
    if len(kept) == len(records) and _goes_as_it_is(batch, largest):
        return _whole(batch)
    return Kept(list(_remade(kept, batch, largest)) if kept else [], list(_runs(kept)))


def outgoing(data: bytes | memoryview, offset: int, stint: Stint, uncompressed: int) -> Outgoing:
    """The batch in `data`, stamped for its place in the target."""
    view = memoryview(data)
    head = stamped_head(view, stint.producer_id, stint.epoch, stint.sequence(offset))
    return Outgoing(offset, int.from_bytes(view[57:61], "big"), head, view[HEADER_SIZE:], uncompressed)


def unexpected_end(reached: int, between: Outgoing | None = None) -> RestoreError:
    """The target holds something else than this restore has sent."""
    where = f"in the midst of a batch at offsets {between.offset} to {between.end - 1}" if between else "elsewhere"
    return RestoreError(
        f"the target ends at offset {reached}, {where}: something else has written to it or deleted from it. "
        "Delete the topic and the state of this restore, and begin again."
    )


def _whole(batch: Batch) -> Kept:
    return Kept([batch.data], [Run(batch.header.base_offset, batch.header.record_count)])


def _goes_as_it_is(batch: Batch, largest: int) -> bool:
    header = batch.header
    return not (header.is_gapped or header.attributes & (LOG_APPEND_TIME | DELETE_HORIZON) or header.size > largest)


def _remade(records: Sequence[Slice], batch: Batch, largest: int) -> Iterator[bytes]:
    """Batches of at most `largest` bytes with these records, in halves until they fit."""
    data = joined(records, batch.header.codec)
    if len(data) <= largest:
        yield data
    elif len(records) == 1:
        raise RestoreError(
            f"the record at offset {records[0].offset} makes a batch of {len(data)} bytes and the target takes "
            f"{largest}: raise max.message.bytes of the target topic."
        )
    else:
        half = len(records) // 2
        yield from _remade(records[:half], batch, largest)
        yield from _remade(records[half:], batch, largest)


def _runs(records: Sequence[Slice]) -> Iterator[Run]:
    start = before = None
    for record in records:
        if before is None or start is None:
            start = record.offset
        elif record.offset != before + 1:
            yield Run(start, before + 1 - start)
            start = record.offset
        before = record.offset
    if before is not None and start is not None:
        yield Run(start, before + 1 - start)
