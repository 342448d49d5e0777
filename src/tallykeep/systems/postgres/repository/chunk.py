"""A chunk: a page-aligned piece of a file, named by its hash, and the frame that holds it in a pack.

Pages of a relation never move within their file, so pieces of a fixed size are found again in the next backup
wherever nothing was written; content-defined borders would cost time and find no more.

    offset  size  field
    0       1     packing: 0 as it came, 1 zstd
    1       3     bytes of the chunk as it came, little-endian
    4             the chunk, packed

With a key the whole frame is sealed, bound to the chunk's id: a frame in another's place does not open. The id is
BLAKE3 of the chunk as it came, keyed where there is a key, so that nobody can tell what is stored from its hashes.
"""

from __future__ import annotations

from threading import local

import zstandard
from blake3 import blake3

from tallykeep.errors import IntegrityError
from tallykeep.systems.postgres.cipher import Cipher

SIZE = 512 << 10  # bytes; a multiple of every page size, and a divisor of a relation's segments
ID_SIZE = 32  # bytes
_HEAD = 4
_RAW, _ZSTD = 0, 1
_PURPOSE = "chunk ids"
_THREAD = local()


class Frames:
    """Makes frames of chunks and chunks of frames. Safe to use from many threads; every call blocks."""

    def __init__(self, cipher: Cipher | None = None, level: int = 1) -> None:
        """`level`: of zstd."""
        self._cipher = cipher
        self._level = level
        self._key = cipher.subkey(_PURPOSE) if cipher else None

    def id_of(self, chunk: bytes | memoryview) -> bytes:
        """What names the chunk."""
        return (blake3(chunk, key=self._key) if self._key else blake3(chunk)).digest()

    def frame(self, id: bytes, chunk: bytes | memoryview) -> bytes:
        """What a pack holds of the chunk."""
        packed = zstandard.ZstdCompressor(level=self._level, write_content_size=False).compress(chunk)
        kind, body = (_ZSTD, packed) if len(packed) < len(chunk) else (_RAW, bytes(chunk))
        frame = bytes((kind,)) + len(chunk).to_bytes(3, "little") + body
        return self._cipher.seal(frame, id) if self._cipher else frame

    def chunk(self, id: bytes, frame: bytes | memoryview, name: str) -> bytes:
        """The chunk of that id, proved; `name` is for messages. Raises: IntegrityError."""
        chunk = self._opened(id, frame, name)
        if (found := self.id_of(chunk)) != id:
            raise IntegrityError(
                f"{name}: holds a chunk with the id {found.hex()}, and {id.hex()} was expected: it has changed since "
                "it was written; bring the pack back from a copy of the repository."
            )
        return chunk

    def sealed(self, id: bytes, frame: bytes | memoryview, name: str) -> bytes:
        """The same, proved by its seal where there is a key: what was written under that id, whatever that was.

        For who proves in another way that this was right: the hash costs a fifth of a verification. Raises:
        IntegrityError.
        """
        return self._opened(id, frame, name) if self._cipher else self.chunk(id, frame, name)

    def _opened(self, id: bytes, frame: bytes | memoryview, name: str) -> bytes:
        return _unpacked(memoryview(self._cipher.open(frame, id, name) if self._cipher else frame), name)


def _unpacked(frame: memoryview, name: str) -> bytes:
    kind, size = (frame[0], int.from_bytes(frame[1:_HEAD], "little")) if len(frame) >= _HEAD else (None, 0)
    try:
        if kind == _ZSTD:
            chunk = _decompressor().decompress(frame[_HEAD:], max_output_size=size)
        else:
            chunk = bytes(frame[_HEAD:])
    except zstandard.ZstdError as error:
        raise IntegrityError(f"{name}: a chunk does not decompress: {error}") from None
    if kind not in (_RAW, _ZSTD) or len(chunk) != size:
        raise IntegrityError(f"{name}: a frame of {len(frame)} bytes is no chunk, or not as it was written.")
    return chunk


def _decompressor() -> zstandard.ZstdDecompressor:
    """One for each thread: a tenth of the time goes into making it."""
    found: zstandard.ZstdDecompressor | None = getattr(_THREAD, "decompressor", None)
    if found is None:
        found = _THREAD.decompressor = zstandard.ZstdDecompressor()
    return found
