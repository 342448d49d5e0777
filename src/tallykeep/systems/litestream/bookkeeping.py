"""Litestream's own writes: which page they go to, so that they are not taken for the application's.

After each checkpoint Litestream adds 1 to the only row of its table `_litestream_seq`, so that a fresh WAL has a
frame. That is a commit of exactly one frame, of the table's root page. It carries nothing of the application's,
so it does not count as exposed (docs/decisions/0009-litestreams-own-commits.md). `_litestream_lock` is only written in
transactions that are rolled back and leaves no commit.

The root page is found in the schema table, read from the database file with plain open(): the row is there before
the first such write, which follows a checkpoint.

Source: Litestream 0.5.17, DB.bumpLitestreamSeq; SQLite, Database File Format, "B-tree Pages", "Record Format".
"""

from __future__ import annotations

import struct
from pathlib import Path

TABLE = "_litestream_seq"

_DATABASE_HEADER = 100  # bytes before the b-tree header of page 1
_LEAF, _INTERIOR = 0x0D, 0x05
_MAGIC = b"SQLite format 3\0"
_ENCODINGS = {1: "utf-8", 2: "utf-16-le", 3: "utf-16-be"}
_INTEGER_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}  # bytes by serial type; 8 and 9 are 0 and 1
_MOST_PAGES = 10_000  # of a schema; damaged ones may loop


def sequence_page(database: Path) -> int | None:
    """The root page of `_litestream_seq`; None where the table, the file or a schema that parses is not there."""
    try:
        with database.open("rb", buffering=0) as file:
            head = file.read(_DATABASE_HEADER)
            if len(head) < _DATABASE_HEADER or not head.startswith(_MAGIC):
                return None
            page_size = struct.unpack_from(">H", head, 16)[0]
            page_size = 65536 if page_size == 1 else page_size
            wanted = TABLE.encode(_ENCODINGS.get(head[59], "utf-8"))
            todo, seen = [1], 0
            while todo and seen < _MOST_PAGES:
                number = todo.pop()
                seen += 1
                file.seek((number - 1) * page_size)
                page = file.read(page_size)
                start = _DATABASE_HEADER if number == 1 else 0
                if page[start] == _LEAF:
                    for cell in _cells(page, start, 8):
                        if root := _root_of(page, cell, wanted):
                            return root
                elif page[start] == _INTERIOR:
                    todo += [struct.unpack_from(">I", page, cell)[0] for cell in _cells(page, start, 12)]
                    todo.append(struct.unpack_from(">I", page, start + 8)[0])
    except (OSError, IndexError, struct.error):
        return None
    return None


def holds_one_counter(page: bytes) -> bool:
    """Whether a page looks as the table's does: one row with rowid 1, of NULL (the rowid's alias) and an integer.

    The root page in the database file may be out of date: a VACUUM that is still in the WAL moves tables.
    """
    try:
        if page[0] != _LEAF or len(cells := _cells(page, 0, 8)) != 1:
            return False
        _, at = _varint(page, cells[0])  # size of the payload
        rowid, at = _varint(page, at)
        return rowid == 1 and page[at : at + 2] == b"\x03\x00" and page[at + 2] in _INTEGER_SIZES
    except (IndexError, struct.error):
        return False


def _cells(page: bytes, start: int, header: int) -> tuple[int, ...]:
    count = struct.unpack_from(">H", page, start + 3)[0]
    return struct.unpack_from(f">{count}H", page, start + header)


def _root_of(page: bytes, cell: int, wanted: bytes) -> int | None:
    """The root page in a schema row (type, name, tbl_name, rootpage, sql) if the row is that of the table."""
    _, at = _varint(page, cell)  # size of the payload
    _, at = _varint(page, at)  # rowid
    header_size, types_at = _varint(page, at)
    types: list[int] = []
    while types_at < at + header_size and len(types) < 4:
        serial, types_at = _varint(page, types_at)
        types.append(serial)
    body = at + header_size
    sizes = [(serial - 13) // 2 if serial >= 13 and serial & 1 else _INTEGER_SIZES.get(serial, 0) for serial in types]
    if len(sizes) < 4 or page[body + sizes[0] : body + sizes[0] + sizes[1]] != wanted:
        return None
    if types[3] in (8, 9):
        return types[3] - 8
    root_at = body + sum(sizes[:3])
    return int.from_bytes(page[root_at : root_at + sizes[3]], "big")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for _ in range(8):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    return value << 8 | data[at], at + 1
