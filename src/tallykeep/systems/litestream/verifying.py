"""Reading and verifying LTX files of a store, with bounded memory: what sweep and `check --deep` have in common.

Small files are read whole, large ones in chunks, straight into the decoder. A file that is gone, or was replaced
since it was listed, is neither sound nor corrupt: the next listing tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import NamedTuple, Protocol

from tallykeep.errors import NotFound
from tallykeep.storage.store import Store
from tallykeep.systems.litestream.coverage import Pages
from tallykeep.systems.litestream.inventory import LtxFile
from tallykeep.systems.litestream.ltx.decoder import Decoder
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.threads import in_thread

CHUNK = 4 << 20  # bytes read at once, and so held of one file
AT_ONCE = 4  # files
_LITTLE = 128 << 10  # bytes decoded on the event loop

Pace = Callable[[int], Awaitable[None]]  # told of each chunk's bytes before the next is read


class Sized(Protocol):
    """What reading a file takes."""

    @property
    def key(self) -> str: ...

    @property
    def size(self) -> int: ...


class Checked(NamedTuple):
    """What reading one file has shown."""

    file: LtxFile
    reason: str = ""  # why it is corrupt; "" when it is not
    pages: Pages | None = None  # of a sound file
    vanished: bool = False  # gone or replaced since it was listed
    timestamp: float | None = None  # Unix seconds: data time, of a sound file

    @property
    def sound(self) -> bool:
        """Read to its end and whole."""
        return self.pages is not None


async def _unpaced(_: int) -> None:
    return


async def verify(store: Store, file: LtxFile, pace: Pace = _unpaced) -> Checked:
    """Read and decode `file`. Raises: StoreError other than NotFound, when it cannot be told."""
    if file.too_small:
        return Checked(file, "too_small")
    decoder = Decoder(file.name)
    try:
        async for chunk in read_chunks(store, file, pace):
            await _decode(decoder, chunk)
        decoder.finish()
    except NotFound:
        return Checked(file, vanished=True)
    except LtxError as error:
        return Checked(file, error.reason, vanished=not await is_unchanged(store, file))
    header = decoder.header
    assert header is not None
    return Checked(file, pages=Pages(header.page_size, header.commit, decoder.pages), timestamp=header.timestamp)


async def _decode(decoder: Decoder, chunk: bytes) -> None:
    """Decode off the event loop what would hold it up: 4 MiB take some 20 ms."""
    if len(chunk) < _LITTLE:
        _skim(decoder, chunk)
    else:
        await in_thread(_skim, decoder, chunk)


def _skim(decoder: Decoder, chunk: bytes) -> None:
    for _ in decoder.feed(chunk):
        pass


async def read_chunks(store: Store, file: Sized, pace: Pace = _unpaced) -> AsyncIterator[bytes]:
    """The bytes of a file; small ones by one request. Raises: StoreError."""
    if file.size <= CHUNK:
        data = await store.read(file.key)
        await pace(len(data))
        yield data
        return
    position = 0
    while data := await store.read_range(file.key, position, CHUNK):
        await pace(len(data))
        yield data
        position += len(data)


def opener(store: Store) -> Callable[[Sized], AsyncIterator[bytes]]:
    """How a restore opens the files of `store`."""
    return lambda file: read_chunks(store, file)


async def is_unchanged(store: Store, file: LtxFile) -> bool:
    """Whether the object still is the one that was listed, so that its bytes say something of it."""
    try:
        now = await store.head(file.key)
    except NotFound:
        return False
    if now.etag is not None and file.etag is not None:
        return now.etag == file.etag
    return (now.size, now.modified) == (file.size, file.modified)


async def verify_all(store: Store, files: Iterable[LtxFile]) -> AsyncIterator[Checked]:
    """Verify many files, a few at a time, and yield each as it is done. Raises: StoreError."""
    waiting = iter(files)
    running: set[asyncio.Task[Checked]] = set()
    try:
        while True:
            while len(running) < AT_ONCE and (file := next(waiting, None)) is not None:
                running.add(asyncio.create_task(verify(store, file)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
