"""What pulse costs while it waits: start to the first answered /metrics, and resident memory between two scrapes.

`tallykeep run pulse` with both listeners up, scraping the recorded page of a real LiteLLM proxy every second (far more
often than anybody would), history in a file. /metrics is asked five times before memory is read.

python -m benchmarks.pulse_idle [--rounds 3] [--settle 5] [--json]
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.idle import measured
from benchmarks.support import Report, parser

PAGE = (Path(__file__).parents[1] / "tests/fixtures/litellm/metrics_page.txt").read_bytes()


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--settle", type=float, default=5, help="seconds of idleness before memory is read")
    arguments = options.parse_args()
    report = Report("Idle pulse: `tallykeep run pulse`")
    with TemporaryDirectory() as folder, gateway() as url:
        variables = {
            "LITELLM_PULSE_METRICS_URL": url,
            "LITELLM_PULSE_SCRAPE_INTERVAL": "1",
            "LITELLM_PULSE_PORT": "0",
            "LITELLM_PULSE_HOST": "127.0.0.1",
            "TALLYKEEP_STATE_DIR": folder,
        }
        program = [sys.executable, "-m", "tallykeep", "run", "pulse"]
        ours = measured(program, variables, arguments.rounds, arguments.settle)
    report.figure("start to first /metrics", ours.start, unit="s")
    report.figure("idle resident memory", ours.resident, unit="MiB", at_most=80)
    report.figure("peak resident memory", ours.highest, unit="MiB")
    report.finish(arguments)


@contextmanager
def gateway() -> Iterator[str]:
    """The recorded page, served."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(PAGE)))
            self.end_headers()
            self.wfile.write(PAGE)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/metrics/"
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main()
