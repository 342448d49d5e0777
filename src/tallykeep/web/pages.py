"""The page of the moment, as bytes ready to be sent, rendered and compressed once per change.

Rendering happens on a thread of its own, never on the event loop; scrapes that come meanwhile wait for the one
rendering and share it. Whether the kept bytes are still true (nothing published, nothing expired) is asked at
every send.
"""

from __future__ import annotations

import asyncio
import zlib
from threading import Lock
from typing import NamedTuple

from tallykeep.clock import Clock
from tallykeep.exposition.page import Format, Renderer
from tallykeep.runtime.board import Board, View
from tallykeep.runtime.threads import in_thread
from tallykeep.web.negotiate import Encoding

AGES_EVERY = 1.0  # seconds a page that shows ages may be sent again

_GZIP = 16 + zlib.MAX_WBITS
_Key = tuple[Format, Encoding]


class _Kept(NamedTuple):
    data: bytes
    view: View
    until: float  # monotonic


class Pages:
    """The pages of one Board in every format and encoding that is asked for."""

    def __init__(self, board: Board, clock: Clock) -> None:
        self._board = board
        self._clock = clock
        self._renderer = Renderer(board.catalogue)
        self._kept: dict[_Key, _Kept] = {}
        self._turn = asyncio.Lock()
        self._rendering = Lock()  # also against a rendering whose scrape was cancelled

    async def get(self, format: Format, encoding: Encoding) -> bytes:
        """The page as it is to be believed now."""
        key = (format, encoding)
        kept = self._fresh(key)
        if kept is not None:
            return kept
        async with self._turn:
            kept = self._fresh(key)
            return kept if kept is not None else await in_thread(self._make, key)

    def _fresh(self, key: _Key) -> bytes | None:
        kept = self._kept.get(key)
        if kept is None or self._clock.monotonic() >= kept.until or not self._board.is_current(kept.view):
            return None
        return kept.data

    def _make(self, key: _Key) -> bytes:
        with self._rendering:
            view = self._board.view()
            self._kept = {k: kept for k, kept in self._kept.items() if kept.view is view}
            plain = self._plain(key[0], view)
            if key[1] is not Encoding.IDENTITY:
                self._kept[key] = plain._replace(data=_compressed(plain.data, key[1]))
            return self._kept[key].data

    def _plain(self, format: Format, view: View) -> _Kept:
        key = (format, Encoding.IDENTITY)
        kept = self._kept.get(key)
        now = self._clock.monotonic()
        if kept is None or now >= kept.until:
            page = self._renderer.render(view.snapshots, format, self._clock.time())
            until = now + AGES_EVERY if page.has_ages else float("inf")
            kept = self._kept[key] = _Kept(page.data, view, until)
        return kept


def _compressed(data: bytes, encoding: Encoding) -> bytes:
    if encoding is Encoding.GZIP:
        press = zlib.compressobj(1, zlib.DEFLATED, _GZIP)  # level 9 takes eleven times as long for two thirds of it
        return press.compress(data) + press.flush()
    import zstandard  # seldom asked for; 6 ms and a native library

    return zstandard.ZstdCompressor(level=3).compress(data)
