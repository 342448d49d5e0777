"""The block file: a stretch of one WAL segment, compressed and sealed block by block, appended and never rewritten.

Layout in docs/formats/wal-blocks.md. Pure: bytes in, bytes out. Each block's checksum and seal take in the file's
header and the block's own head, so a block counts only in its file and at its position; what stands behind a torn or
damaged block does not count. The end block alone says that a segment is complete: a file that was cut at the border
of a block does not pass for one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import zstandard

from tallykeep.errors import IntegrityError
from tallykeep.systems.postgres.checksum import crc32c
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.lsn import LSN, Segment

MAGIC = b"PGW1"
BLOCK = 1 << 20  # bytes of WAL in a block, at most
HEADER_SIZE = 64
HEAD_SIZE = 24
_HEADER = struct.Struct("<4sIIIQQQ16sII")
_HEAD = struct.Struct("<IIQBBHI")
_SIGNED = _HEAD.size - 4  # bytes of a head that its checksum and its seal take in
_CRC = struct.Struct("<I")
_SEALED = 1
_RAW, _ZSTD = 0, 1
_WAL, _END = 0, 1
# Level 1 with a table that stays in the first cache: of WAL it makes the same size in 10% less time.
_ZSTD_SETTINGS = zstandard.ZstdCompressionParameters.from_level(
    1, source_size=BLOCK, hash_log=12, min_match=6, write_checksum=False
)


class Header(NamedTuple):
    """What a file says of itself."""

    sealed: bool
    segment: Segment
    start: LSN  # of the first block; within the segment
    system_id: int
    id: bytes  # 16, random

    def encode(self) -> bytes:
        flags = _SEALED if self.sealed else 0
        segment = self.segment
        head = _HEADER.pack(
            MAGIC, flags, segment.timeline, segment.size, segment.start, self.start, self.system_id, self.id, 0, 0
        )[:-4]
        return head + _CRC.pack(crc32c(head))

    @classmethod
    def decode(cls, data: bytes | memoryview, name: str) -> Header:
        """Raises: IntegrityError."""
        if len(data) < HEADER_SIZE:
            raise IntegrityError(f"{name}: has {len(data)} bytes, less than the header of a block file.")
        magic, flags, timeline, size, start, first, system_id, id, _, crc = _HEADER.unpack_from(data)
        if magic != MAGIC or flags & ~_SEALED or crc32c(bytes(data[: HEADER_SIZE - 4])) != crc:
            raise IntegrityError(f"{name}: its header is none of a block file, or was changed.")
        return cls(bool(flags), Segment(timeline, LSN(start), size), LSN(first), system_id, id)


class Block(NamedTuple):
    """Where a block lies, its checksum proved."""

    lsn: LSN
    raw: int  # bytes of WAL
    stored: memoryview
    signed: bytes  # what its seal is bound to besides the header
    packing: int

    @property
    def end(self) -> LSN:
        return LSN(self.lsn + self.raw)


class Encoder:
    """Makes the blocks of one file, in order. Not for several threads at once."""

    def __init__(self, header: Header, cipher: Cipher | None) -> None:
        """`cipher`: of the cluster; None for a file in the clear, as the header says."""
        self._header = header.encode()
        self._seed = _seed(self._header)
        self._cipher = file_cipher(header, cipher)
        self._zstd = zstandard.ZstdCompressor(compression_params=_ZSTD_SETTINGS)

    @property
    def header(self) -> bytes:
        """What the file begins with."""
        return self._header

    def block(self, lsn: int, data: bytes) -> bytes:
        """One block of WAL."""
        packed = self._zstd.compress(data)
        return self._encode(lsn, len(data), *((_ZSTD, packed) if len(packed) < len(data) else (_RAW, data)), _WAL)

    def end(self, lsn: int) -> bytes:
        """The last block of a complete segment, which ends at `lsn`."""
        return self._encode(lsn, 0, _RAW, b"", _END)

    def _encode(self, lsn: int, raw: int, packing: int, body: bytes, kind: int) -> bytes:
        size = len(body) + (28 if self._cipher else 0)
        signed = _HEAD.pack(size, raw, lsn, packing, kind, 0, 0)[:_SIGNED]
        stored = self._cipher.seal(body, self._header + signed) if self._cipher else body
        return b"".join((signed, _CRC.pack(crc32c(stored, crc32c(signed, self._seed))), stored))


@dataclass(slots=True)
class Scan:
    """What of a file counts."""

    header: Header
    blocks: list[Block]
    size: int  # bytes of the file up to the end of the last block that counts
    complete: bool  # the end block is there, behind the segment's last byte
    problem: str = ""  # why it ends there, when bytes follow that do not count

    @property
    def end(self) -> LSN:
        """The first position that is not held."""
        return self.blocks[-1].end if self.blocks else self.header.start


def scan(data: bytes | memoryview, name: str) -> Scan:
    """The blocks of a file, as far as checksums and positions are right. Raises: IntegrityError for its header."""
    header = Header.decode(data, name)
    found = Scan(header, [], HEADER_SIZE, complete=False)
    view, seed = memoryview(data), _seed(data)
    while found.size < len(view) and not found.complete and not _is_room(view, found.size):
        problem = _block(view, found, seed)
        if problem:
            found.problem = f"{name}: {problem} at byte {found.size}, WAL {found.end}"
            return found
    if found.size < len(view) and found.complete:
        found.problem = f"{name}: {len(view) - found.size} bytes behind its end"
    return found


def _is_room(view: memoryview, at: int) -> bool:
    """Whether nothing but zeros follows: room for blocks, of which none begins with zeros."""
    return not any(view[at : at + HEAD_SIZE]) and view[at:] == bytes(len(view) - at)


def _seed(header: bytes | memoryview) -> int:
    """What the checksums of a file's blocks begin with: its header's. That of all 64 bytes is the same for any."""
    return int(crc32c(bytes(header[: HEADER_SIZE - 4])))


def _block(view: memoryview, found: Scan, seed: int) -> str:
    """Take in one block; what is wrong with it, or ""."""
    at = found.size
    if len(view) - at < HEAD_SIZE:
        return "a block that is cut"
    size, raw, lsn, packing, kind, _, crc = _HEAD.unpack_from(view, at)
    signed = bytes(view[at : at + _SIGNED])
    body = view[at + HEAD_SIZE : at + HEAD_SIZE + size]
    if len(body) < size:
        return "a block that is cut"
    if crc32c(body, crc32c(signed, seed)) != crc:
        return "a block that was changed"
    if lsn != found.end or lsn + raw > found.header.segment.end:
        return "a block of another place"
    found.size = at + HEAD_SIZE + size
    if kind == _END:
        found.complete = lsn == found.header.segment.end
        return "" if found.complete else "an end before the segment's"
    found.blocks.append(Block(LSN(lsn), raw, body, signed, packing))
    return ""


def contents(found: Scan, cipher: Cipher | None, name: str) -> Iterator[bytes]:
    """The WAL of each block, in order. Raises: IntegrityError where one does not open or unpack."""
    header = found.header.encode()
    opener = file_cipher(found.header, cipher, name)
    zstd = zstandard.ZstdDecompressor()
    for block in found.blocks:
        body = opener.open(block.stored, header + block.signed, name) if opener else bytes(block.stored)
        yield _unpacked(zstd, block, body, name)


def _unpacked(zstd: zstandard.ZstdDecompressor, block: Block, body: bytes, name: str) -> bytes:
    try:
        data = zstd.decompress(body, max_output_size=block.raw) if block.packing == _ZSTD else body
    except zstandard.ZstdError as error:
        raise IntegrityError(f"{name}: the block at {block.lsn} does not decompress: {error}.") from None
    if len(data) != block.raw or block.packing not in (_RAW, _ZSTD):
        raise IntegrityError(f"{name}: the block at {block.lsn} is not as it was written.")
    return data


def file_cipher(header: Header, cipher: Cipher | None, name: str = "the file") -> Cipher | None:
    """The cipher of one file: its own key, as a key seals 2^32 blocks at most and every flush makes one.

    Raises: IntegrityError where the file is encrypted and there is no key.
    """
    if not header.sealed:
        return None
    if cipher is None:
        raise IntegrityError(f"{name}: is encrypted, and no key was given; give the cluster's recovery key.")
    return cipher.derived("wal " + header.id.hex())
