"""What a restore would send, counted from the indexes alone: exact but for batches at the edges of a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tallykeep.runtime.threads import in_thread
from tallykeep.systems.kafka.index import SegmentIndex
from tallykeep.systems.kafka.manifest import SegmentEntry
from tallykeep.systems.kafka.restoring.choosing import Fate, Window, choose
from tallykeep.systems.kafka.restoring.stream import Source
from tallykeep.systems.kafka.transactions import AbortedTransactions


@dataclass(slots=True)
class Survey:
    """Of one partition."""

    records: int = 0  # at the most: a batch that is cut counts whole
    bytes: int = 0  # uncompressed, as far as the backup knows
    copied: int = 0  # batches
    remade: int = 0  # batches, those that are cut among them
    left: int = 0  # batches: markers, aborted, outside the window
    largest: int = 0  # bytes of the largest batch that goes out
    largest_record: int = 0  # bytes of the largest batch of a single record: it cannot be split
    last: int = -1  # the greatest timestamp, Unix milliseconds
    first: int | None = None  # the least of the greatest timestamps of batches


async def survey(source: Source, segments: Sequence[SegmentEntry], window: Window) -> Survey:
    """Read the indexes of one partition. Raises: IntegrityError; StoreErrors."""
    found, aborted = Survey(), AbortedTransactions()
    for entry in segments:
        await in_thread(_count, found, await source.index(entry), aborted, window)
    return found


def _count(found: Survey, index: SegmentIndex, aborted: AbortedTransactions, window: Window) -> None:
    for row, fate in choose(index, aborted, window):
        if fate is Fate.LEAVE:
            found.left += 1
            continue
        found.copied += fate is Fate.COPY
        found.remade += fate is not Fate.COPY
        found.records += row.record_count
        found.bytes += row.uncompressed or row.size
        found.largest = max(found.largest, row.size)
        found.last = max(found.last, row.max_timestamp)
        if row.record_count == 1:
            found.largest_record = max(found.largest_record, row.size)
        found.first = row.max_timestamp if found.first is None else min(found.first, row.max_timestamp)
