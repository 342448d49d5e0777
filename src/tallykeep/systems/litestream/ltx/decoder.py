"""An LTX file, decoded as its bytes arrive.

A push parser, so that it serves files, ranged reads of object stores and plain bytes alike, and a snapshot of any
size streams through: it holds the chunk it was given, one batch of decoded pages, and 8 bytes for each gap in the
page numbers. Pages come out before the file checksum is known: nothing may be believed, given its final name or
shown until `finish` has returned.

Source: superfly/ltx, decoder.go and encoder.go (what no encoder writes is no sound file).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from tallykeep.systems.litestream.ltx.checksum import FLAG, crc, page_checksum
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.header import HEADER_SIZE, Header
from tallykeep.systems.litestream.ltx.index import MIN_SIZE, encode_entry
from tallykeep.systems.litestream.ltx.name import LtxName
from tallykeep.systems.litestream.ltx.page import END, FrameReader, Page
from tallykeep.systems.litestream.ltx.pageset import PageSet
from tallykeep.systems.litestream.ltx.tail import ExpectedIndex, TailReader
from tallykeep.systems.litestream.ltx.trailer import Trailer


class Decoder:
    """Feed it a file from start to end, then finish. After an LtxError it is of no further use."""

    header: Header | None = None  # known after the first 100 bytes
    _frames: FrameReader

    def __init__(self, name: LtxName | None = None) -> None:
        """`name` is the one the file lies under, to be held against its header."""
        self._name = name
        self._buffer = b""
        self._position = 0  # of what is not yet decoded in the buffer
        self._offset = 0  # of the buffer in the file
        self._checksum = 0
        self._rolling = FLAG
        self._page = 0  # the last page's number
        self._first = array("I")  # of each run of pages
        self._last = array("I")  # of each run but the present one
        self._expected = ExpectedIndex()
        self._tail: TailReader | None = None

    @property
    def size(self) -> int:
        """Bytes fed so far."""
        return self._offset + len(self._buffer)

    @property
    def pages(self) -> PageSet:
        """The numbers of the pages decoded so far."""
        if not self._first:
            return PageSet()
        return PageSet(zip(self._first, [*self._last, self._page], strict=True))

    def feed(self, data: bytes) -> Iterator[Page]:
        """The pages that are complete with these bytes, ascending by number.

        The bytes are taken at once; the pages are decoded as the iterator is drawn from, now or after the next feed.
        Raises: LtxError, from the iterator.
        """
        if self._position or self._buffer:
            self._offset += self._position
            data = self._buffer[self._position :] + data
            self._position = 0
        self._buffer = data
        return self._decode()

    def finish(self) -> Trailer:
        """Judge the file now that all its bytes were fed. Raises: LtxError."""
        for _ in self._decode():
            pass
        if self.size < MIN_SIZE:
            raise LtxError("too_small", f"{self.size} bytes are not an LTX file: the smallest has {MIN_SIZE}")
        if self.header is None or self._tail is None:
            raise LtxError("truncated", f"the file ends after {self.size} bytes, within its pages (page {self._page})")
        trailer = self._tail.finish()
        trailer.check_form(self.header)
        if self._keeps_rolling() and trailer.post_apply_checksum != self._rolling:
            raise LtxError("checksum", "the checksum of the database does not match the pages of this snapshot")
        if self._name not in (None, self.header.name):
            raise LtxError(
                "header_name_mismatch", f"the file is {self.header.name}, but lies under the name {self._name}"
            )
        return trailer

    def _decode(self) -> Iterator[Page]:
        if self.header is None:
            if len(self._buffer) < HEADER_SIZE:
                return
            self.header = Header.decode(self._buffer)
            self._frames = FrameReader(self.header)
            self._checksum = crc(self._buffer[:HEADER_SIZE])
            self._position = HEADER_SIZE
        while self._tail is None and (pages := self._batch()):
            yield from pages
        if self._tail is not None:
            self._tail.feed(self._buffer[self._position :])
            self._position = len(self._buffer)

    def _batch(self) -> list[Page]:
        """Decode the next pages, at most a batch of them; none when bytes are missing or the pages have ended."""
        buffer, position, page, read = self._buffer, self._position, self._page, self._frames.read
        pages: list[Page] = []
        covered: list[bytes] = []  # what the file checksum covers
        entries: list[bytes] = []  # what the index must say
        while len(pages) < self._frames.batch and (frame := read(buffer, position, page)):
            number, start, end, data = frame
            covered.append(buffer[position:start])
            covered.append(data)
            entries.append(encode_entry(number, self._offset + position, end - position))
            pages.append((number, data))
            if number != page + 1 or not page:
                self._start_run(page, number)
            page, position = number, end
        self._position, self._page = position, page
        self._checksum = crc(b"".join(covered), self._checksum)
        self._expected.add(b"".join(entries))
        self._roll(pages)
        if buffer.startswith(END, position):
            self._start_tail()
        return pages

    def _start_run(self, previous: int, number: int) -> None:
        if previous:
            self._last.append(previous)
        self._first.append(number)

    def _start_tail(self) -> None:
        self._position += len(END)
        self._expected.add(b"\0")
        self._tail = TailReader(crc(END, self._checksum), self._expected)

    def _roll(self, pages: list[Page]) -> None:
        if self._keeps_rolling():
            for number, data in pages:
                self._rolling = FLAG | (self._rolling ^ page_checksum(number, data))

    def _keeps_rolling(self) -> bool:
        """Only a snapshot has all the pages that the checksum of the database is made of."""
        return self.header is not None and self.header.is_snapshot and self.header.tracks_checksum
