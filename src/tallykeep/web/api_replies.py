"""HEAD, ETag and gzip for replies that are whole in memory.

A reply's ETag is a hash of its body: weak, since the same answer may be sent packed or plain. A client that has it
gets 304 and no body. Only GET is passed on; HEAD is answered like it, without the body.
Source: RFC 9110, sections 8.8.3, 9.3.2, 13.1.2.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import MutableMapping
from typing import Any

from tallykeep.runtime.threads import in_thread
from tallykeep.web.asgi import App, Receive, Scope, Send, header
from tallykeep.web.negotiate import accepts_gzip

_WORTH_PACKING = 1024  # bytes
_LARGE = 1 << 18  # bytes that are hashed and packed off the event loop
_GZIP = 16 + zlib.MAX_WBITS

_Headers = list[tuple[bytes, bytes]]


class Finish:
    """Wraps an application whose replies are short of memory, not of length: each is gathered, then sent."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not served here")
        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        gathered = _Gathered()
        try:
            await self._app(asked, receive, gathered)
        except Exception:  # it has been answered and logged inside; raised again for servers that want to know
            if not gathered.status:
                raise
        status, headers, body = gathered.status, gathered.headers, bytes(gathered.body)
        if status == 200:
            tag, packed = await _off_loop(body, accepts_gzip(header(scope, b"accept-encoding")))
            headers = [*_without(headers, b"content-length"), (b"etag", tag), (b"cache-control", b"no-cache")]
            headers = _varying(headers, b"Accept-Encoding")
            if _matches(header(scope, b"if-none-match"), tag.decode()):
                status, body, packed = 304, b"", None
                headers = _without(headers, b"content-type")
            if packed is not None:
                body = packed
                headers.append((b"content-encoding", b"gzip"))
            if status == 200:
                headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


class _Gathered:
    """A `send` that keeps what is sent."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: _Headers = []
        self.body = bytearray()

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", ()))
        else:
            self.body += message.get("body", b"")


async def _off_loop(body: bytes, gzip: bool) -> tuple[bytes, bytes | None]:
    return await in_thread(_finished, body, gzip) if len(body) > _LARGE else _finished(body, gzip)


def _finished(body: bytes, gzip: bool) -> tuple[bytes, bytes | None]:
    """Its ETag, and its packed form where that is asked for and worth it."""
    tag = b'W/"%s"' % hashlib.blake2b(body, digest_size=12).hexdigest().encode()
    if not gzip or len(body) < _WORTH_PACKING:
        return tag, None
    press = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    return tag, press.compress(body) + press.flush()


def _matches(field: str, tag: str) -> bool:
    """Whether If-None-Match names the tag; weak comparison."""
    given = [one.strip().removeprefix("W/") for one in field.split(",")]
    return tag.removeprefix("W/") in given or "*" in given


def _without(headers: _Headers, name: bytes) -> _Headers:
    return [(key, value) for key, value in headers if key != name]


def _varying(headers: _Headers, by: bytes) -> _Headers:
    known = [value for key, value in headers if key == b"vary"]
    return [*_without(headers, b"vary"), (b"vary", b", ".join([*known, by]))]
