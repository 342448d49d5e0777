"""What a metrics listener answers: /metrics, /healthz, /readyz, /status and an index of these.

/healthz says that the loop turns. /readyz says that the start is over: listeners are up and every collector has
had its first attempt, whatever came of it. Neither depends on a remote: whether data is safe is told by /metrics
and /status.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from html import escape
from typing import Protocol

from tallykeep import __version__
from tallykeep.clock import Clock
from tallykeep.metrics import Book
from tallykeep.runtime.board import Board
from tallykeep.runtime.threads import in_thread
from tallykeep.web.asgi import Receive, Reply, Scope, Send, header
from tallykeep.web.negotiate import Encoding, choose_encoding, choose_format
from tallykeep.web.pages import Pages
from tallykeep.web.status import status


class Health(Protocol):
    """What /readyz asks."""

    @property
    def waiting(self) -> Sequence[str]:
        """What the start still waits for, a phrase each; empty once the program is ready."""
        ...


class MetricsApp:
    """An ASGI application over one Board."""

    def __init__(self, board: Board, book: Book, clock: Clock, health: Health) -> None:
        self._board = board
        self._book = book
        self._clock = clock
        self._health = health
        self._pages = Pages(board, clock)
        self._routes: dict[str, tuple[str, Callable[[Scope], Awaitable[Reply]]]] = {
            "/": ("this page", self._index),
            "/metrics": ("everything known, for Prometheus", self._metrics),
            "/status": ("verdicts and collectors, as JSON", self._status),
            "/readyz": ("whether the start is over", self._ready),
            "/healthz": ("whether the program answers", self._healthy),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not served here")
        reply = await self._answer(scope)
        await reply.send(scope, send)

    async def _answer(self, scope: Scope) -> Reply:
        route = self._routes.get(scope["path"])
        if route is None:
            return Reply(404, b"Nothing is here. See / for what is.\n")
        if scope["method"] not in ("GET", "HEAD"):
            return Reply(405, b"Only GET and HEAD are answered here.\n", headers=((b"allow", b"GET, HEAD"),))
        return await route[1](scope)

    async def _metrics(self, scope: Scope) -> Reply:
        format = choose_format(header(scope, b"accept"))
        encoding = choose_encoding(header(scope, b"accept-encoding"))
        body = await self._pages.get(format, encoding)
        headers = [(b"vary", b"Accept, Accept-Encoding")]
        if encoding is not Encoding.IDENTITY:
            headers.append((b"content-encoding", encoding.value.encode()))
        return Reply(200, body, format.value.encode(), tuple(headers))

    async def _healthy(self, scope: Scope) -> Reply:
        return Reply(200, b"ok\n")

    async def _ready(self, scope: Scope) -> Reply:
        waiting = self._health.waiting
        if not waiting:
            return Reply(200, b"ready\n")
        return Reply(503, "".join([f"waiting for: {part}\n" for part in waiting]).encode("utf-8", "replace"))

    async def _status(self, scope: Scope) -> Reply:
        told = await in_thread(status, self._board, self._book, self._clock.time())
        waiting = list(self._health.waiting)
        body = json.dumps({"version": __version__, "ready": not waiting, "waiting": waiting, **told}, indent=2)
        return Reply(200, body.encode() + b"\n", b"application/json")

    async def _index(self, scope: Scope) -> Reply:
        # relative links: the page may stand behind a proxy under a path of its own
        rows = [
            f'<li><a href="{escape(path.lstrip("/") or "./")}">{escape(path)}</a> {escape(what)}</li>'
            for path, (what, _) in self._routes.items()
        ]
        waiting = "".join(f"<p>Waiting for: {escape(part)}</p>" for part in self._health.waiting)
        page = _INDEX.format(version=escape(__version__), rows="\n".join(rows), waiting=waiting)
        return Reply(200, page.encode("utf-8", "replace"), b"text/html; charset=utf-8")


_INDEX = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>tallykeep</title></head>
<body>
<h1>tallykeep {version}</h1>
<ul>
{rows}
</ul>
{waiting}
</body>
</html>
"""
