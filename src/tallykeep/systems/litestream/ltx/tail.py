"""What follows the pages of a file as it streams by: index, size of the index, trailer.

The index is not kept: it must be, byte for byte, the one that the frames before it call for, and of that only
length and digest are known. So memory does not grow with the file, and an announced size is never believed.
"""

from __future__ import annotations

from hashlib import blake2b

from tallykeep.systems.litestream.ltx.checksum import FLAG, crc
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.index import SIZE_FIELD, TAIL_SIZE
from tallykeep.systems.litestream.ltx.trailer import Trailer

_CLOSED_BY_CRC = TAIL_SIZE - 8  # bytes of the last 24 that the file checksum covers


class ExpectedIndex:
    """The index that the frames seen so far call for, as length and digest."""

    def __init__(self) -> None:
        self.length = 0
        self._digest = blake2b(digest_size=16)

    def add(self, entries: bytes) -> None:
        self.length += len(entries)
        self._digest.update(entries)

    def digest(self) -> bytes:
        return self._digest.digest()


class TailReader:
    """Takes the bytes behind the last page and judges the file's end."""

    def __init__(self, checksum: int, expected: ExpectedIndex) -> None:
        """`checksum` is that of everything before; `expected` includes the closing zero."""
        self._expected = expected
        self._length = expected.length + TAIL_SIZE
        self._seen = 0
        self._checksum = checksum  # of all but the held bytes
        self._digest = blake2b(digest_size=16)  # likewise, from the start of the index
        self._held = b""  # the last 24 bytes
        self._sound_before_end = False

    def feed(self, data: bytes) -> None:
        """Take more bytes, any number of them."""
        left = self._length - self._seen
        if 0 < left < len(data):
            self._take(data[:left])
            data = data[left:]
        if self._seen == self._length and data:
            self._sound_before_end = self._checksum_holds()
        self._take(data)

    def finish(self) -> Trailer:
        """The trailer of a sound file. Raises: LtxError (truncated, trailing_bytes, checksum, bad_index)."""
        if self._sound_before_end:
            raise LtxError(
                "trailing_bytes", f"{self._seen - self._length} bytes follow a sound file: something wrote on"
            )
        if len(self._held) < TAIL_SIZE:
            raise LtxError("truncated", "the file ends within its page index")
        if not self._checksum_holds():
            if self._seen < self._length:
                missing = self._length - self._seen
                raise LtxError("truncated", f"the file ends {missing} bytes too early, in its page index or trailer")
            raise LtxError("checksum", "the file checksum does not match: bytes have changed since it was written")
        (size,) = SIZE_FIELD.unpack_from(self._held)
        if size != self._expected.length or self._digest.digest() != self._expected.digest():
            raise LtxError(
                "bad_index", "the page index does not list the pages of the file, though the checksum is good"
            )
        return Trailer.decode(self._held[SIZE_FIELD.size :])

    def _take(self, data: bytes) -> None:
        self._seen += len(data)
        data = self._held + data
        split = max(0, len(data) - TAIL_SIZE)
        self._held = data[split:]
        if split:
            self._checksum = crc(data[:split], self._checksum)
            self._digest.update(data[:split])

    def _checksum_holds(self) -> bool:
        if len(self._held) < TAIL_SIZE:
            return False
        checksum = FLAG | crc(self._held[:_CLOSED_BY_CRC], self._checksum)
        return checksum == int.from_bytes(self._held[_CLOSED_BY_CRC:], "big")
