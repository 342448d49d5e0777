"""An HTTP proxy that spoils replies: in front of a real S3 it makes the half-listed, slow and failing remote.

Requests are passed on byte for byte (the Host header too, so signatures stay valid), one connection each. A Fault
says which requests are spoilt and how; without faults everything passes. Counted, not random: the second listing
fails, and then the third does not, in every run.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from tests.support.accepting import accepting


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came by."""

    method: str
    target: str  # path and query

    @property
    def is_listing(self) -> bool:
        """ListObjectsV2."""
        return self.method == "GET" and "list-type=2" in self.target


def listing(seen: Seen) -> bool:
    """For Fault.match: LIST requests only."""
    return seen.is_listing


def reading(seen: Seen) -> bool:
    """For Fault.match: reads of objects only."""
    return seen.method == "GET" and not seen.is_listing


def writing(seen: Seen) -> bool:
    """For Fault.match: puts only."""
    return seen.method == "PUT"


def everything(seen: Seen) -> bool:
    """For Fault.match: every request."""
    return True


@dataclass(slots=True)
class Fault:
    """What happens to matching requests, from the `first` of them (counted from 1) on, `times` times (0: always)."""

    match: Callable[[Seen], bool] = everything
    first: int = 1
    times: int = 1
    status: int = 0  # answer with this and do not ask the server
    code: str = "InternalError"  # what S3 would say with `status`
    drop: bool = False  # close the connection without an answer, the server not having been asked
    lose: bool = False  # let the server do it, then close the connection without an answer
    part: float | None = None  # let such a part of the request's body come to the server, then reset both connections
    cut: int | None = None  # close the connection after so many bytes of the server's answer
    delay: float = 0.0  # seconds before the answer
    hang: bool = False  # never answer
    met: int = field(default=0, init=False)  # matching requests so far

    def strikes(self, seen: Seen) -> bool:
        """Count a request that matches, and say whether it is to be spoilt."""
        if not self.match(seen):
            return False
        self.met += 1
        return self.met >= self.first and (not self.times or self.met < self.first + self.times)


class FaultProxy:
    """Stands before `endpoint`, on a thread of its own, as long as the context lasts."""

    def __init__(self, endpoint: str, *faults: Fault, tls: ssl.SSLContext | None = None) -> None:
        self.faults = list(faults)
        self.seen: list[Seen] = []
        self.endpoint = ""
        self._server = urlsplit(endpoint)
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        listener = self._stack.enter_async_context(accepting(self._serve, limit=1 << 20, tls=self._tls))
        host, port = asyncio.run_coroutine_threadsafe(listener, self._loop).result(60)
        self.endpoint = f"{'https' if self._tls else 'http'}://{host}:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    def listings(self) -> list[Seen]:
        """The LIST requests that came by, spoilt ones too."""
        return [seen for seen in self.seen if seen.is_listing]

    async def _stop(self) -> None:
        await self._stack.aclose()
        rest = asyncio.all_tasks() - {asyncio.current_task()}  # TLS that was being agreed upon
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(_content_length(head))
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        seen = Seen(method, target)
        self.seen.append(seen)
        fault = next((fault for fault in self.faults if fault.strikes(seen)), Fault())
        await asyncio.sleep(fault.delay)
        if fault.hang:
            await asyncio.Event().wait()
        if fault.drop:
            return
        if fault.part is not None:
            await self._tell(head, body[: int(len(body) * fault.part)])
            _reset(writer)
            return
        answer = _refusal(fault) if fault.status else await self._ask(head, body)
        if not fault.lose:
            writer.write(answer if fault.cut is None else answer[: fault.cut])
            await writer.drain()

    async def _tell(self, head: bytes, body: bytes) -> None:
        """Send the server what is no whole request, and go away."""
        assert self._server.hostname is not None
        _, writer = await asyncio.open_connection(self._server.hostname, self._server.port)
        writer.write(head + body)
        await writer.drain()
        await asyncio.sleep(0.02)  # the server begins
        _reset(writer)

    async def _ask(self, head: bytes, body: bytes) -> bytes:
        """The server's whole answer."""
        assert self._server.hostname is not None
        reader, writer = await asyncio.open_connection(self._server.hostname, self._server.port)
        try:
            writer.write(head[:-2] + b"Connection: close\r\n\r\n" + body)
            return await reader.read(-1)
        finally:
            writer.transport.abort()  # a frozen server takes nothing more


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close it as a machine does that forgets a connection."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _refusal(fault: Fault) -> bytes:
    body = f"<Error><Code>{fault.code}</Code><Message>A fault was asked for.</Message></Error>".encode()
    head = f"HTTP/1.1 {fault.status} Fault\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
