"""The five codecs of record batches: how large their records are uncompressed, and the records themselves.

`uncompressed_size` reads the codec's own length fields where a frame has them and decompresses, keeping nothing,
where it has none; `pieces` yields 8 MiB at a time at the most, so that no batch fills the memory by promising little.
Neither Java's producer nor librdkafka writes content sizes with zstd and LZ4, so in practice these are counted. Snappy
comes in xerial blocks from the one and raw from the other.
Sources: RFC 8878 (zstd); LZ4 frame format 1.6.3; snappy-java, SnappyOutputStream; snappy format description;
Apache Kafka, org.apache.kafka.common.compress. As there, bytes behind an LZ4 frame are ignored.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator

import cramjam
import lz4.frame
import zstandard

from tallykeep.systems.kafka.wire import snappy, zstd
from tallykeep.systems.kafka.wire.error import BatchError
from tallykeep.systems.kafka.wire.header import Codec

PIECE = 1 << 20  # bytes
ZSTD_LEVEL = 3  # unless another is asked for
_AT_ONCE = 8 << 20  # bytes: what a frame may at the most become, to be uncompressed in one piece
_GZIP = 16 + zlib.MAX_WBITS
_LZ4_EXPANSION = 255  # no LZ4 block makes more bytes of one
_LZ4_CONTENT_SIZE = 0x08  # flag: eight bytes of content size follow the descriptor
_BROKEN = (zlib.error, RuntimeError, zstandard.ZstdError, cramjam.DecompressionError, ValueError)


def uncompressed_size(codec: Codec, payload: memoryview) -> int:
    """Bytes of the records in `payload`. Blocks where it has to decompress: call it off the loop.

    Raises: BatchError (bad_payload).
    """
    known = _announced(codec, payload)
    return sum(map(len, pieces(codec, payload))) if known is None else known


def announces_size(codec: Codec, payload: memoryview) -> bool:
    """Whether `uncompressed_size` is a look at length fields only. Raises: BatchError (bad_payload)."""
    return _announced(codec, payload) is not None


def pieces(codec: Codec, payload: memoryview) -> Iterator[bytes]:
    """The records of `payload`, uncompressed, in pieces. Raises: BatchError (bad_payload)."""
    if codec is Codec.NONE:
        yield bytes(payload)
        return
    try:
        yield from _READERS[codec](payload)
    except _BROKEN as error:
        raise BatchError("bad_payload", f"{codec.name.lower()} records do not decompress: {error}") from None


def decompress(codec: Codec, payload: memoryview, limit: int) -> bytes:
    """The records of `payload`, uncompressed. Raises: BatchError (bad_payload), also beyond `limit` bytes."""
    parts, size = [], 0
    for piece in pieces(codec, payload):
        size += len(piece)
        if size > limit:
            raise BatchError("bad_payload", f"{len(payload)} bytes of records become more than {limit} uncompressed")
        parts.append(piece)
    return b"".join(parts)


def compress(codec: Codec, data: bytes, *, level: int = ZSTD_LEVEL) -> bytes:
    """`data` as the payload of a batch that any client can read, with its size announced where the codec can.

    `level` is zstd's, 1 to 19; others have none.
    """
    return _WRITERS[codec](data, level)


def _announced(codec: Codec, payload: memoryview) -> int | None:
    """What the frame says, or None where it does not say."""
    if codec is Codec.NONE:
        return len(payload)
    if codec is Codec.ZSTD:
        return zstd.content_size(payload)
    if codec is Codec.SNAPPY:
        return sum(size for size, _ in snappy.blocks(payload))
    return _lz4_content_size(payload) if codec is Codec.LZ4 else None


def _lz4_content_size(payload: memoryview) -> int | None:
    if len(payload) >= 14 and payload[4] & _LZ4_CONTENT_SIZE:
        return int.from_bytes(payload[6:14], "little")
    return None


def _gunzip(payload: memoryview) -> Iterator[bytes]:
    """Members one after another, as GZIPInputStream reads them; what follows the last one is ignored."""
    rest: bytes | memoryview = payload
    while True:
        member = zlib.decompressobj(_GZIP)
        while not member.eof:
            piece = member.decompress(rest, PIECE)
            if not piece and not member.unconsumed_tail and not member.eof:
                raise ValueError("the stream is cut")
            if piece:
                yield piece
            rest = member.unconsumed_tail
        rest = member.unused_data
        if rest[:2] != b"\x1f\x8b":
            return


def _unlz4(payload: memoryview) -> Iterator[bytes]:
    if len(payload) * _LZ4_EXPANSION <= _AT_ONCE and (_lz4_content_size(payload) or 0) <= _AT_ONCE:
        yield lz4.frame.decompress(payload)  # a third less than in steps, at 16 KiB
        return
    frame = lz4.frame.LZ4FrameDecompressor()
    rest: bytes | memoryview = payload
    while not frame.eof:
        piece = frame.decompress(rest, max_length=PIECE)
        rest = b""
        if piece:
            yield piece
        elif not frame.eof and frame.needs_input:
            raise ValueError("the frame is cut")


def _unzstd(payload: memoryview) -> Iterator[bytes]:
    """A frame that can hold no more than a few MiB comes as one piece, which costs half with small batches."""
    for frame in zstd.frames(payload):
        data = payload[frame.start : frame.end]
        if frame.most <= _AT_ONCE:
            yield _unzstd_at_once(data, frame.most)
            continue
        reader = zstandard.ZstdDecompressor().stream_reader(data)
        while piece := reader.read(PIECE):
            yield piece


def _unzstd_at_once(frame: memoryview, most: int) -> bytes:
    """By a decompressor that is kept: making one costs as much as uncompressing 16 KiB."""
    try:
        kept = _idle.pop()
    except IndexError:  # all are at work, on other threads
        kept = zstandard.ZstdDecompressor()
    data = kept.decompress(frame, max_output_size=most)
    _idle.append(kept)
    return data


def _unsnappy(payload: memoryview) -> Iterator[bytes]:
    for size, block in snappy.blocks(payload):
        piece = bytes(cramjam.snappy.decompress_raw(block))
        if len(piece) != size:
            raise ValueError(f"a block of {size} bytes became {len(piece)}")
        yield piece


_idle: list[zstandard.ZstdDecompressor] = []  # those that no thread is using

_READERS: dict[Codec, Callable[[memoryview], Iterator[bytes]]] = {
    Codec.GZIP: _gunzip,
    Codec.SNAPPY: _unsnappy,
    Codec.LZ4: _unlz4,
    Codec.ZSTD: _unzstd,
}
_WRITERS: dict[Codec, Callable[[bytes, int], bytes]] = {
    Codec.NONE: lambda data, _: data,
    Codec.GZIP: lambda data, _: gzip.compress(data, 6, mtime=0),
    Codec.SNAPPY: lambda data, _: snappy.compress(data),
    Codec.LZ4: lambda data, _: bytes(
        lz4.frame.compress(data, block_size=lz4.frame.BLOCKSIZE_MAX64KB, block_linked=False)
    ),
    Codec.ZSTD: lambda data, level: zstandard.ZstdCompressor(level=level).compress(data),
}
