"""Tablespaces in the WAL of a throw-away server: segments made byte by byte, proved by the prover of records."""

from __future__ import annotations

import struct

import pytest
from tests.support.postgres_pages import SEGMENT, SIZE, Writer, record

from tallykeep.errors import Refused
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.pages import LONG, PAGE, SHORT
from tallykeep.systems.postgres.records import Records
from tallykeep.systems.postgres.throwaway.within import within

PATH = b"/srv/fast disk/postgres"
MADE, DROPPED = 0x00, 0x10


def tablespace(previous: int, *, info: int = MADE, path: bytes = PATH) -> bytes:
    """That of CREATE TABLESPACE, or of DROP TABLESPACE."""
    return record(previous, struct.pack("<I", 16385) + (path + b"\0" if info == MADE else b""), manager=5, info=info)


@pytest.mark.parametrize("before", range(8, 104, 8))
def test_a_tablespace_is_made_within_the_data_directory(before: int) -> None:
    """Wherever the border of a page cuts its record: its path becomes empty, its CRC is right, nothing else changes."""
    writer = Writer()
    writer.fill(9 * PAGE - before)
    at = len(writer.data)
    writer.put(tablespace(writer.previous))
    writer.put(tablespace(writer.previous, info=DROPPED))
    writer.put(record(writer.previous, b"/srv", manager=10))
    plain = bytes(writer.data)
    found = within(plain, SEGMENT)
    changed = [offset for offset, (old, new) in enumerate(zip(plain, found, strict=True)) if old != new]
    assert sum(plain[offset] == ord("/") and found[offset] == 0 for offset in changed) == 1 and len(changed) <= 5
    assert min(changed) >= at and max(changed) < at + 24 + 6 + SHORT + 1
    records = Records(SIZE, SEGMENT.start)
    records.feed(found.ljust(-(-len(found) // PAGE) * PAGE, b"\0"))
    assert records.verified == SEGMENT.start + len(plain)


def test_what_only_looks_like_one_stays() -> None:
    """The same bytes in a row of a table, or with a wrong CRC; and a segment that has none is given back as it is."""
    writer = Writer()
    writer.put(record(writer.previous, bytes(6) + bytes(tablespace(9)[:-8]), manager=10))
    writer.put(record(writer.previous, bytes(6) + bytes(64), manager=10))
    plain = bytes(writer.data)
    assert within(plain, SEGMENT) is plain
    assert within(b"", SEGMENT) == b""


def test_one_that_goes_on_into_the_next_segment_is_refused() -> None:
    """It cannot be changed as a whole. At the end of WAL such a record is never replayed, and nothing is to be done."""
    writer = Writer()
    writer.fill(SIZE - 48)
    writer.put(tablespace(writer.previous))
    plain = bytes(writer.data[:SIZE])
    with pytest.raises(Refused, match=f"made at {LSN(SEGMENT.end - 48)}"):
        within(plain, SEGMENT)
    assert within(plain[:-16], SEGMENT) == plain[:-16]
    assert LONG + SHORT == 64
