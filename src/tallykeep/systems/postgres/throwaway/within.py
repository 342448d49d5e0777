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
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.unpaged import FLAGS, HEAD, WORD, crc_of, place, unpaged

_CREATE, _MANAGER = b"\x05\0\0", 17  # resource manager 5 and padding, at that offset; before it operation 0 with flags
_SHORTEST, _LONGEST = HEAD + 2 + 4 + 2, HEAD + 3 + 5 + 4 + 1024  # bytes of such a record
_MADE = re.compile(rb"(?:\xfd..)?(?:\xff.|\xfe....)....(/[^\0]*)\0", re.DOTALL)  # origin, size, oid, path


def within(data: bytes, segment: Segment) -> bytes:
    """A segment, or its beginning, whose tablespaces lie in the data directory. Blocks. Raises: Refused."""
    records = unpaged(data)
    changed: bytearray | None = None
    for at, size in _candidates(records):
        record = bytearray(records[at : at + size])
        if len(record) < size:
            _see_ended(records, at, segment, len(data))
        elif crc_of(bytes(record)) == record[HEAD - 4 : HEAD] and (made := _MADE.fullmatch(record, HEAD)):
            changed = changed or bytearray(data)
            record[made.start(1)] = 0
            changed[place(at + made.start(1))] = 0
            crc = place(at + HEAD - 4)
            changed[crc : crc + 4] = crc_of(bytes(record))
    return data if changed is None else bytes(changed)


def _candidates(records: bytes) -> Iterator[tuple[int, int]]:
    """Where such a record may begin, and its size."""
    found = records.find(_CREATE, _MANAGER)
    while found >= 0:
        at = found - _MANAGER
        if at % WORD == 0 and records[found - 1] <= FLAGS:
            size = int.from_bytes(records[at : at + 4], "little")
            if _SHORTEST <= size <= _LONGEST:
                yield at, size
        found = records.find(_CREATE, found + 1)


def _see_ended(records: bytes, at: int, segment: Segment, size: int) -> None:
    """Of a record that does not end in the segment. One at the end of WAL is never replayed. Raises: Refused."""
    position, before = segment.start + place(at), int.from_bytes(records[at + 8 : at + 16], "little")
    if size == segment.size and position - segment.size < before < position:
        raise Refused(
            f"A tablespace was made at {LSN(position)}, and its record goes on into another WAL file: recovery would "
            "make it where the cluster has it. Take a base backup, and try again."
        )
