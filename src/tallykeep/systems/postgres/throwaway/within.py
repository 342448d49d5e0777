"""Tablespaces that recovery makes, kept within the data directory of the throw-away server.

CREATE TABLESPACE writes its folder into WAL, and recovery makes it there again. On the primary's own machine that is
the folder which the live cluster uses, and a copy would write over its files. Without a folder a tablespace lies in
the data directory: so the path's first byte becomes zero, and the record's CRC what it is then. All else stays.

A record may go on over pages, which is followed. One that goes on into the next segment is refused; with a path of 30
bytes that is one in 200,000. 65 to 340 MB/s. Memory: two segments more while one is looked at.
Source: PostgreSQL, src/include/commands/tablespace.h (xl_tblspc_create_rec), access/xlogrecord.h; in-place tablespaces
in src/backend/commands/tablespace.c, which 14.5 and all later majors know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tallykeep.errors import Refused
from tallykeep.systems.postgres.checksum import crc32c
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.pages import LONG, PAGE, SHORT

_WORD = 8  # bytes, to which every record is aligned
_HEAD = 24  # bytes of a record's own header, the last four of them its CRC
_CREATE, _MANAGER = b"\x05\0\0", 17  # resource manager 5 and padding, at that offset; before it operation 0 with flags
_FLAGS = 0x0F
_SHORTEST, _LONGEST = _HEAD + 2 + 4 + 2, _HEAD + 3 + 5 + 4 + 1024  # bytes of such a record
_MADE = re.compile(rb"(?:\xfd..)?(?:\xff.|\xfe....)....(/[^\0]*)\0", re.DOTALL)  # origin, size, oid, path


def within(data: bytes, segment: Segment) -> bytes:
    """A segment, or its beginning, whose tablespaces lie in the data directory. Blocks. Raises: Refused."""
    records = _records(data)
    changed: bytearray | None = None
    for at, size in _candidates(records):
        record = bytearray(records[at : at + size])
        if len(record) < size:
            _see_ended(records, at, segment, len(data))
        elif _crc(record) == bytes(record[_HEAD - 4 : _HEAD]) and (made := _MADE.fullmatch(record, _HEAD)):
            changed = changed or bytearray(data)
            record[made.start(1)] = 0
            changed[_place(at + made.start(1))] = 0
            crc = _place(at + _HEAD - 4)
            changed[crc : crc + 4] = _crc(record)
    return data if changed is None else bytes(changed)


def _records(data: bytes) -> bytes:
    """Pages without their headers, behind one another."""
    rest = (data[page + SHORT : page + PAGE] for page in range(PAGE, len(data), PAGE))
    return b"".join((data[LONG:PAGE], *rest))


def _candidates(records: bytes) -> Iterator[tuple[int, int]]:
    """Where such a record may begin, and its size."""
    found = records.find(_CREATE, _MANAGER)
    while found >= 0:
        at = found - _MANAGER
        if at % _WORD == 0 and records[found - 1] <= _FLAGS:
            size = int.from_bytes(records[at : at + 4], "little")
            if _SHORTEST <= size <= _LONGEST:
                yield at, size
        found = records.find(_CREATE, found + 1)


def _see_ended(records: bytes, at: int, segment: Segment, size: int) -> None:
    """Of a record that does not end in the segment. One at the end of WAL is never replayed. Raises: Refused."""
    position, before = segment.start + _place(at), int.from_bytes(records[at + 8 : at + 16], "little")
    if size == segment.size and position - segment.size < before < position:
        raise Refused(
            f"A tablespace was made at {LSN(position)}, and its record goes on into another WAL file: recovery would "
            "make it where the cluster has it. Take a base backup, and try again."
        )


def _crc(record: bytearray) -> bytes:
    return crc32c(bytes(record[: _HEAD - 4]), crc32c(bytes(record[_HEAD:]))).to_bytes(4, "little")


def _place(at: int) -> int:
    """Where a byte of the records lies in the segment."""
    first = PAGE - LONG
    if at < first:
        return LONG + at
    page, rest = divmod(at - first, PAGE - SHORT)
    return (page + 1) * PAGE + SHORT + rest
