"""/metrics at 100,000 series against prometheus_client.make_asgi_app, both under uvicorn and the same load.

Each side is a process of its own that serves the same series; wrk, or a plain asyncio client where it is missing,
asks over two connections for a few seconds, in turns. Plain is Accept-Encoding: identity.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack

from benchmarks import support

from tallykeep.runtime.processes import ManagedProcess, free_port

FAMILIES = 10
CONNECTIONS = 2
SECONDS = {"ours": 2, "peer": 6}  # the peer needs a second and more for one page: shorter runs would count too few


def main() -> None:
    parser = support.parser(__doc__)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--serve", choices=["ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.port, arguments.series)
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    report = support.Report(f"/metrics at {arguments.series:,} series, requests a second")
    with ExitStack() as stack:
        urls = {side: stack.enter_context(Server(side, arguments.series)).url for side in ("ours", "peer")}
        assert_same_series(urls)
        for encoding, goal in (("identity", 300.0), ("gzip", 2000.0)):
            rates: dict[str, list[float]] = {"ours": [], "peer": []}
            for _ in range(arguments.rounds):
                for side, url in urls.items():
                    rates[side].append(load(url, encoding, SECONDS[side]))
            name = "plain" if encoding == "identity" else encoding
            report.compare(
                name, rates["ours"], rates["peer"], against="make_asgi_app", unit="/s", goal=goal, more_is_better=True
            )
    report.finish(arguments)


class Server(ManagedProcess):
    """One side, in a process of its own."""

    def __init__(self, side: str, series: int) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/metrics"
        what = ["--serve", side, "--port", str(port), "--series", str(series)]
        super().__init__([sys.executable, "-m", "benchmarks.metrics_page", *what])

    def __enter__(self) -> Server:
        self.start()
        self.wait_ready(lambda: bool(fetch(self.url)), 30)
        return self


def serve(side: str, port: int, series: int) -> None:
    if side == "ours":
        asyncio.run(serve_ours(port, series))
    else:
        serve_peer(port, series)


def labels_of(number: int) -> tuple[str, str, str]:
    return f"model-{number % 37}", f"user-{number}", f"team-{number % 100}"


async def serve_ours(port: int, series: int) -> None:
    from tallykeep.clock import SystemClock
    from tallykeep.metrics import Book, Catalogue, Family, Kind, Snapshot
    from tallykeep.runtime.board import Board
    from tallykeep.runtime.health import Health
    from tallykeep.units import COUNT
    from tallykeep.web.app import MetricsApp
    from tallykeep.web.listener import Listener

    labels = ("model", "user", "team")
    families = [Family(f"spend_{n}", Kind.GAUGE, COUNT, labels, "Spend.") for n in range(FAMILIES)]
    samples = [
        family(number / 8, **dict(zip(labels, labels_of(number), strict=True)))
        for family in families
        for number in range(series // FAMILIES)
    ]
    book, clock = Book(), SystemClock()
    board = Board(Catalogue(families), book, clock)
    board.publish(Snapshot("benchmark", "", tuple(samples), clock.time()))
    await Listener(MetricsApp(board, book, clock, Health()), "127.0.0.1", port, setting="--port").start()
    await asyncio.Event().wait()


def serve_peer(port: int, series: int) -> None:
    import uvicorn
    from prometheus_client import CollectorRegistry, Gauge, make_asgi_app

    registry = CollectorRegistry()
    for n in range(FAMILIES):
        gauge = Gauge(f"spend_{n}", "Spend.", ["model", "user", "team"], registry=registry)
        for number in range(series // FAMILIES):
            gauge.labels(*labels_of(number)).set(number / 8)
    app = make_asgi_app(registry)
    uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False, lifespan="off", http="h11")


def fetch(url: str, encoding: str = "identity") -> bytes:
    return subprocess.run(
        ["curl", "-sf", "-H", f"Accept-Encoding: {encoding}", url], capture_output=True, check=False
    ).stdout


def assert_same_series(urls: dict[str, str]) -> None:
    ours, theirs = (sorted(fetch(url).splitlines()) for url in urls.values())
    assert ours == theirs, "the two sides serve different pages"


def load(url: str, encoding: str, seconds: int) -> float:
    """Requests a second."""
    if shutil.which("wrk"):
        return load_with_wrk(url, encoding, seconds)
    return asyncio.run(load_with_asyncio(url, encoding, seconds))


def load_with_wrk(url: str, encoding: str, seconds: int) -> float:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s"]
    asked = [*command, "-H", f"Accept-Encoding: {encoding}", url]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found, said
    assert "Non-2xx" not in said, said
    return float(found[1])


async def load_with_asyncio(url: str, encoding: str, seconds: int) -> float:
    port = int(url.split(":")[2].split("/")[0])
    request = f"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {encoding}\r\n\r\n".encode()
    start = time.monotonic()
    counts = await asyncio.gather(*(_ask(port, request, start + seconds) for _ in range(CONNECTIONS)))
    return sum(counts) / (time.monotonic() - start)


async def _ask(port: int, request: bytes, until: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    answered = 0
    while time.monotonic() < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        assert length, head
        left = int(length[1])
        while left:
            left -= len(await reader.read(min(left, 1 << 20)))
        answered += 1
    writer.close()
    return answered


if __name__ == "__main__":
    main()
