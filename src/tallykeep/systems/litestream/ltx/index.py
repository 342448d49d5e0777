"""The page index near the end of an LTX file: number, offset and size of every page frame, in order.

With it the list of pages is had by two ranged reads, without the pages: the last 24 bytes say where the index is.
Read that way nothing vouches for it but its own consistency; the file checksum is the Decoder's matter.

Source: superfly/ltx, encoder.go, encodePageIndex. All numbers are unsigned varints (LEB128) of the shortest form.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.header import HEADER_SIZE, Header
from tallykeep.systems.litestream.ltx.page import FRAME_HEAD
from tallykeep.systems.litestream.ltx.pageset import PageSet
from tallykeep.systems.litestream.ltx.trailer import TRAILER_SIZE, Trailer

SIZE_FIELD = struct.Struct(">Q")  # bytes of the index, its closing zero included, this field not
TAIL_SIZE = SIZE_FIELD.size + TRAILER_SIZE  # 24: read this much from the end first
MIN_SIZE = HEADER_SIZE + FRAME_HEAD.size + 1 + TAIL_SIZE  # 131: the smallest file there can be, one of no pages


class IndexEntry(NamedTuple):
    """Where the frame of one page is."""

    page: int
    offset: int  # from the start of the file
    size: int  # bytes, the frame's head included


class Tail(NamedTuple):
    """What the last 24 bytes of a file say."""

    index_start: int  # offset in the file
    index_size: int  # bytes, the closing zero included
    trailer: Trailer

    @classmethod
    def decode(cls, data: bytes, file_size: int) -> Tail:
        """Read the last 24 bytes of a file of `file_size`. Raises: LtxError (too_small, bad_index)."""
        if file_size < MIN_SIZE or len(data) != TAIL_SIZE:
            raise LtxError("too_small", f"{file_size} bytes are not an LTX file: the smallest has {MIN_SIZE}")
        (size,) = SIZE_FIELD.unpack_from(data)
        start = file_size - TAIL_SIZE - size
        if not size or start < HEADER_SIZE + FRAME_HEAD.size:
            raise LtxError("bad_index", f"the file says that its page index has {size} bytes; the file has {file_size}")
        return cls(start, size, Trailer.decode(data[SIZE_FIELD.size :]))


def encode_entry(page: int, offset: int, size: int) -> bytes:
    """An entry as the index has it."""
    return _uvarint(page) + _uvarint(offset) + _uvarint(size)


def decode_index(data: bytes) -> Iterator[IndexEntry]:
    """The entries of an index, its closing zero included in `data`.

    Raises: LtxError (bad_index) where it ends early or late, or entries are not in order and gapless.
    """
    position, expected, previous = 0, HEADER_SIZE, 0
    while True:
        page, position = _read_uvarint(data, position)
        if page == 0:
            break
        offset, position = _read_uvarint(data, position)
        size, position = _read_uvarint(data, position)
        if page <= previous or offset != expected or size <= FRAME_HEAD.size:
            raise LtxError("bad_index", f"the page index is out of order at page {page}, offset {offset}, size {size}")
        yield IndexEntry(page, offset, size)
        previous, expected = page, offset + size
    if position != len(data):
        raise LtxError("bad_index", f"the page index ends after {position} of {len(data)} bytes")


def index_pages(data: bytes, header: Header, tail: Tail) -> PageSet:
    """The pages a file holds, by its index alone.

    Raises: LtxError (bad_index) where the index contradicts itself, the header or its own place in the file.
    """
    end = HEADER_SIZE

    def runs() -> Iterator[tuple[int, int]]:
        nonlocal end
        for entry in decode_index(data):
            if entry.page > header.commit or entry.page == header.lock_page:
                raise LtxError("bad_index", f"the page index lists page {entry.page} of {header.commit}")
            end = entry.offset + entry.size
            yield entry.page, entry.page

    pages = PageSet(runs())
    if end + FRAME_HEAD.size != tail.index_start:
        raise LtxError("bad_index", f"the page index lists frames up to byte {end}, not up to itself")
    return pages


def _uvarint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value < 0x200000:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14 & 0x7F | 0x80)) + _uvarint(value >> 21)


def _read_uvarint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise LtxError("bad_index", "the page index ends in the middle of a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, position
    raise LtxError("bad_index", "the page index has a number of more than 64 bits")
