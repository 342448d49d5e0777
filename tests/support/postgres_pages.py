"""WAL made byte by byte: records laid on pages as PostgreSQL does."""

from __future__ import annotations

import struct

from tallykeep.systems.postgres.checksum import crc32c
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.pages import PAGE

SIZE = 1 << 20
SEGMENT = Segment(1, LSN(3 * SIZE), SIZE)


def record(previous: int, main: bytes, *, manager: int, info: int = 0) -> bytes:
    """A record with its CRC."""
    data = (b"\xff" + bytes([len(main)]) if len(main) < 256 else b"\xfe" + struct.pack("<I", len(main))) + main
    head = struct.pack("<IIQBBH", 24 + len(data), 700, previous, info, manager, 0)
    return head + struct.pack("<I", crc32c(head, crc32c(data))) + data


class Writer:
    """Lays records on pages, as PostgreSQL does."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.previous = SEGMENT.start - 8
        self._head(0)

    @property
    def at(self) -> int:
        """LSN of the next record."""
        return SEGMENT.start + len(self.data)

    def put(self, made: bytes) -> None:
        self.previous, rest = self.at, made.ljust(len(made) + -len(made) % 8, b"\0")
        missing = len(made)
        while rest:
            room = PAGE - len(self.data) % PAGE
            self.data += rest[:room]
            rest, missing = rest[room:], missing - room
            if len(self.data) % PAGE == 0 and len(self.data) < SIZE:
                self._head(max(0, missing) if rest else 0)

    def fill(self, to: int) -> None:
        """Records up to that offset, the last a long one."""
        while len(self.data) + 40 < to - 600:
            self.put(record(self.previous, bytes(200), manager=10))
        self.put(record(self.previous, bytes(to - len(self.data) - 29), manager=10))
        assert len(self.data) == to

    def _head(self, rest: int) -> None:
        first = not self.data
        self.data += struct.pack("<HHIQI4x", 0xD116, (2 if first else 0) | bool(rest), 1, self.at, rest)
        self.data += struct.pack("<QII", 7, SIZE, PAGE) if first else b""
