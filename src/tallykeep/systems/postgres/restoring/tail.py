"""The end of the WAL that is held: its last record, and the newest commit in it, which is as far as time reaches.

A server that is told to recover to a moment, and finds no commit behind it, ends with an error after all the work.
So the last segments are read beforehand, from the end backwards until there is a commit. About 40 MB/s.
Source: PostgreSQL, src/include/access/xact.h (xl_xact_commit, xl_xact_abort), xlogrecord.h; recoveryStopsBefore in
src/backend/access/transam/xlogrecovery.c looks at commits and aborts alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from tallykeep.errors import IntegrityError
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.coverage import Range
from tallykeep.systems.postgres.lsn import LSN, History, Segment
from tallykeep.systems.postgres.pages import PAGE
from tallykeep.systems.postgres.records import Records
from tallykeep.systems.postgres.restoring.tiered_wal import TieredWal
from tallykeep.systems.postgres.wal_source import HeldSegment

MOST = 8  # segments
_PIECE = 1 << 20  # bytes that are read at a time
_HEAD = 24  # bytes of a record's own header
_XACT = 1  # resource manager
_ENDS = {0x00, 0x20, 0x30, 0x40}  # commit, abort, and both of prepared transactions
_KIND = 0x70
_SHORT, _LONG, _ORIGIN, _TOP = 255, 254, 253, 252  # headers of parts of a record
_EPOCH = 946_684_800  # Unix time of 2000-01-01, from which PostgreSQL counts microseconds


class Tail(NamedTuple):
    """How far a stretch of WAL reaches."""

    last_record: LSN | None  # where it begins; None where none was found
    last_end: float | None  # Unix seconds of the newest commit or abort; None where none was found


async def look(
    wal: TieredWal, segments: Sequence[HeldSegment], history: History, reach: Range, most: int = MOST
) -> Tail:  # fmt: skip
    """Read the end of `reach`, backwards until a commit is found, `most` segments at most.

    Raises: as TieredWal.read does.
    """
    record: LSN | None = None
    for segment in list(backwards(segments, history, reach))[:most]:
        found = await in_thread(scan, await wal.read(segment), segment, reach.end)
        record = record or found.last_record
        if found.last_end is not None:
            return Tail(record, found.last_end)
    return Tail(record, None)


def backwards(segments: Sequence[HeldSegment], history: History, reach: Range) -> Iterator[Segment]:
    """The segments along the line from the end of `reach`, each of the newest timeline that has it."""
    by_start: dict[LSN, Segment] = {}
    for segment, end, _ in segments:
        left = history.left(segment.timeline)
        on_line = history.knows(segment.timeline) and (left is None or segment.start < left)
        if on_line and segment.start < end and reach.start <= segment.start < reach.end:
            by_start[segment.start] = segment  # timelines ascend
    for start in sorted(by_start, reverse=True):
        yield by_start[start]


def scan(data: bytes, segment: Segment, limit: int) -> Tail:
    """The last record of a segment, or of its beginning, that begins before `limit`, and a newest commit. Blocks.

    From the end backwards, a piece at a time, until there is a commit.
    """
    record: LSN | None = None
    whole = data.ljust(len(data) + -len(data) % PAGE, b"\0")
    for start in range((len(whole) - 1) // _PIECE * _PIECE, -1, -_PIECE):
        ends = _Ends(segment, segment.start + start, limit)
        with suppress(IntegrityError):  # a record that was cut is where WAL ends
            ends.feed(whole[start : start + _PIECE])
            ends.complete(memoryview(whole)[start + _PIECE :])
        record = record or ends.last_record
        if ends.last_end is not None:
            return Tail(record, ends.last_end)
    return Tail(record, None)


class _Ends(Records):
    """Notes ends of transactions as records are proved."""

    def __init__(self, segment: Segment, start: int, limit: int) -> None:
        super().__init__(segment.size, start)
        self.last_record: LSN | None = None
        self.last_end: float | None = None
        self._limit = limit

    def complete(self, data: memoryview) -> None:
        """Take from what follows only the rest of a record that has begun."""
        begun = self._begun
        if begun is not None:
            self._limit = min(self._limit, begun + 1)
        while begun is not None and self._begun == begun and data:
            self.feed(bytes(data[:PAGE]))
            data = data[PAGE:]

    def _prove(self, end: int) -> None:
        assert self._begun is not None
        begun, record = self._begun, bytes(self._record)
        super()._prove(end)
        if begun < self._limit:
            self.last_record = LSN(begun)
            moment = end_of_transaction(record)
            if moment is not None:
                self.last_end = max(moment, self.last_end or moment)


def end_of_transaction(record: bytes) -> float | None:
    """Unix seconds of a commit or an abort; None for any other record."""
    if record[17] != _XACT or record[16] & _KIND not in _ENDS:
        return None
    at = _main_data(record)
    return None if at is None else _EPOCH + int.from_bytes(record[at : at + 8], "little", signed=True) / 1e6


def _main_data(record: bytes) -> int | None:
    """Where the data of a record without blocks begins."""
    at = _HEAD
    while at < len(record):
        kind = record[at]
        if kind in (_SHORT, _LONG):
            return at + (2 if kind == _SHORT else 5)
        if kind not in (_ORIGIN, _TOP):
            return None
        at += 3 if kind == _ORIGIN else 5
    return None
