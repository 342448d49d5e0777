"""The list of files of a base backup: what stood where, and of which chunks it is made.

    offset  size  field
    0       4     magic "PGF1"
    4       4     bytes of the description, little-endian as the next
    8       4     chunks
    12            the description, zstd-compressed JSON
                  then 32 bytes for each chunk: their ids, file after file in the order of the description

With a key the whole object is sealed, bound to the backup's id.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import zstandard

from tallykeep.errors import IntegrityError
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.repository.chunk import ID_SIZE

_MAGIC = b"PGF1"
_HEAD = struct.Struct("<4sII")
_LARGEST = 1 << 30  # bytes of a description
FOLDER = "backups/"

Kind = Literal["file", "directory", "link"]


@dataclass(slots=True)
class BackupFile:
    """A file, directory or symbolic link below the data directory."""

    path: str  # relative, "/"-separated; of a tablespace's files: pg_tblspc/<oid>/...
    kind: Kind
    mode: int
    mtime: int  # Unix seconds
    size: int = 0  # bytes
    target: str = ""  # of a link
    chunks: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Tablespace:
    """A folder outside the data directory."""

    oid: int
    location: str  # where it was


@dataclass(frozen=True, slots=True)
class Files:
    """Everything a backup holds."""

    files: Sequence[BackupFile]
    tablespaces: Sequence[Tablespace]

    def encode(self, id: str, cipher: Cipher | None) -> bytes:
        """The object."""
        described = [
            [file.path, file.kind, file.mode, file.mtime, file.size, file.target, len(file.chunks)]
            for file in self.files
        ]
        text = json.dumps({"files": described, "tablespaces": [asdict(space) for space in self.tablespaces]})
        description = zstandard.ZstdCompressor(level=3).compress(text.encode())
        chunks = [id for file in self.files for id in file.chunks]
        data = _HEAD.pack(_MAGIC, len(description), len(chunks)) + description + b"".join(chunks)
        return cipher.seal(data, id.encode()) if cipher else data

    @classmethod
    def decode(cls, data: bytes, id: str, cipher: Cipher | None, name: str) -> Files:
        """The list in `data`; `name` is for messages. Raises: IntegrityError."""
        opened = cipher.open(data, id.encode(), name) if cipher else data
        try:
            return cls._decode(opened)
        except (ValueError, KeyError, TypeError, struct.error, zstandard.ZstdError) as error:
            raise IntegrityError(f"{name}: not a list of files, or not as it was written: {error}") from None

    @classmethod
    def _decode(cls, data: bytes) -> Files:
        magic, size, count = _HEAD.unpack_from(data)
        end = _HEAD.size + size
        if magic != _MAGIC or len(data) != end + count * ID_SIZE:
            raise ValueError(f"it has {len(data)} bytes, and its head speaks of others")
        text = zstandard.ZstdDecompressor().decompress(data[_HEAD.size : end], max_output_size=_LARGEST)
        body = json.loads(text)
        ids = [data[at : at + ID_SIZE] for at in range(end, len(data), ID_SIZE)]
        files = list(_files(body["files"], ids))
        return cls(files, [Tablespace(**space) for space in body["tablespaces"]])


def _files(described: Sequence[Sequence[Any]], ids: Sequence[bytes]) -> Sequence[BackupFile]:
    files, position = [], 0
    for path, kind, mode, mtime, size, target, count in described:
        files.append(BackupFile(path, kind, mode, mtime, size, target, list(ids[position : position + count])))
        position += count
    if position != len(ids):
        raise ValueError(f"it lists {position} chunks and has {len(ids)}")
    return files
