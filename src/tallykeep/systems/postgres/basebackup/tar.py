"""A tar archive as PostgreSQL sends it, taken apart as it comes: no seek, no buffer larger than a header.

The standard library reads headers; it cannot read a stream that is pushed at it in pieces of any size.
Source: POSIX, ustar; PostgreSQL, src/port/tar.c.
"""

from __future__ import annotations

from tarfile import HeaderError, TarInfo
from typing import Protocol

from tallykeep.errors import Malformed

_BLOCK = 512


class Unpacked(Protocol):
    """What gets the members."""

    def begin(self, member: TarInfo) -> None:
        """A member follows; `data` comes until its size is reached, then `end`."""
        ...

    def data(self, data: memoryview) -> None: ...

    def end(self) -> None: ...


class TarReader:
    """Pushes members to `to` as the archive is fed in."""

    def __init__(self, to: Unpacked) -> None:
        self._to = to
        self._header = bytearray()
        self._left = 0  # bytes of the member's content that are still to come
        self._padding = 0
        self._inside = False

    def feed(self, data: bytes | memoryview) -> None:
        """The next piece of the archive. Raises: Malformed."""
        view = memoryview(data)
        if len(view) < self._left:  # nearly always: the whole piece belongs to one file
            self._left -= len(view)
            self._to.data(view)
            return
        while len(view):
            if self._inside:
                view = self._content(view)
            elif self._padding:
                skipped = min(self._padding, len(view))
                self._padding -= skipped
                view = view[skipped:]
            else:
                view = self._head(view)

    def close(self) -> None:
        """The archive has ended. Raises: Malformed where it was cut."""
        if self._inside or self._header:
            raise Malformed("PostgreSQL's archive of the data directory ends in the middle of a file.")

    def _content(self, view: memoryview) -> memoryview:
        piece = view[: self._left]
        self._to.data(piece)
        self._left -= len(piece)
        if not self._left:
            self._inside = False
            self._to.end()
        return view[len(piece) :]

    def _head(self, view: memoryview) -> memoryview:
        wanted = _BLOCK - len(self._header)
        self._header += view[:wanted]
        if len(self._header) == _BLOCK:
            header, self._header = bytes(self._header), bytearray()
            if header.count(0) < _BLOCK:  # two blocks of zeros end an archive
                self._begin(header)
        return view[wanted:]

    def _begin(self, header: bytes) -> None:
        try:
            member = TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except HeaderError as error:
            raise Malformed(f"PostgreSQL's archive of the data directory does not parse: {error}") from None
        self._left = member.size if member.isreg() else 0
        self._padding = -self._left % _BLOCK
        self._to.begin(member)
        if self._left:
            self._inside = True
        else:
            self._to.end()
