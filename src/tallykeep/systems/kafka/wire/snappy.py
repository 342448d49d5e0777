"""Snappy as record batches hold it: xerial blocks (snappy-java), or one raw block (librdkafka and others).

Every block begins with its uncompressed length, so sizes are known without decompressing.
Sources: snappy-java, SnappyOutputStream; Snappy compressed format description, "Preamble".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import cramjam

from tallykeep.systems.kafka.wire.error import BatchError

_XERIAL = b"\x82SNAPPY\0"
_HEADER = _XERIAL + struct.pack(">ii", 1, 1)  # version, and the oldest version that can read it
_BLOCK = 32 << 10  # bytes; as snappy-java cuts
_EXPANSION = 32  # no snappy element makes more than 64 bytes of 2


def blocks(payload: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Each raw block with its uncompressed size. Raises: BatchError (bad_payload)."""
    if payload[:8] != _XERIAL:
        yield _size(payload), payload
        return
    position = len(_HEADER)
    if len(payload) < position:
        raise _bad("the xerial header is cut")
    while position < len(payload):
        length = int.from_bytes(payload[position : position + 4], "big")
        start, position = position + 4, position + 4 + length
        if position > len(payload) or start > len(payload):
            raise _bad("a block is cut")
        yield _size(payload[start:position]), payload[start:position]


def compress(data: bytes) -> bytes:
    """`data` in xerial blocks, which every client reads."""
    parts = [_HEADER]
    for start in range(0, len(data), _BLOCK):
        block = bytes(cramjam.snappy.compress_raw(data[start : start + _BLOCK]))
        parts += (struct.pack(">i", len(block)), block)
    return b"".join(parts)


def _size(block: memoryview) -> int:
    """The length a raw block begins with: an unsigned LEB128 number of 32 bits."""
    size = 0
    for index, byte in enumerate(block[:5]):
        size |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if size > _EXPANSION * len(block):
                break
            return size
    raise _bad("a block's length cannot be")


def _bad(problem: str) -> BatchError:
    return BatchError("bad_payload", f"snappy records do not decompress: {problem}")
