"""The metrics page of the demo's LiteLLM proxy, fed by the traffic that goes into its database.

The same requests stand in both, so what is read from the page and what is read from the database can be compared.
Families and labels are a selection of LiteLLM's own; counters tell when they were created, as its do.
Source: LiteLLM 1.106, /metrics of a proxy that served mock responses.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from tallykeep.demo.litellm_rows import FAILURE, PICO, Request
from tallykeep.exposition.parse import series_of

_Labels = tuple[tuple[str, str], ...]
_NONE = "None"  # as LiteLLM writes what is missing
_FAMILIES = (
    "litellm_proxy_total_requests_metric",
    "litellm_proxy_failed_requests_metric",
    "litellm_spend_metric",
    "litellm_total_tokens_metric",
    "litellm_input_tokens_metric",
    "litellm_output_tokens_metric",
    "litellm_output_reasoning_tokens_metric",
    "litellm_input_cached_tokens_metric",
    "litellm_cache_hits_metric",
    "litellm_cache_misses_metric",
)


class GatewayPage:
    """Counters as a proxy keeps them. Adding and rendering are safe from any thread."""

    def __init__(self, now: float | None = None) -> None:
        self._lock = threading.Lock()
        self.restart(time.time() if now is None else now)

    def restart(self, now: float) -> None:
        """Begin anew, as a restarted proxy does (Unix seconds)."""
        with self._lock:
            self._counts: dict[str, Counter[_Labels]] = {name: Counter() for name in _FAMILIES}
            self._created: dict[tuple[str, _Labels], float] = {}

    def add(self, requests: Iterable[Request], now: float | None = None) -> None:
        """Count requests that have ended (Unix seconds: when a counter that is new was created)."""
        moment = time.time() if now is None else now
        with self._lock:
            for request in requests:
                self._add(request, moment)

    def _add(self, request: Request, now: float) -> None:
        who = {"team": request.who.team or _NONE}  # keys and users as well would make it thousands of series
        number = f"{request.model.provider}/{request.model.name}"
        asked = {**who, "requested_model": request.model.group or "other", "model_id": number}
        served = {**asked, "model": request.model.name or _NONE, "api_provider": request.model.provider or _NONE}
        failed = request.status == FAILURE
        status = {"status_code": "500" if failed else "200"}
        self._count("litellm_proxy_total_requests_metric", asked | status, 1, now)
        if failed:
            self._count("litellm_proxy_failed_requests_metric", asked | {"exception_class": request.error}, 1, now)
        for stem, amount in (
            ("spend", request.cost),
            ("total_tokens", request.prompt + request.completion),
            ("input_tokens", request.prompt),
            ("output_tokens", request.completion),
            ("output_reasoning_tokens", request.reasoning),
            ("input_cached_tokens", request.cache_read),
            ("cache_hits", int(request.cache_hit == "True")),
            ("cache_misses", int(request.cache_hit == "False")),
        ):
            if amount:
                self._count(f"litellm_{stem}_metric", served, amount, now)

    def _count(self, family: str, labels: Mapping[str, str], amount: int, now: float) -> None:
        key = tuple(labels.items())
        self._counts[family][key] += amount
        self._created.setdefault((family, key), now)

    def text(self) -> str:
        """The page, in the text format."""
        with self._lock:
            lines = ["# TYPE litellm_in_flight_requests gauge", "litellm_in_flight_requests 1.0"]
            for family, counts in self._counts.items():
                unit = PICO if family == "litellm_spend_metric" else 1
                lines.append(f"# TYPE {family}_total counter")
                lines += [f"{_series(f'{family}_total', labels)} {value / unit!r}" for labels, value in counts.items()]
                lines.append(f"# TYPE {family}_created gauge")
                lines += [
                    f"{_series(f'{family}_created', labels)} {self._created[family, labels]!r}" for labels in counts
                ]
        return "".join(f"{line}\n" for line in lines)


def _series(name: str, labels: _Labels) -> str:
    return series_of(name, dict(labels)).decode()


class PageServer:
    """Serves a page as /metrics/ on 127.0.0.1. A context manager."""

    def __init__(self, page: GatewayPage, port: int = 0) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(page))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/metrics/"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> PageServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _handler(page: GatewayPage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page.text().encode() if self.path.startswith("/metrics") else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the log belongs to the demo."""

    return Handler
