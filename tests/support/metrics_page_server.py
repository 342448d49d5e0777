"""A metrics page behind a real HTTP server: what it answers, how slowly, and what it was asked, is up to the test."""

from __future__ import annotations

import gzip
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(slots=True)
class Answer:
    """One reply."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": TEXT})
    delay: float = 0.0  # seconds before it
    drip: float = 0.0  # seconds between its bytes
    cut: int = 0  # bytes announced but not sent


@dataclass(slots=True)
class Asked:
    """One request."""

    path: str
    headers: dict[str, str]


class MetricsPage:
    """A server on 127.0.0.1. `answer` is what it says next; `answers` what it says first, in turn."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answer = Answer()
        self.answers: list[Answer] = []
        self.paths: dict[str, Callable[[], Answer]] = {}
        self.asked: list[Asked] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def origin(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/metrics/"

    def shows(self, text: str, *, openmetrics: bool = False, packed: bool = False) -> None:
        """Answer with this page from now on."""
        headers = {"Content-Type": OPENMETRICS if openmetrics else TEXT}
        body = text.encode()
        if packed:
            headers["Content-Encoding"], body = "gzip", gzip.compress(body)
        self.answer = Answer(body, headers=headers)

    def fails(self, status: int, **headers: str) -> None:
        """Answer with this status from now on."""
        self.answer = Answer(b"no\n", status, {"Content-Type": "text/plain", **headers})

    def _next(self, path: str) -> Answer:
        if path in self.paths:
            return self.paths[path]()
        return self.answers.pop(0) if self.answers else self.answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page.asked.append(Asked(self.path, {key.lower(): value for key, value in self.headers.items()}))
                answer = page._next(self.path)
                time.sleep(answer.delay)
                self.send_response(answer.status)
                for key, value in answer.headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(answer.body) + answer.cut))
                self.end_headers()
                self._send(answer)

            def _send(self, answer: Answer) -> None:
                try:
                    for at in range(0, len(answer.body), 1 if answer.drip else len(answer.body) or 1):
                        self.wfile.write(answer.body[at : at + 1] if answer.drip else answer.body)
                        time.sleep(answer.drip)
                except OSError:  # the client has heard enough
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler


def litellm(
    requests: float | None = None,
    *,
    cost: float | None = None,
    tokens: float | None = None,
    in_flight: float | None = None,
    created: float | None = None,
    model: str = "gpt-4o",
) -> str:
    """A small page as LiteLLM shows it: one series of each figure that is given."""
    lines: list[str] = []
    for stem, value in (("proxy_total_requests", requests), ("spend", cost), ("total_tokens", tokens)):
        if value is None:
            continue
        label = "requested_model" if stem == "proxy_total_requests" else "model"
        lines += [
            f"# TYPE litellm_{stem}_metric_total counter",
            f'litellm_{stem}_metric_total{{{label}="{model}"}} {value}',
        ]
        if created is not None:
            lines += [
                f"# TYPE litellm_{stem}_metric_created gauge",
                f'litellm_{stem}_metric_created{{{label}="{model}"}} {created}',
            ]
    if in_flight is not None:
        lines += ["# TYPE litellm_in_flight_requests gauge", f"litellm_in_flight_requests {in_flight}"]
    return "".join(f"{line}\n" for line in ["# TYPE up gauge", "up 1.0", *lines])
