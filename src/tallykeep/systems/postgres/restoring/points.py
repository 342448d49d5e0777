"""Restore points, looked for in WAL by their names: which backup leads to one is not known otherwise.

From the end backwards, until one is found; PostgreSQL itself stops at the first of its name behind the backup. A record
that goes on into the next segment is not seen: one in 200,000. About 1,000 MB/s, as fast as a tier gives WAL.
Memory: three segments.
Source: PostgreSQL, src/include/access/xlog_internal.h (xl_restore_point), pg_create_restore_point.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from tallykeep.errors import IntegrityError, NotFound
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.coverage import Range
from tallykeep.systems.postgres.lsn import LSN, History, Segment
from tallykeep.systems.postgres.restoring.tail import backwards
from tallykeep.systems.postgres.restoring.tiered_wal import TieredWal
from tallykeep.systems.postgres.unpaged import FLAGS, HEAD, WORD, crc_of, place, unpaged
from tallykeep.systems.postgres.wal_source import HeldSegment

_NAMED = 64  # bytes of a name
_BEFORE = HEAD + 2 + 8  # bytes before the name: size of the data, time
_KIND = (0x70, 0)  # operation and resource manager


async def newest(wal: TieredWal, segments: Sequence[HeldSegment], history: History, reach: Range, name: str) -> LSN:
    """Where the newest restore point of that name begins. Raises: NotFound; as TieredWal.read does.

    Damaged segments are passed over: recovery meets them, if it comes there.
    """
    for segment in _backwards(segments, history, reach):
        if found := await _inside(wal, segment, history, reach, name):
            return max(found)
    raise NotFound(f"There is no restore point {name!r} in WAL from {reach.start} to {reach.end}.")


async def every(
    wal: TieredWal, segments: Sequence[HeldSegment], history: History, reach: Range, name: str
) -> list[LSN]:  # fmt: skip
    """Where all of that name begin, in order. Raises: as `newest` does."""
    found = [await _inside(wal, segment, history, reach, name) for segment in _backwards(segments, history, reach)]
    return sorted(lsn for each in found for lsn in each)


def _backwards(segments: Sequence[HeldSegment], history: History, reach: Range) -> Iterator[Segment]:
    """From the end to the segment in which `reach` begins."""
    for size in {held.segment.size for held in segments}:
        yield from backwards(segments, history, Range(LSN(reach.start - reach.start % size), reach.end))


async def _inside(wal: TieredWal, segment: Segment, history: History, reach: Range, name: str) -> list[LSN]:
    left = history.left(segment.timeline) or reach.end
    with suppress(IntegrityError):
        found = await in_thread(scan, await wal.read(segment), segment, name)
        return [lsn for lsn in found if reach.start <= lsn < min(left, reach.end)]
    return []


def scan(data: bytes, segment: Segment, name: str) -> list[LSN]:
    """Where restore points of that name begin in a segment, or in its beginning. Blocks."""
    named = name.encode("utf-8", "surrogateescape")[: _NAMED - 1] + b"\0"  # behind it there is anything
    return [LSN(segment.start + place(at)) for at in _points(unpaged(data), named)]


def _points(records: bytes, named: bytes) -> Iterator[int]:
    found = records.find(named, _BEFORE)
    while found >= 0:
        at = found - _BEFORE
        if at % WORD == 0 and _is_point(records[at : found + _NAMED]):
            yield at
        found = records.find(named, found + 1)


def _is_point(record: bytes) -> bool:
    size = int.from_bytes(record[:4], "little")
    if size != _BEFORE + _NAMED or size != len(record) or (record[16] & ~FLAGS, record[17]) != _KIND:
        return False
    return crc_of(record) == record[HEAD - 4 : HEAD]
