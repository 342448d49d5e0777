"""Is this a sound LTX file, and what does it hold?"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import NamedTuple

from tallykeep.systems.litestream.ltx.decoder import Decoder
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.header import Header
from tallykeep.systems.litestream.ltx.name import LtxName
from tallykeep.systems.litestream.ltx.pageset import PageSet
from tallykeep.systems.litestream.ltx.trailer import Trailer


class LtxSummary(NamedTuple):
    """What a sound file holds."""

    header: Header
    trailer: Trailer
    pages: PageSet
    size: int  # bytes

    @property
    def page_count(self) -> int:
        return len(self.pages)

    @property
    def missing(self) -> PageSet:
        """Pages that a file from the first transaction on must hold, and this one does not.

        Such a file is sound in itself. A restore from it succeeds only if later files bring these pages.
        """
        if not self.header.is_snapshot:
            return PageSet()
        return self.pages.missing(self.header.commit, self.header.page_size)


def verify(data: bytes | Iterable[bytes], name: LtxName | None = None) -> LtxSummary:
    """Decode a whole file, given as bytes or in chunks. Raises: LtxError saying why it is not sound."""
    decoder = Decoder(name)
    for chunk in (data,) if isinstance(data, bytes) else data:
        _skim(decoder, chunk)
    return _summary(decoder)


async def verify_stream(chunks: AsyncIterable[bytes], name: LtxName | None = None) -> LtxSummary:
    """Decode a whole file as it arrives; the loop stands still while a chunk is decoded.

    Raises: LtxError saying why it is not sound, and what the chunks raise.
    """
    decoder = Decoder(name)
    async for chunk in chunks:
        _skim(decoder, chunk)
    return _summary(decoder)


def _skim(decoder: Decoder, chunk: bytes) -> None:
    for _ in decoder.feed(chunk):
        pass


def _summary(decoder: Decoder) -> LtxSummary:
    trailer = decoder.finish()
    if decoder.header is None:
        raise LtxError("too_small", "no bytes are not an LTX file")
    return LtxSummary(decoder.header, trailer, decoder.pages, decoder.size)
