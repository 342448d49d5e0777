"""What a sidecar costs: start to the first answered /metrics, and resident memory once it only waits.

Ours is `tallykeep run litestream` on a folder replica, and on an S3 replica where the server can be had. The peer
is the least a Python exporter can be: prometheus_client's start_http_server with its default collectors, watching
nothing.

python -m benchmarks.idle [--rounds 3] [--settle 5] [--json]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.support import Report, parser

from tallykeep.runtime.processes import free_port

FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures" / "litestream"
SCRAPES = 5  # before memory is read: a page that was never asked for is not idle, it is unborn

PEER = """
import sys, threading
from prometheus_client import start_http_server
start_http_server(int(sys.argv[1]))
threading.Event().wait()
"""


@dataclass
class Costs:
    """Measurements of one program."""

    start: list[float] = field(default_factory=list)  # seconds to the first answered scrape
    resident: list[float] = field(default_factory=list)  # MiB after some scrapes and a pause
    highest: list[float] = field(default_factory=list)  # MiB, the peak until then


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--settle", type=float, default=5, help="seconds of idleness before memory is read")
    arguments = options.parse_args()
    report = Report("Idle sidecar: `tallykeep run litestream`")
    with TemporaryDirectory() as folder, replicas(Path(folder)) as environments:
        peer = measured([sys.executable, "-c", PEER], {}, arguments.rounds, arguments.settle, port_in_argv=True)
        program = [sys.executable, "-m", "tallykeep", "run", "litestream"]
        for what, variables in environments.items():
            ours = measured(program, variables, arguments.rounds, arguments.settle)
            against = "prometheus_client, watching nothing"
            report.compare(f"start to first /metrics, {what}", ours.start, peer.start, against=against)
            report.figure(f"start to first /metrics, {what}", ours.start, unit="s", at_most=0.5)
            report.compare(f"idle resident memory, {what}", ours.resident, peer.resident, against=against, unit="MiB")
            report.figure(f"idle resident memory, {what}", ours.resident, unit="MiB", at_most=60)
            report.figure(f"peak resident memory, {what}", ours.highest, unit="MiB")
    report.finish(arguments)


@contextmanager
def replicas(folder: Path) -> Iterator[Mapping[str, Mapping[str, str]]]:
    """Environments of a sidecar: one that watches folders, one that watches S3 where a server can be had."""
    local = folder / ".omni.db-litestream" / "ltx"
    shutil.copytree(FIXTURES / "remote" / "healthy" / "0000", local / "0")
    config = folder / "tallykeep.yaml"
    replica = FIXTURES / "remote" / "healthy"
    config.write_text(f"litestream:\n  targets:\n    - {{name: omni, local: {local}, replica: {replica}}}\n")
    base = {"TALLYKEEP_STATE_DIR": str(folder / "state")}
    folders = {"folder replica": {**base, "TALLYKEEP_CONFIG": str(config)}}
    from tallykeep.demo.seaweedfs import SeaweedFS
    from tallykeep.errors import TallykeepError

    try:
        server = SeaweedFS(folder / "s3")
        server.start()
    except TallykeepError as error:
        print(f"without S3: {error}", file=sys.stderr)
        yield folders
        return
    try:
        server.create_bucket("idle")
        s3 = {
            "LOCAL_LTX_DIR": str(local),
            "S3_BUCKET": "idle",
            "S3_PREFIX": "omni",
            "S3_ENDPOINT_URL": server.endpoint,
            "LITESTREAM_ACCESS_KEY_ID": server.access_key,
            "LITESTREAM_SECRET_ACCESS_KEY": server.secret_key,
        }
        yield {**folders, "S3 replica": {**base, **s3}}
    finally:
        server.stop()


def measured(
    argv: Sequence[str], variables: Mapping[str, str], rounds: int, settle: float, *, port_in_argv: bool = False
) -> Costs:
    """Costs of one program over `rounds` starts, after one that only warms the disk cache."""
    costs = Costs()
    for number in range(rounds + 1):
        port = free_port()
        environment = {"PATH": os.environ["PATH"], "METRICS_PORT": str(port), **variables}
        began = time.perf_counter()
        command = [*argv, str(port)] if port_in_argv else list(argv)
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                wait_answered(process, port)
                answered = time.perf_counter() - began
                for _ in range(SCRAPES if number else 0):
                    time.sleep(settle / SCRAPES)
                    scrape(port)
                if number:
                    costs.start.append(answered)
                    costs.resident.append(memory(process.pid, "VmRSS"))
                    costs.highest.append(memory(process.pid, "VmHWM"))
            finally:
                process.terminate()
                process.wait(10)
    return costs


def wait_answered(process: subprocess.Popen[bytes], port: int) -> None:
    """Return with the first answered scrape. Raises: RuntimeError where the program ends before it."""
    while process.poll() is None:
        try:
            scrape(port)
            return
        except OSError:
            time.sleep(0.005)
    raise RuntimeError(f"a program ended with status {process.returncode} before it answered")


def scrape(port: int) -> None:
    """Read the page once."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        reply.read()


def memory(pid: int, field: str) -> float:
    """A field of /proc/PID/status, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) / 1024
    raise RuntimeError(f"/proc/{pid}/status has no {field}")


if __name__ == "__main__":
    main()
