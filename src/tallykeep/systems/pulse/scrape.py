"""Fetches a metrics page over HTTP. What it says is left to others.

The key goes to the target's own host alone: a redirect to another one is followed without it. A page is unpacked
here, piece by piece, so that a small reply cannot unpack to more than the limit. text/plain is asked for, since it
has no exemplars to parse; which of the two formats came is told by the reply.
Source: RFC 9110; Prometheus, content negotiation of scrapes.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import zlib
from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx2

from tallykeep.errors import Malformed, Refused, SourceError, Unreachable
from tallykeep.systems.pulse.settings import TargetSettings
from tallykeep.units import format_bytes

REDIRECTS = 5
_ACCEPT = "text/plain;version=0.0.4;q=1,*/*;q=0.1"
_ANY_HEADER = 16 + zlib.MAX_WBITS  # gzip
_STEP = 1 << 20  # bytes unpacked at once

_log = logging.getLogger(__name__)


class Page(NamedTuple):
    """A page as it came."""

    data: bytes
    openmetrics: bool


class Client:
    """One connection pool for all targets."""

    def __init__(self, *, timeout: float, limit: int, verify: bool) -> None:
        self._timeout = timeout
        self._limit = limit
        self._http = httpx2.AsyncClient(
            verify=verify,
            timeout=timeout,
            follow_redirects=True,
            max_redirects=REDIRECTS,
            headers={"Accept": _ACCEPT, "Accept-Encoding": "gzip", "User-Agent": "tallykeep"},
        )

    async def close(self) -> None:
        """Let connections go."""
        await self._http.aclose()

    async def fetch(self, target: TargetSettings) -> Page:
        """The page of a target.

        Raises: Unreachable without a whole reply in time, Refused for a status other than 200, Malformed for what
        is no page, an empty one included.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await self._fetched(target)
        except TimeoutError:
            raise Unreachable(f"{target.shown} did not answer within {self._timeout:g} s") from None
        except httpx2.TooManyRedirects:
            raise Refused(f"{target.shown} redirects more than {REDIRECTS} times: name the page itself") from None
        except httpx2.InvalidURL as error:
            raise Malformed(f"{target.shown}: {error}") from None
        except (httpx2.HTTPError, httpx2.StreamError, ssl.SSLError) as error:
            raise Unreachable(f"{target.shown} does not answer: {str(error) or type(error).__name__}") from None

    async def _fetched(self, target: TargetSettings) -> Page:
        key = target.api_key.reveal().strip().encode()
        headers = [(b"Authorization", b"Bearer " + key)] if key else []
        async with self._http.stream("GET", target.url, headers=headers) as reply:
            if reply.status_code != 200:
                raise _refusal(reply.status_code, target)
            kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
            data = await self._body(reply, target)
        openmetrics = kind == "application/openmetrics-text"
        if not data.strip():
            raise Malformed(f"{target.shown} answered with an empty page")
        if data.lstrip().startswith(b"<"):
            raise Malformed(f"{target.shown} answers with a page for people, no metrics: check the address")
        if openmetrics and not data.rstrip().endswith(b"# EOF"):
            raise Malformed(f"{target.shown}: the page was cut off before its # EOF")
        return Page(data, openmetrics)

    async def _body(self, reply: httpx2.Response, target: TargetSettings) -> bytes:
        encoding = reply.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "", "gzip", "x-gzip"):
            raise Malformed(f"{target.shown} packs its page as {encoding}, which was not asked for")
        pieces = reply.aiter_raw() if encoding in ("identity", "") else _unpacked(reply.aiter_raw(), target)
        data = bytearray()
        async for piece in pieces:
            data += piece
            if len(data) > self._limit:
                raise Refused(
                    f"{target.shown} is larger than {format_bytes(self._limit)}: raise LITELLM_PULSE_PAGE_LIMIT"
                )
        return bytes(data)


async def _unpacked(packed: AsyncIterator[bytes], target: TargetSettings) -> AsyncIterator[bytes]:
    unpacker = zlib.decompressobj(_ANY_HEADER)
    try:
        async for piece in packed:
            while piece:
                yield unpacker.decompress(piece, _STEP)
                piece = unpacker.unconsumed_tail
    except zlib.error as error:
        raise Malformed(f"{target.shown}: the page does not unpack: {error}") from None
    if not unpacker.eof:
        raise Malformed(f"{target.shown}: the packed page was cut off")


def _refusal(status: int, target: TargetSettings) -> SourceError:
    if status in (401, 403):
        had = "the key was not accepted" if target.api_key.reveal().strip() else "it asks for a key"
        return Refused(f"{target.shown} answered {status}: {had}; see LITELLM_PULSE_METRICS_API_KEY")
    if status == 404:
        return Refused(
            f"{target.shown} answered 404: check the path, and that LiteLLM's settings name the prometheus callback"
        )
    if status >= 500 or status == 429:
        return Unreachable(f"{target.shown} answered {status}")
    return Refused(f"{target.shown} answered {status}")
