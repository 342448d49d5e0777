"""Where zstd frames begin and end and what they say of their content, without decompressing.

Decompressors do not tell a cut stream from a whole one, and Java's producer announces no content size: so the
frames are walked by their block headers, three bytes for every 128 KiB.
Source: RFC 8878, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tallykeep.systems.kafka.wire.error import BatchError

_MAGIC = b"\x28\xb5\x2f\xfd"
_DICTIONARY_ID = (0, 1, 2, 4)  # bytes, by the lowest two bits of the descriptor
_CONTENT_SIZE = (0, 2, 4, 8)  # bytes, by the highest two bits of the descriptor
_RLE, _COMPRESSED, _RESERVED = 1, 2, 3  # block types
_LARGEST_BLOCK = 128 << 10  # bytes, uncompressed


class Frame(NamedTuple):
    """A frame within a payload; skippable frames are left out."""

    start: int
    end: int
    content_size: int | None  # uncompressed bytes, where the frame says so
    most: int  # uncompressed bytes that its blocks can hold


def content_size(payload: memoryview) -> int | None:
    """Uncompressed bytes, or None where a frame does not say. Raises: BatchError (bad_payload)."""
    total = 0
    for frame in frames(payload):
        if frame.content_size is None:
            return None
        total += frame.content_size
    return total


def frames(payload: memoryview) -> Iterator[Frame]:
    """Each frame, whole. Raises: BatchError (bad_payload) where one is cut or something else stands between them."""
    position = 0
    while position < len(payload):
        if payload[position : position + 4] == _MAGIC:
            frame = _frame(payload, position)
            yield frame
            position = frame.end
        else:
            position = _skipped(payload, position)


def _frame(payload: memoryview, start: int) -> Frame:
    descriptor = _number(payload, start + 4, 1)
    single = descriptor >> 5 & 1  # one segment: no window descriptor, and always a content size
    position = start + 5 + (1 - single) + _DICTIONARY_ID[descriptor & 3]
    width = _CONTENT_SIZE[descriptor >> 6] or single
    size = _number(payload, position, width) + (256 if width == 2 else 0) if width else None
    end, most = _after_blocks(payload, position + width)
    end += 4 if descriptor & 4 else 0
    if end > len(payload):
        raise _bad("the frame is cut")
    if size is not None and size > most:
        raise _bad(f"a frame says it has {size} bytes, and its blocks hold {most} at the most")
    return Frame(start, end, size, most)


def _after_blocks(payload: memoryview, position: int) -> tuple[int, int]:
    """Where the blocks end, and what they can hold."""
    most = 0
    while True:
        block = _number(payload, position, 3)
        kind, size = block >> 1 & 3, block >> 3
        if kind == _RESERVED:
            raise _bad("a block of a reserved type")
        position += 3 + (1 if kind == _RLE else size)
        most += _LARGEST_BLOCK if kind == _COMPRESSED else size
        if position > len(payload):
            raise _bad("a block is cut")
        if block & 1:
            return position, most


def _skipped(payload: memoryview, start: int) -> int:
    """The end of a skippable frame."""
    if _number(payload, start, 4) & 0xFFFFFFF0 != 0x184D2A50:
        raise _bad("no frame begins where one should")
    end = start + 8 + _number(payload, start + 4, 4)
    if end > len(payload):
        raise _bad("a skippable frame is cut")
    return end


def _number(payload: memoryview, start: int, width: int) -> int:
    if start + width > len(payload):
        raise _bad("the frame is cut")
    return int.from_bytes(payload[start : start + width], "little")


def _bad(problem: str) -> BatchError:
    return BatchError("bad_payload", f"zstd records do not decompress: {problem}")
