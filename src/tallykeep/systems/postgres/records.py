"""Records of WAL, proved: each by its CRC-32C, and each by pointing back to the one before it.

Pages are put together to a stream of records, as recovery does it: a record may go on over pages and segments, a page
says how much of one it carries on, a switch leaves the rest of its segment empty, and after a crash of the primary a
record may have been given up half-written. About 40 MB/s.
Source: PostgreSQL, src/backend/access/transam/xlogreader.c, src/include/access/xlogrecord.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tallykeep.errors import IntegrityError
from tallykeep.systems.postgres.checksum import crc32c
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.pages import LONG, PAGE, SHORT

_PAGE = struct.Struct("<HHIQI")
_RECORD = struct.Struct("<IIQBBHI")  # size, transaction, previous record, info, resource manager, -, CRC
_SIGNED = _RECORD.size - 4
_CONTINUES, _GIVEN_UP = 1, 8  # flags of a page
_SWITCH = (0, 0x40)  # resource manager and info of XLOG_SWITCH
_MOST = 1 << 30  # bytes of a record


class Records:
    """Proves WAL that is fed in order, piece by piece, each piece a run of whole pages but for the last."""

    def __init__(self, segment_size: int, start: int) -> None:
        """`start`: the beginning of a segment."""
        self._segment_size = segment_size
        self._page_lsn = start  # of the next page
        self._begun: int | None = None  # where the record in `_record` begins
        self._record = bytearray()
        self._previous: int | None = None
        self._switched = False  # nothing but empty pages up to the segment's end
        self.verified = LSN(start)  # the end of the last record that was proved

    def feed(self, data: bytes) -> None:
        """Prove what is complete in `data`, whole pages that go on from the last. Raises: IntegrityError."""
        for at in range(0, len(data), PAGE):
            lsn = self._page_lsn
            if lsn % self._segment_size == 0:
                self._switched = False
            if not self._switched:
                self._page(lsn, memoryview(data)[at : at + PAGE])
            self._page_lsn = lsn + PAGE

    def _page(self, lsn: int, page: memoryview) -> None:
        magic, flags, _, address, rest = _PAGE.unpack_from(page)
        if not magic and not address:
            return  # the end of WAL
        if address != lsn:
            raise IntegrityError(f"WAL page {LSN(lsn)}: says that it is the page at {LSN(address)}.")
        at = SHORT if lsn % self._segment_size else LONG
        if flags & _GIVEN_UP:
            self._forget()
        at = self._carried_on(lsn, page, at, rest if flags & _CONTINUES else 0)
        while at < PAGE and not self._switched:
            following = self._next(lsn, page, at)
            if following is None:
                return
            at = following

    def _carried_on(self, lsn: int, page: memoryview, at: int, rest: int) -> int:
        """Take what the page carries on of a record; where the next record begins in it."""
        expected = self._missing()
        if self._begun is not None and rest != expected:
            raise IntegrityError(f"WAL page {LSN(lsn)}: carries on {rest} bytes of a record that misses {expected}.")
        part = page[at : at + rest]
        if self._begun is not None:
            self._record += part
            if len(part) == rest:
                self._prove(lsn + _aligned(at + rest))
        return _aligned(at + rest) if rest <= PAGE - at else PAGE

    def _missing(self) -> int:
        return int.from_bytes(self._record[:4], "little") - len(self._record) if self._begun is not None else 0

    def _next(self, lsn: int, page: memoryview, at: int) -> int | None:
        """Take a record that begins at `at`; where the next one does, None at the end of WAL."""
        size = int.from_bytes(page[at : at + 4], "little")
        if size == 0:
            return None
        if not _RECORD.size <= size <= _MOST:
            raise IntegrityError(f"WAL record {LSN(lsn + at)}: says that it has {size} bytes.")
        self._begun, self._record = lsn + at, bytearray(page[at : at + size])
        if len(self._record) == size:
            self._prove(lsn + _aligned(at + size))
        return _aligned(at + size)

    def _prove(self, end: int) -> None:
        assert self._begun is not None
        _, _, previous, info, manager, _, crc = _RECORD.unpack_from(self._record)
        view = memoryview(self._record)
        found = crc32c(view[:_SIGNED], crc32c(view[_RECORD.size :]))
        name = f"WAL record {LSN(self._begun)}"
        if found != crc:
            raise IntegrityError(f"{name}: its CRC-32C is {found:08x}, and it says {crc:08x}.")
        if self._previous is not None and previous != self._previous:
            raise IntegrityError(f"{name}: says that {LSN(previous)} came before it; it was {LSN(self._previous)}.")
        self._previous, self.verified = self._begun, LSN(end)
        if (manager, info) == _SWITCH:
            self._switched = True
            self.verified = LSN(end + -end % self._segment_size)
        del view
        self._forget()

    def _forget(self) -> None:
        self._begun = None
        self._record = bytearray()


def _aligned(at: int) -> int:
    return at + -at % 8


def prove(pieces: Iterator[bytes], segment_size: int, start: int) -> LSN:
    """Prove segments that follow one another from `start`; how far they are proved. Raises: IntegrityError."""
    records = Records(segment_size, start)
    for piece in pieces:
        records.feed(piece[: len(piece) - len(piece) % PAGE])
    return records.verified
