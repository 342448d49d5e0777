"""Packs: many chunks as one object, and the index that says where each of them lies.

A pack is nothing but frames one after another. Its index is kept apart, together with those of other packs, so that
a repository is opened by reading one small object for each 64 packs instead of every pack. Layout of an index,
numbers little-endian:

    offset  size  field
    0       4     magic "PGI1"
    4       4     packs
    8             for each pack: 2 bytes length of its key, the key, 32 bytes hash of the object, 4 bytes chunks,
                  32 bytes id for each chunk, 4 bytes of frame for each, 4 bytes as it came for each
    end     4     CRC-32C of everything before
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from tallykeep.errors import IntegrityError
from tallykeep.storage.digest import digest
from tallykeep.systems.postgres.checksum import crc32c
from tallykeep.systems.postgres.repository.chunk import ID_SIZE

SIZE = 16 << 20  # bytes of a pack, about
FOLDER = "packs/"
_MAGIC = b"PGI1"
_HEAD = struct.Struct("<4sI")
_LENGTH = struct.Struct("<H")
_COUNT = struct.Struct("<I")
_PREFIX = "blake3:"


class Pack(NamedTuple):
    """What is known of a pack without reading it. Columns, as there are many chunks: 40 bytes for each."""

    key: str
    hash: str
    ids: bytes  # of its chunks, one after another
    stored: array[int]  # bytes of their frames
    raw: array[int]  # bytes as they came

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return sum(self.stored)

    def id(self, number: int) -> bytes:
        """The id of its chunk of that number."""
        return self.ids[number * ID_SIZE : (number + 1) * ID_SIZE]

    def offsets(self) -> list[int]:
        """Where each frame begins, and the end of the last."""
        return [0, *accumulate(self.stored)]


@dataclass(slots=True)
class PackBuilder:
    """Collects frames until the pack is large enough."""

    frames: list[bytes] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    raw: list[int] = field(default_factory=list)
    size: int = 0

    def add(self, id: bytes, frame: bytes, raw: int) -> None:
        """Append the frame of a chunk of `raw` bytes."""
        self.frames.append(frame)
        self.ids.append(id)
        self.raw.append(raw)
        self.size += len(frame)

    def seal(self) -> Pack:
        """What is known of it once it is an object of `frames`. Named by its hash: the same again is no conflict.

        Blocks.
        """
        found = digest(b"".join(self.frames))
        mark = found.removeprefix(_PREFIX)
        sizes = array("I", map(len, self.frames))
        return Pack(f"{FOLDER}{mark[:2]}/{mark[:32]}", found, b"".join(self.ids), sizes, array("I", self.raw))


def encode_index(packs: Sequence[Pack]) -> bytes:
    """The index of these packs."""
    out = bytearray(_HEAD.pack(_MAGIC, len(packs)))
    for pack in packs:
        key = pack.key.encode()
        out += _LENGTH.pack(len(key)) + key + bytes.fromhex(pack.hash.removeprefix(_PREFIX))
        out += _COUNT.pack(len(pack.stored)) + pack.ids + _little(pack.stored).tobytes() + _little(pack.raw).tobytes()
    return bytes(out + _COUNT.pack(crc32c(out)))


def decode_index(data: bytes, name: str) -> list[Pack]:
    """The packs of an index; `name` is for messages. Raises: IntegrityError."""
    try:
        return list(_packs(data))
    except (ValueError, struct.error) as error:
        raise IntegrityError(f"{name}: not an index of packs, or not as it was written: {error}") from None


def _packs(data: bytes) -> Iterator[Pack]:
    end = len(data) - _COUNT.size
    if crc32c(memoryview(data)[:end]) != _COUNT.unpack_from(data, end)[0]:
        raise ValueError("its CRC-32C does not match")
    magic, packs = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError(f"it starts with {magic!r}, not with {_MAGIC!r}")
    reader = _Reader(data[:end], _HEAD.size)
    for _ in range(packs):
        key = reader.take(_LENGTH.unpack(reader.take(_LENGTH.size))[0]).decode()
        found = _PREFIX + reader.take(ID_SIZE).hex()
        (count,) = _COUNT.unpack(reader.take(_COUNT.size))
        ids = reader.take(count * ID_SIZE)
        yield Pack(key, found, ids, _numbers(reader.take(4 * count)), _numbers(reader.take(4 * count)))
    if reader.position != end:
        raise ValueError(f"{end - reader.position:+} bytes beyond what it lists")


class _Reader:
    """Goes through an index from its front."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self.position = position

    def take(self, count: int) -> bytes:
        found = self._data[self.position : self.position + count]
        if len(found) < count:
            raise ValueError("it is cut")
        self.position += count
        return found


def _numbers(data: bytes) -> array[int]:
    return _little(array("I", data))


def _little(column: array[int]) -> array[int]:
    if sys.byteorder == "big":
        column = array("I", column)
        column.byteswap()
    return column
