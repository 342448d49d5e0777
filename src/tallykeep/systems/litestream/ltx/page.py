"""One page frame: a head of 6 or 10 bytes, and a database page compressed with LZ4.

Litestream 0.5 writes LZ4 *blocks*, their size before them. Files from before that have whole LZ4 *frames*, without
their size: it is found by walking the blocks inside. Both are bounded by what a page of incompressible bytes takes,
so that no announced size is believed further than that.

Sources: superfly/ltx, decoder.go, DecodePage; LZ4 Frame Format Description 1.6.
"""

from __future__ import annotations

import struct

from lz4.block import LZ4BlockError
from lz4.block import decompress as decompress_block
from lz4.frame import LZ4FrameDecompressor

from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.header import Header

FRAME_HEAD = struct.Struct(">IH")  # page number, flags
SIZED_HEAD = struct.Struct(">IHI")  # and compressed size
SIZED = 0x1  # flag: the compressed size follows, and then an LZ4 block

END = bytes(FRAME_HEAD.size)  # an empty head closes the pages

_BATCH = 1 << 20  # bytes of pages decoded at once: one call of the checksum for all of them
_WORD = struct.Struct("<I")
_LZ4_MAGIC = 0x184D2204
_UNCOMPRESSED = 0x80000000  # in the size of a block
_FRAME_OVERHEAD = 64  # an LZ4 frame's header, block sizes and checksums around one page

Page = tuple[int, bytes]  # its number, and exactly a page size of bytes


class FrameReader:
    """Reads the page frames of one file, and no frame that its writer would not have written there."""

    def __init__(self, header: Header) -> None:
        self.batch = max(1, _BATCH // header.page_size)  # pages to decode at once
        self._page_size = header.page_size
        self._bound = header.page_size + header.page_size // 255 + 16  # the most that LZ4 makes of a page
        self._commit = header.commit
        self._lock = header.lock_page

    def read(self, buffer: bytes, position: int, previous: int) -> tuple[int, int, int, bytes] | None:
        """Page number, where its compressed bytes start and end, and the page; `previous` is the page before it.

        None where bytes are missing, or where the pages end. Raises: LtxError (bad_page).
        """
        if len(buffer) - position < SIZED_HEAD.size:
            return None
        number, flags, size = SIZED_HEAD.unpack_from(buffer, position)
        if not previous < number <= self._commit or number == self._lock or flags != SIZED:
            return self._read_unusual(buffer, position, previous)
        start = position + SIZED_HEAD.size
        end = start + size
        if size > self._bound:
            raise self._too_long(number, size)
        if end > len(buffer):
            return None
        try:
            page: bytes = decompress_block(memoryview(buffer)[start:end], self._page_size)
        except LZ4BlockError as error:
            raise LtxError("bad_page", f"page {number} does not decompress: {error}") from None
        if len(page) != self._page_size:
            raise self._wrong_size(number)
        return number, start, end, page

    def _read_unusual(self, buffer: bytes, position: int, previous: int) -> tuple[int, int, int, bytes] | None:
        """An LZ4 frame, the end of the pages, or what may not be."""
        number, flags = FRAME_HEAD.unpack_from(buffer, position)
        if not number and not flags:
            return None
        if not previous < number <= self._commit or number == self._lock:
            raise LtxError("bad_page", f"page {number} after page {previous} of {self._commit} may not be")
        if flags:
            raise LtxError("bad_page", f"page {number} has unknown flags {flags:#x}")
        start = position + FRAME_HEAD.size
        length = self._frame_length(number, memoryview(buffer)[start:])
        if length is None:
            return None
        return number, start, start + length, self._decompress_frame(number, buffer[start : start + length])

    def _frame_length(self, number: int, data: memoryview) -> int | None:
        """Bytes of the LZ4 frame at the start of `data`; None where more are needed to know."""
        if len(data) < 7:
            return None
        flags = data[4]
        if _WORD.unpack_from(data)[0] != _LZ4_MAGIC or flags & 0xC3 != 0x40:  # version 1, no dictionary
            raise LtxError("bad_page", f"page {number} is neither an LZ4 block nor an LZ4 frame")
        length = 7 + 8 * bool(flags & 0x08)  # content size
        while length <= self._bound + _FRAME_OVERHEAD:
            if len(data) < length + 4:
                return None
            (size,) = _WORD.unpack_from(data, length)
            length += 4
            if size == 0:
                length += 4 * bool(flags & 0x04)  # content checksum
                return length if length <= len(data) else None
            length += (size & ~_UNCOMPRESSED) + 4 * bool(flags & 0x10)  # block checksum
        raise self._too_long(number, length)

    def _decompress_frame(self, number: int, frame: bytes) -> bytes:
        decompressor = LZ4FrameDecompressor()
        try:
            page: bytes = decompressor.decompress(frame, max_length=self._page_size)
            more = not decompressor.eof and decompressor.decompress(b"", max_length=1)
        except (RuntimeError, EOFError) as error:
            raise LtxError("bad_page", f"page {number} does not decompress: {error}") from None
        if len(page) != self._page_size or more or not decompressor.eof:
            raise self._wrong_size(number)
        return page

    def _too_long(self, number: int, size: int) -> LtxError:
        return LtxError("bad_page", f"page {number} takes {size} bytes compressed: no page of {self._page_size} does")

    def _wrong_size(self, number: int) -> LtxError:
        return LtxError("bad_page", f"page {number} does not decompress to {self._page_size} bytes")
