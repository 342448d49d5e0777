"""WAL files made byte by byte, with a checksum written down apart from the one under test."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

SALTS = (1000, 7)
MAGIC = 0x377F0682


def checksum(data: bytes, seed: tuple[int, int], big_endian: bool) -> tuple[int, int]:
    """SQLite's walChecksumBytes, word by word."""
    first, second = seed
    for at in range(0, len(data), 8):
        even, odd = struct.unpack_from(">II" if big_endian else "<II", data, at)
        first = (first + even + second) % 2**32
        second = (second + odd + first) % 2**32
    return first, second


def make_wal(
    transactions: Iterable[Sequence[int]],
    *,
    page_size: int = 512,
    salts: tuple[int, int] = SALTS,
    big_endian: bool = False,
    sequence: int = 0,
    open_frames: int = 0,
    own: int | None = None,
) -> bytes:
    """A WAL of transactions, each the numbers of its pages; behind them `open_frames` frames without a commit.

    Page `own` is written as that of Litestream's table.
    """
    head = struct.pack(">6I", MAGIC | big_endian, 3007000, page_size, sequence, *salts)
    last = checksum(head, (0, 0), big_endian)
    data = head + struct.pack(">2I", *last)
    frames = [(page, n == len(pages) - 1) for pages in transactions for n, page in enumerate(pages)]
    for number, (page, commits) in enumerate([*frames, *[(9, False)] * open_frames]):
        start = struct.pack(">2I", page, 100 if commits else 0)
        body = (
            counter(page_size) if page == own else bytes((number * 31 + at * 7 + page) % 256 for at in range(page_size))
        )
        last = checksum(body, checksum(start, last, big_endian), big_endian)
        data += start + struct.pack(">4I", *salts, *last) + body
    return data


def counter(page_size: int) -> bytes:
    """A table's only page with the row (1, 5): a leaf with one cell at its end."""
    cell = bytes([4, 1, 3, 0, 1, 5])
    head = struct.pack(">BHHHBH", 0x0D, 0, 1, page_size - len(cell), 0, page_size - len(cell))
    return head.ljust(page_size - len(cell), b"\0") + cell


def overwrite(old: bytes, new: bytes) -> bytes:
    """What is in the file after a WAL started over: the new generation, and behind it what is left of the old."""
    return new + old[len(new) :]
