"""The page at / for people: what every system tells, as plain tables. Clients that prefer JSON get JSON.

Every text that came from outside is escaped, and the page allows no script at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Protocol

from tallykeep import __version__
from tallykeep.exposition.json import Json
from tallykeep.web.asgi import App, Receive, Reply, Scope, Send, header
from tallykeep.web.negotiate import prefers_html

_POLICY = b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_PERIODS = ("daily", "weekly", "monthly", "lifetime")


class Told(Protocol):
    """What the page shows of a system."""

    def summary(self) -> Mapping[str, Json]:
        """A flat object: `<name>`, and `<name>_daily` and its kin where there are such."""
        ...


class Front:
    """Answers / to browsers, and passes everything else on."""

    def __init__(self, app: App, told: Sequence[tuple[str, Told]]) -> None:
        self._app = app
        self._told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["path"] == "/" and scope["method"] == "GET" and prefers_html(header(scope, b"accept")):
            await Reply(200, self._page(), b"text/html; charset=utf-8", _HEADERS).send(scope, send)
            return
        if scope["path"] == "/":
            send = _varying(send)
        await self._app(scope, receive, send)

    def _page(self) -> bytes:
        parts = "".join(f"<h2>{escape(name)}</h2>\n{_table(told.summary())}" for name, told in self._told)
        return _PAGE.format(version=escape(__version__), parts=parts).encode("utf-8", "replace")


_HEADERS = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"vary", b"Accept"),
)


def _varying(send: Send) -> Send:
    async def sent(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"vary", b"Accept")]}  # type: ignore[misc]
        await send(message)

    return sent  # type: ignore[return-value]


def _table(told: Mapping[str, Json]) -> str:
    names = [name for name in told if f"{name}_daily" in told]
    heads = ("", "today", "this week", "this month", "since the first scrape")
    rows = [[name.replace("_", " "), *(told.get(f"{name}_{period}") for period in _PERIODS)] for name in names]
    rest = [[name, value] for name, value in told.items() if name in ("last_scrape", "source", "error")]
    return _rows(heads, rows) + _rows((), rest)


def _rows(heads: Iterable[str], rows: Iterable[Sequence[Json]]) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    lines = [
        f'<tr><th scope="row">{_shown(first)}</th>' + "".join(f"<td>{_shown(v)}</td>" for v in rest) + "</tr>"
        for first, *rest in rows
    ]
    return f"<table>\n<tr>{head}</tr>\n" + "\n".join(lines) + "\n</table>\n"


def _shown(value: Json) -> str:
    if value is None:
        return "&ndash;"
    if isinstance(value, float):
        return escape(f"{value:,.4f}".rstrip("0").rstrip("."))
    return escape(f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))


_PAGE = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>tallykeep</title>
<style>
:root {{ color-scheme: light dark; font-family: system-ui, sans-serif; }}
td {{ text-align: right; padding: .2em 1em; font-variant-numeric: tabular-nums; }}
th {{ text-align: left; font-weight: normal; padding: .2em 1em .2em 0; }}
</style></head>
<body>
<h1>tallykeep {version}</h1>
{parts}<p><a href="openapi.json">openapi.json</a></p>
</body>
</html>
"""
