"""One token for the API: as a Bearer token, or as the password of Basic for browsers that can send nothing else.

/health is answered without it: it tells nothing but whether a first look has succeeded, and container health checks
carry no token.
Source: RFC 6750; RFC 7617.
"""

from __future__ import annotations

import binascii
import hmac
import json
from base64 import b64decode

from tallykeep.web.asgi import App, Receive, Reply, Scope, Send, header

OPEN = frozenset({"/health"})

_UNAUTHORIZED = Reply(
    401,
    json.dumps({"error": "This API asks for a token: Authorization: Bearer ..."}).encode(),
    b"application/json",
    ((b"www-authenticate", b'Bearer realm="tallykeep", Basic realm="tallykeep", charset="UTF-8"'),),
)


class TokenGuard:
    """Wraps an application; replies 401 to whoever does not send the token."""

    def __init__(self, app: App, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or reply 401."""
        if scope["path"] in OPEN or self._right(header(scope, b"authorization")):
            await self._app(scope, receive, send)
        else:
            await _UNAUTHORIZED.send(scope, send)

    def _right(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        if scheme.lower() == "basic":
            try:
                _, _, password = b64decode(given.strip(), validate=True).partition(b":")
            except (binascii.Error, ValueError):
                return False
            return hmac.compare_digest(password, self._token)
        return False
