"""A database out of the LTX files of a plan: what `litestream restore` does, byte for byte, without the program.

Every file is decoded and verified to its end while it is applied, the newest first; nothing gets its final name
before all are known to be sound and every page of the database has come. The files that follow are opened while
one is decoded, since a chain of small files would otherwise wait for each reply in turn.

The event loop stands still while a chunk is decoded and written (about 20 ms for 8 MiB): a drill does this in a
process of its own. Source: Litestream, Replica.Restore; superfly/ltx, Compactor.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

from tallykeep.errors import RestoreError
from tallykeep.systems.litestream.image import CannotWrite, Image
from tallykeep.systems.litestream.ltx.decoder import Decoder
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.header import Header
from tallykeep.systems.litestream.ltx.name import LtxName
from tallykeep.systems.litestream.ltx.page import Page
from tallykeep.systems.litestream.ltx.pageset import PageSet
from tallykeep.systems.litestream.ltx.txid import Txid

_AHEAD_FILES = 8
_AHEAD_BYTES = 32 << 20  # of their first chunks, as far as the listed sizes tell
_CHUNK = 8 << 20
_BATCH = 1 << 20  # bytes of pages decoded before they are written


class PlannedFile(Protocol):
    """What a restore needs to know of a file; `LtxFile` is one."""

    @property
    def name(self) -> LtxName: ...

    @property
    def key(self) -> str: ...

    @property
    def size(self) -> int: ...


class Progress(NamedTuple):
    """How far a restore has come."""

    files: int
    bytes: int  # fetched


class RestoredImage(NamedTuple):
    """What was restored."""

    txid: Txid
    page_size: int  # bytes
    commit: int  # pages
    timestamp: float  # Unix seconds of the last transaction
    files: int
    fetched: int  # bytes

    @property
    def bytes(self) -> int:
        """Size of the database."""
        return self.page_size * self.commit


class MissingPages(RestoreError):
    """The files are sound, but some pages of the database are in none of them."""

    code = "missing_pages"

    def __init__(self, pages: PageSet, commit: int) -> None:
        super().__init__(
            f"no file of the plan holds page {pages} of {commit}: the replica cannot be restored past the file"
            " that should have brought them; let Litestream write a new snapshot"
        )
        self.pages = pages


class CorruptFile(RestoreError):
    """A file of the plan is not a sound LTX file. `key` says which, `error.reason` why."""

    code = "corrupt"

    def __init__(self, key: str, error: LtxError) -> None:
        super().__init__(f"{key}: {error}")
        self.key = key
        self.error = error


Opener = Callable[[PlannedFile], AsyncIterator[bytes]]  # the bytes of a file in chunks; raises StoreErrors


async def apply(
    files: Sequence[PlannedFile],
    open_chunks: Opener,
    target: Path,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    *,
    examine: Callable[[Path], Awaitable[None]] | None = None,
    overwrite: bool = False,
    durable: bool = True,
) -> RestoredImage:
    """Restore `files`, a plan in its order, into `target`, which appears whole or not at all.

    `examine` is shown the finished file before it gets its name, and keeps it from getting it by raising.
    `overwrite` lets an existing target and its SQLite sidecar files go; `durable` waits until the disk has it.
    Raises: CorruptFile, MissingPages, CannotWrite, RestoreError; StoreError as the chunks raise it.
    """
    _check_chain(files)
    image = Image(target, overwrite=overwrite)
    try:
        restored = await _Restore(image, on_progress).run(files, open_chunks)
        if examine is not None:
            await examine(image.partial)
        image.publish(durable=durable)
    except BaseException:
        image.discard()
        raise
    return restored


class _Restore:
    """One run: the image, and how far it has come."""

    def __init__(self, image: Image, on_progress: Callable[[Progress], None]) -> None:
        self._image = image
        self._on_progress = on_progress
        self._newest: Header | None = None
        self._files = 0
        self._bytes = 0

    async def run(self, files: Sequence[PlannedFile], open_chunks: Opener) -> RestoredImage:
        async with aclosing(_open_ahead(files[::-1], open_chunks)) as opened:
            async for file, chunks in opened:
                try:
                    await self._apply_file(file, chunks)
                except LtxError as error:
                    raise CorruptFile(file.key, error) from error
                self._files += 1
                self._on_progress(Progress(self._files, self._bytes))
        if missing := self._image.missing():
            raise MissingPages(missing, self._image.commit)
        assert self._newest is not None
        newest = self._newest
        return RestoredImage(
            newest.max_txid, newest.page_size, newest.commit, newest.timestamp, self._files, self._bytes
        )

    async def _apply_file(self, file: PlannedFile, chunks: AsyncIterator[bytes]) -> None:
        """Decode a file to its end. What speaks against it in this plan counts only if it is sound in itself."""
        decoder = Decoder(file.name)
        objection: RestoreError | None = None
        admitted = False
        async for chunk in chunks:
            pages = decoder.feed(chunk)
            batch = _next_batch(pages, decoder.header)
            if decoder.header is not None and not admitted:
                objection, admitted = self._admit(file, decoder.header), True
            while batch:
                if objection is None:
                    self._image.write(batch)
                batch = _next_batch(pages, decoder.header)
            self._bytes += len(chunk)
            self._on_progress(Progress(self._files, self._bytes))
        decoder.finish()
        if objection is not None:
            raise objection

    def _admit(self, file: PlannedFile, header: Header) -> RestoreError | None:
        """Whether there is room for the image, told by the newest file, and whether this one fits it."""
        if self._newest is None:
            self._newest = header
            try:
                self._image.prepare(header.page_size, header.commit)
            except CannotWrite as error:
                return error
        elif header.page_size != self._newest.page_size:
            return RestoreError(
                f"{file.key} is of a database with pages of {header.page_size} bytes, later files of one with"
                f" {self._newest.page_size}: they do not belong together"
            )
        return None


def _next_batch(pages: Iterator[Page], header: Header | None) -> list[Page]:
    return list(islice(pages, max(1, _BATCH // header.page_size) if header else 1))


def _check_chain(files: Sequence[PlannedFile]) -> None:
    """A plan starts at the first transaction and leaves none out. Raises: RestoreError."""
    if not files:
        raise RestoreError("there is nothing to restore: the plan has no files")
    if files[0].name.min != 1:
        raise RestoreError(f"{files[0].key} does not start at the first transaction: there is no base to restore on")
    for before, file in pairwise(files):
        if not file.name.min <= before.name.max + 1 <= file.name.max:
            raise RestoreError(f"{file.key} does not follow {before.key}: transactions between them are missing")


class _OpenFile:
    """A file whose first chunk is already on its way."""

    def __init__(self, file: PlannedFile, open_chunks: Opener) -> None:
        self.file = file
        self._chunks = open_chunks(file)
        self._first = asyncio.create_task(self._next())

    async def chunks(self) -> AsyncIterator[bytes]:
        chunk = await self._first
        while chunk is not None:
            yield chunk
            chunk = await self._next()

    async def close(self) -> None:
        self._first.cancel()
        await asyncio.gather(self._first, return_exceptions=True)
        if close := getattr(self._chunks, "aclose", None):
            with suppress(Exception):
                await close()

    async def _next(self) -> bytes | None:
        return await anext(self._chunks, None)


async def _open_ahead(
    files: Sequence[PlannedFile], open_chunks: Opener
) -> AsyncGenerator[tuple[PlannedFile, AsyncIterator[bytes]], None]:
    """Each file with its chunks, the following ones opened within the budget. Use each before the next is asked for."""
    waiting = deque(files)
    opened: deque[_OpenFile] = deque()
    try:
        while waiting or opened:
            while waiting and _affordable(opened, waiting[0]):
                opened.append(_OpenFile(waiting.popleft(), open_chunks))
            yield opened[0].file, opened[0].chunks()
            await opened.popleft().close()
    finally:
        for each in opened:
            await each.close()


def _affordable(opened: Sequence[_OpenFile], file: PlannedFile) -> bool:
    ahead = sum(min(each.file.size, _CHUNK) for each in opened) + min(file.size, _CHUNK)
    return len(opened) < 2 or (len(opened) <= _AHEAD_FILES and ahead <= _AHEAD_BYTES)
