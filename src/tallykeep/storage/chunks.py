"""An object of any size as a stream of bounded pieces.

The next pieces are fetched while the caller works on this one. Each is a ranged read of its own, so a time-out or
a retry costs one piece, and memory holds `ahead` + 1 of them, whatever the object's size.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from tallykeep.errors import Corrupt
from tallykeep.storage.store import Store

CHUNK = 8 << 20  # bytes


async def chunks(store: Store, key: str, size: int, *, chunk: int = CHUNK, ahead: int = 1) -> AsyncIterator[bytes]:
    """The `size` bytes of an object, as listed, in order, in pieces of `chunk` bytes; the last may be shorter.

    Nothing is asked of the store for an empty object.
    Raises: NotFound where it has vanished; Corrupt where it is shorter than `size`; what read_range raises.
    """
    starts = iter(range(0, size, chunk))
    tasks: deque[asyncio.Task[bytes]] = deque()

    def fetch_next() -> None:
        if (start := next(starts, None)) is not None:
            tasks.append(asyncio.create_task(_piece(store, key, start, min(chunk, size - start), size)))

    try:
        for _ in range(ahead + 1):
            fetch_next()
        while tasks:
            piece = await tasks[0]
            tasks.popleft()
            fetch_next()
            yield piece
    finally:
        await _abandon(tasks)


async def _piece(store: Store, key: str, start: int, length: int, size: int) -> bytes:
    data = await store.read_range(key, start, length)
    if len(data) != length:
        raise Corrupt(f"{store.name}/{key}: was listed with {size} bytes and ends after {start + len(data)}.")
    return data


async def _abandon(tasks: deque[asyncio.Task[bytes]]) -> None:
    """Cancel what nobody waits for any more, and see it end, so that no error goes unheard."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
