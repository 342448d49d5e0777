"""As much of ASGI as plain replies need: no framework, nothing to import before the first scrape is answered.

Source: ASGI 3.0, HTTP connection scope.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

PLAIN = b"text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply, ready to be sent."""

    status: int
    body: bytes
    content_type: bytes = PLAIN
    headers: Headers = ()  # further ones

    async def send(self, scope: Scope, send: Send) -> None:
        """Send it; to HEAD, the same headers without the body."""
        length = str(len(self.body)).encode()
        fixed = ((b"content-type", self.content_type), (b"content-length", length))
        await send({"type": "http.response.start", "status": self.status, "headers": [*fixed, *self.headers]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self.body})


def header(scope: Scope, name: bytes) -> str:
    """The value of a request header given in lower case; several are joined with commas; "" where there is none."""
    return ",".join([value.decode("latin-1") for key, value in scope["headers"] if key == name])
