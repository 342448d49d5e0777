"""Writes LTX files, sound ones and such as no honest writer would: for tests only.

Independent of the decoder under test: its own layout, its own varints, and CRC-64 bit by bit from a table. What is
passed in is written as it is, and the file checksum always covers it: so it is not the checksum that finds a lie.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import lz4.block
import lz4.frame

NO_CHECKSUM = 2
FLAG = 1 << 63


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0xD800000000000000 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _table()


def slow_crc(data: bytes) -> int:
    """CRC-64/GO-ISO as the textbook has it."""
    crc = 2**64 - 1
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 2**64 - 1


class Frame(NamedTuple):
    """A page frame: what is written, and what the checksum covers."""

    number: int
    head: bytes
    body: bytes
    page: bytes


def block(number: int, page: bytes, *, flags: int = 1, body: bytes | None = None, size: int | None = None) -> Frame:
    """A page as Litestream writes it; `body` and `size` may lie."""
    body = lz4.block.compress(page, store_size=False) if body is None else body
    return Frame(number, struct.pack(">IHI", number, flags, len(body) if size is None else size), body, page)


def legacy(number: int, page: bytes, *, body: bytes | None = None) -> Frame:
    """A page as it was written before blocks: a whole LZ4 frame, its length nowhere said."""
    made = lz4.frame.compress(page, content_checksum=True, store_size=False) if body is None else body
    return Frame(number, struct.pack(">IH", number, 0), made, page)


def uvarint(value: int) -> bytes:
    """An unsigned LEB128 of the shortest form."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def index_of(frames: Iterable[Frame]) -> bytes:
    """The index an honest writer would put behind these frames, its closing zero included."""
    out, offset = b"", 100
    for frame in frames:
        size = len(frame.head) + len(frame.body)
        out += uvarint(frame.number) + uvarint(offset) + uvarint(size)
        offset += size
    return out + b"\0"


def rolling(frames: Iterable[Frame]) -> int:
    """The checksum of a database made of these pages."""
    value = 0
    for frame in frames:
        value ^= slow_crc(struct.pack(">I", frame.number) + frame.page)
    return FLAG | value


def encode(
    frames: Sequence[Frame],
    *,
    min_txid: int = 1,
    max_txid: int | None = None,
    page_size: int = 512,
    commit: int | None = None,
    flags: int = NO_CHECKSUM,
    timestamp_ms: int = 1_700_000_000_123,
    pre_apply: int = 0,
    wal: tuple[int, int, int, int] = (0, 0, 0, 0),
    node_id: int = 0,
    reserved: bytes = bytes(20),
    magic: bytes = b"LTX1",
    index: bytes | None = None,
    index_size: int | None = None,
    post_apply: int | None = None,
    file_checksum: int | None = None,
) -> bytes:
    """A whole file. Whatever is not given is what an honest writer would write."""
    commit = max((frame.number for frame in frames), default=1) if commit is None else commit
    header = struct.pack(
        ">4sIIIQQqQqqIIQ20s",
        magic,
        flags,
        page_size,
        commit,
        min_txid,
        min_txid if max_txid is None else max_txid,
        timestamp_ms,
        pre_apply,
        *wal,
        node_id,
        reserved,
    )
    index = index_of(frames) if index is None else index
    if post_apply is None:
        post_apply = 0 if flags & NO_CHECKSUM else rolling(frames)
    end = index + struct.pack(">QQ", len(index) if index_size is None else index_size, post_apply)
    covered = header + b"".join(frame.head + frame.page for frame in frames) + bytes(6) + end
    checksum = FLAG | slow_crc(covered) if file_checksum is None else file_checksum
    written = header + b"".join(frame.head + frame.body for frame in frames) + bytes(6) + end
    return written + struct.pack(">Q", checksum)


def page(seed: int, page_size: int = 512) -> bytes:
    """A page that compresses somewhat and is like no other."""
    return (f"page {seed} ".encode() * page_size)[: page_size - 8] + struct.pack(
        ">Q", seed * 0x9E3779B97F4A7C15 % 2**64
    )


def snapshot(pages: int, *, page_size: int = 512, seed: int = 0, max_txid: int = 1) -> bytes:
    """A sound file from the first transaction on, of `pages` pages."""
    frames = [block(number, page(seed + number, page_size)) for number in range(1, pages + 1)]
    return encode(frames, page_size=page_size, max_txid=max_txid)
