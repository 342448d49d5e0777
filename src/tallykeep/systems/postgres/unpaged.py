"""The records of a WAL segment behind one another, without the headers of its pages: to look for one by its bytes.

A record goes on over pages as if there were none. The memory is that of the segment once more.
Source: PostgreSQL, src/include/access/xlogrecord.h (XLogRecord), xlog_internal.h (XLogPageHeaderData).
"""

from __future__ import annotations

from tallykeep.systems.postgres.checksum import crc32c
from tallykeep.systems.postgres.pages import LONG, PAGE, SHORT

WORD = 8  # bytes, to which every record is aligned
HEAD = 24  # bytes of a record's own header, the last four of them its CRC
FLAGS = 0x0F  # bits of the operation, at 16, that are no operation; the resource manager stands at 17


def unpaged(data: bytes) -> bytes:
    """The records of a segment, or of its beginning."""
    rest = (data[page + SHORT : page + PAGE] for page in range(PAGE, len(data), PAGE))
    return b"".join((data[LONG:PAGE], *rest))


def place(at: int) -> int:
    """Where a byte of `unpaged` lies in the segment."""
    first = PAGE - LONG
    if at < first:
        return LONG + at
    page, rest = divmod(at - first, PAGE - SHORT)
    return (page + 1) * PAGE + SHORT + rest


def crc_of(record: bytes) -> bytes:
    """The four bytes that a whole record must have as its CRC."""
    return crc32c(record[: HEAD - 4], crc32c(record[HEAD:])).to_bytes(4, "little")
