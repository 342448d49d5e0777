"""What every page of WAL says of itself, checked as it arrives: magic, address, timeline, system identifier.

A page that belongs elsewhere is never stored, and so never acknowledged. Records and their checksums are another
matter: records.py. Source: PostgreSQL, src/include/access/xlog_internal.h (XLogPageHeaderData).
"""

from __future__ import annotations

import struct

from tallykeep.errors import Malformed
from tallykeep.systems.postgres.lsn import LSN

PAGE = 8192  # XLOG_BLCKSZ, unless PostgreSQL was compiled otherwise
SHORT, LONG = 24, 40  # bytes of a header; the first page of a segment has a long one
MAGICS = {0xD10D: 14, 0xD110: 15, 0xD113: 16, 0xD116: 17, 0xD118: 18}  # and the majors they are of
_HEAD = struct.Struct("<HHIQ")
_WHOLE = struct.Struct(f"<HHIQ{PAGE - 16}x")  # a page, of which the same is read
_LONG = struct.Struct("<QII")
_FLAGS = 0xF


class PageCheck:
    """Looks at the pages of a stream. Fed piece after piece; a header may be cut by the border of two."""

    def __init__(self, system_id: int, segment_size: int, version: int = 0) -> None:
        """`version`: server_version_num, where it is known."""
        self._system_id = system_id
        self._segment_size = segment_size
        self._major = version // 10_000
        self._magic = -1  # of the page before
        self._rest = b""  # of a piece: the beginning of a header
        self._next = -1

    def feed(self, timeline: int, lsn: int, data: bytes | memoryview) -> None:
        """Look at `data`, which begins at `lsn`. Raises: Malformed, saying which page is wrong and how."""
        if self._rest and lsn == self._next:
            lsn, data = lsn - len(self._rest), b"".join((self._rest, data))
        self._next, self._rest = lsn + len(data), b""
        first = -lsn % PAGE
        if first < len(data):
            self._pages(timeline, lsn + first, memoryview(data)[first:])

    def _pages(self, timeline: int, lsn: int, data: memoryview) -> None:
        at = 0
        while (at := at + self._usual(timeline, lsn + at, data[at:])) < len(data):
            needed = SHORT if (lsn + at) % self._segment_size else LONG
            if len(data) - at < needed:
                self._rest = bytes(data[at:])
                return
            self._page(timeline, LSN(lsn + at), data, at)
            at += PAGE

    def _usual(self, timeline: int, lsn: int, data: memoryview) -> int:
        """Bytes of the whole pages at the beginning that are as most are: 0.1 us each instead of 2."""
        due, first = lsn, lsn + -lsn % self._segment_size
        for magic, flags, of, address in _WHOLE.iter_unpack(data[: len(data) // PAGE * PAGE]):
            if address != due or magic != self._magic or flags > _FLAGS or not 1 <= of <= timeline or due == first:
                break
            due += PAGE
        return due - lsn

    def _page(self, timeline: int, lsn: LSN, data: memoryview, at: int) -> None:
        magic, flags, of, address = _HEAD.unpack_from(data, at)
        if not magic and not any(data[at : at + SHORT]) and lsn % self._segment_size:
            return  # behind a switch of segments nothing is written
        if address != lsn:
            raise _wrong(lsn, f"says that it is the page at {LSN(address)}")
        if flags & ~_FLAGS or not self._is_magic(magic):
            raise _wrong(lsn, f"has the magic {magic:04X} and the flags {flags:04X}")
        if not 1 <= of <= timeline:
            raise _wrong(lsn, f"is of timeline {of}, and timeline {timeline} was asked for")
        self._magic = magic
        if lsn % self._segment_size == 0:
            self._first(lsn, data, at)

    def _is_magic(self, magic: int) -> bool:
        """Of the server's major; of a major that is newer than this program, one that none before it had."""
        if self._major in MAGICS.values():
            return MAGICS.get(magic) == self._major
        return (magic in MAGICS) == (self._major == 0) and magic >> 12 == 0xD

    def _first(self, lsn: LSN, data: memoryview, at: int) -> None:
        system_id, size, page = _LONG.unpack_from(data, at + SHORT)
        if system_id != self._system_id:
            raise _wrong(lsn, f"is of the system {system_id}, and this archive is of {self._system_id}")
        if (size, page) != (self._segment_size, PAGE):
            raise _wrong(lsn, f"is of segments of {size} bytes and pages of {page}")


def _wrong(lsn: LSN, what: str) -> Malformed:
    return Malformed(f"The WAL page at {lsn} {what}. It is not stored; if this goes on, check the primary's disk.")
