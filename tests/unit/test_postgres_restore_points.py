"""Restore points in segments made byte by byte: each that is there, and nothing that only looks like one."""

from __future__ import annotations

import struct

import pytest
from tests.support.postgres_pages import SEGMENT, Writer, record

from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.pages import PAGE
from tallykeep.systems.postgres.restoring.points import scan

NAME = "vor der Umstellung \u00fc"
XLOG, POINT = 0, 0x70


def point(previous: int, name: str) -> bytes:
    """That of pg_create_restore_point."""
    return record(previous, struct.pack("<q", 5) + (name.encode() + b"\0").ljust(64, b"?"), manager=XLOG, info=POINT)


@pytest.mark.parametrize("before", range(8, 136, 16))
def test_restore_points_are_found_by_their_names(before: int) -> None:
    """Wherever the border of a page cuts one, and with other names around."""
    writer = Writer()
    writer.fill(9 * PAGE - before)
    places = []
    for name in (NAME, NAME + "x", NAME[:-1], NAME):
        places.append(LSN(writer.at))
        writer.put(point(writer.previous, name))
    assert scan(bytes(writer.data), SEGMENT, NAME) == [places[0], places[3]]
    assert scan(bytes(writer.data), SEGMENT, NAME + "x") == [places[1]]
    assert scan(bytes(writer.data), SEGMENT, "another") == scan(b"", SEGMENT, NAME) == []


def test_a_name_in_a_row_of_a_table_is_none() -> None:
    """Nor is a record of another kind, or one that is not whole."""
    writer, other = Writer(), bytearray(point(9, NAME))
    other[8] ^= 1
    writer.put(record(writer.previous, bytes(6) + bytes(other), manager=10))
    writer.put(record(writer.previous, struct.pack("<q", 5) + NAME.encode().ljust(64, b"\0"), manager=XLOG))
    writer.put(point(writer.previous, NAME)[:-8])
    assert scan(bytes(writer.data), SEGMENT, NAME) == []
