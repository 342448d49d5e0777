"""Asks for user and password before every reply, health checks included, as Prometheus exporters do.

A bcrypt check takes 50 ms and more on purpose: it runs off the event loop, two at a time, and what was right is
remembered (as a keyed hash, in a bounded cache), so that a scraper pays once. Unknown users cost the same check
as known ones.
Source: prometheus/exporter-toolkit, web/handler.go; RFC 7617.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import secrets
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from typing import Any, NamedTuple

from tallykeep.runtime.threads import in_thread
from tallykeep.web.asgi import App, Receive, Reply, Scope, Send, header
from tallykeep.web.webconfig import WebConfig

_REMEMBERED = 128  # right credentials
_AT_ONCE = 2  # bcrypt checks: strangers with wrong passwords must not take every core
_NOBODY = b"$2b$10$" + b"." * 53  # checked where the user is unknown; no password has this hash
_UNAUTHORIZED = Reply(
    401, b"Unauthorized\n", headers=((b"www-authenticate", b'Basic realm="tallykeep", charset="UTF-8"'),)
)


class _Credentials(NamedTuple):
    user: str
    password: bytes


class Guard:
    """Wraps an application; asks `current` for the configuration of the moment at every request."""

    def __init__(self, app: App, current: Callable[[], WebConfig]) -> None:
        self._app = app
        self._current = current
        self._checks = Checks()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or reply 401."""
        config = self._current()
        decorated = _with_headers(send, config)
        if config.users and not await self._allowed(scope, config):
            await _UNAUTHORIZED.send(scope, decorated)
        else:
            await self._app(scope, receive, decorated)

    async def _allowed(self, scope: Scope, config: WebConfig) -> bool:
        given = _credentials(header(scope, b"authorization"))
        return given is not None and await self._checks.right(given.password, config.users.get(given.user))


class Checks:
    """Checks passwords against bcrypt hashes and remembers which were right."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def right(self, password: bytes, hashed: bytes | None) -> bool:
        """Whether the password belongs to the hash; for None, False after the time of a check."""
        known = hashlib.blake2b((hashed or b"") + b"\0" + password, key=self._key).digest()
        if known in self._right:
            self._right.move_to_end(known)
            return True
        async with self._turns:
            matches = await in_thread(_matches, password, hashed or _NOBODY)
        if matches and hashed is not None:
            self._right[known] = None
            while len(self._right) > _REMEMBERED:
                self._right.popitem(last=False)
        return matches and hashed is not None


def _matches(password: bytes, hashed: bytes) -> bool:
    import bcrypt  # a native library only guarded listeners need

    try:
        return bcrypt.checkpw(password[:72], hashed)  # bcrypt reads no more, and this library raises on longer ones
    except ValueError:
        return False


def _credentials(authorization: str) -> _Credentials | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = b64decode(encoded.strip(), validate=True).partition(b":")
        return _Credentials(user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


def _with_headers(send: Send, config: WebConfig) -> Send:
    if not config.headers:
        return send
    more = [(name.lower().encode(), value.encode()) for name, value in config.headers.items()]

    async def decorated(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *more]
        await send(message)

    return decorated
