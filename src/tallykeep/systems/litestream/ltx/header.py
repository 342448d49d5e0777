"""The first 100 bytes of an LTX file: which transactions, of a database of what shape.

Source: superfly/ltx, ltx.go, Header.UnmarshalBinary and Header.Validate. As strict as that, and stricter in one
thing: a database of no pages, which Litestream cannot write. The 20 reserved bytes are checksummed, but not
looked at, there as here: a later writer may use them.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tallykeep.systems.litestream.ltx.checksum import FLAG
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.name import LtxName
from tallykeep.systems.litestream.ltx.txid import Txid

HEADER_SIZE = 100
MAGIC = b"LTX1"
NO_CHECKSUM = 0x2  # flag: the rolling checksum of the database is not kept
PAGE_SIZES = frozenset(512 << power for power in range(8))  # 512 to 65536
LOCK_BYTE = 0x40000000  # SQLite locks this byte; the page it lies on is never used

_LAYOUT = struct.Struct(">4sIIIQQqQqqIIQ20x")


def lock_page(page_size: int) -> int:
    """The number of the page that SQLite locks by and that no LTX file holds."""
    return LOCK_BYTE // page_size + 1


class Header(NamedTuple):
    """What an LTX file says of itself."""

    flags: int
    page_size: int  # bytes
    commit: int  # pages of the database after the last transaction
    min_txid: Txid
    max_txid: Txid
    timestamp_ms: int  # Unix milliseconds of the last transaction; any value, not only sensible ones
    pre_apply_checksum: int  # rolling checksum of the database before; zero where it is not kept
    wal_offset: int  # bytes into the WAL the pages come from; zero after a compaction
    wal_size: int  # bytes of WAL; zero after a compaction
    wal_salt1: int  # of the WAL's header; zero after a compaction
    wal_salt2: int
    node_id: int  # zero in Litestream

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Header:
        """Read and check a header; bytes behind the first 100 are not looked at.

        Raises: LtxError (too_small, bad_magic, bad_header).
        """
        if len(data) < HEADER_SIZE:
            raise LtxError("too_small", f"{len(data)} bytes are not an LTX file: its header alone has {HEADER_SIZE}")
        magic, *fields = _LAYOUT.unpack_from(data)
        if magic != MAGIC:
            raise LtxError("bad_magic", f"not an LTX file: it starts with {magic!r}, not with {MAGIC!r}")
        header = cls(*fields)
        header = header._replace(min_txid=Txid(header.min_txid), max_txid=Txid(header.max_txid))
        if problem := header._problem():
            raise LtxError("bad_header", f"the header cannot be: {problem}")
        return header

    @property
    def name(self) -> LtxName:
        """The name the file must have."""
        return LtxName(self.min_txid, self.max_txid)

    @property
    def timestamp(self) -> float:
        """Unix seconds of the last transaction."""
        return self.timestamp_ms / 1000

    @property
    def is_snapshot(self) -> bool:
        """Whether the file starts at the first transaction and so must hold every page of the database."""
        return self.min_txid == 1

    @property
    def tracks_checksum(self) -> bool:
        """Whether the rolling checksum of the database is kept."""
        return not self.flags & NO_CHECKSUM

    @property
    def lock_page(self) -> int:
        return lock_page(self.page_size)

    def _problem(self) -> str:
        if self.flags & ~NO_CHECKSUM:
            return f"unknown flags {self.flags:#x}"
        if self.page_size not in PAGE_SIZES:
            return f"page size {self.page_size}"
        if self.commit == 0:
            return "a database of no pages"
        if self.min_txid == 0 or self.min_txid > self.max_txid:
            return f"TXIDs {self.min_txid} to {self.max_txid}"
        return self._wal_problem() or self._checksum_problem()

    def _wal_problem(self) -> str:
        if self.wal_offset < 0 or self.wal_size < 0:
            return f"WAL offset {self.wal_offset}, WAL size {self.wal_size}"
        if self.wal_offset == 0 and (self.wal_size or self.wal_salt1 or self.wal_salt2):
            return "a WAL size or salt without a WAL offset"
        return ""

    def _checksum_problem(self) -> str:
        if self.is_snapshot or not self.tracks_checksum:
            return f"pre-apply checksum {self.pre_apply_checksum:016x}, where none may be" * bool(
                self.pre_apply_checksum
            )
        return "" if self.pre_apply_checksum & FLAG else f"pre-apply checksum {self.pre_apply_checksum:016x}"
