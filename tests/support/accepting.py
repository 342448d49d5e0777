"""A listener for tests. When it ends every connection is closed, those too that have only just come."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
_ROUNDS = 5  # of the event loop, in which what was accepted is told to us, aborted and closed


@asynccontextmanager
async def accepting(
    serve: Serve, *, limit: int = 1 << 16, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, int]]:
    """The address on which `serve` answers, a task for each connection; cancelled at the end.

    asyncio itself leaves a connection open whose task is cancelled before it began, or that was accepted, and not
    attached yet, when its server is closed.
    """
    tasks: set[asyncio.Task[None]] = set()
    writers: set[asyncio.StreamWriter] = set()
    ended = False

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if ended:
            writer.transport.abort()
            return
        writers.add(writer)
        tasks.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0, limit=limit, ssl=tls)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield host, port
    finally:
        ended = True
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener)
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:  # one whose client reads no more would never be closed
            writer.transport.abort()
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
