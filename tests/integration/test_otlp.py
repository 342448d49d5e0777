"""Telemetry as it arrives: real exporters, real programs, and receivers made of opentelemetry-proto's own services."""

from __future__ import annotations

import csv
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from tests.support.otlp import Received, attributes, certificates, points, receiving

from tallykeep.cli.metrics import groups
from tallykeep.clock import SystemClock
from tallykeep.config.load import load
from tallykeep.errors import ConfigError
from tallykeep.exposition.otlp import otlp_name
from tallykeep.metrics import Book, Catalogue, Family, Kind, Sample, Snapshot
from tallykeep.runtime import tracing
from tallykeep.runtime.board import Board
from tallykeep.runtime.threads import in_thread
from tallykeep.systems import all_systems
from tallykeep.systems.postgres.families import PUBLISHED
from tallykeep.telemetry import families as f
from tallykeep.telemetry import sender, traces
from tallykeep.telemetry.destination import check
from tallykeep.telemetry.settings import TelemetrySettings
from tallykeep.telemetry.work import Telemetry, start_telemetry
from tallykeep.units import BYTES

PATIENCE = 60.0  # seconds
GRPC, HTTP = "grpc", "http/protobuf"
DATA = Path(__file__).parents[1] / "contract" / "data" / "metrics.tsv"
with DATA.open(newline="") as file:
    ROWS = {row["name"]: row for row in csv.DictReader(file, delimiter="\t") if row["system"] == "postgres"}
WIDE = Family("wide_size_bytes", Kind.GAUGE, BYTES, ("bucket", "name"), "Very many.")
KLIO = tracing.tracer("klio.backup")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent in the end may take its time. (The programs below have the time that they have.)"""
    for module in (sender, traces):
        monkeypatch.setattr(module, "LAST_WORDS", PATIENCE)


class World:
    """A Board with a Book, and telemetry as a set of variables has it. Use it as an async context manager."""

    def __init__(self, **variables: str) -> None:
        self.settings: TelemetrySettings = load({"telemetry": TelemetrySettings}, variables).section("telemetry")
        self.clock, self.book = SystemClock(), Book()
        self.board = Board(Catalogue((*PUBLISHED, *f.FAMILIES, WIDE)), self.book, self.clock)
        self.telemetry = Telemetry()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> World:
        self.telemetry = await start_telemetry(self._stack, self.settings, self.board, self.book, self.clock)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def publish(self, *samples: Sample) -> None:
        self.board.publish(Snapshot("test", "", samples, self.clock.time()))

    def counted(self, family: Family, signal: str, result: str) -> float:
        values = {sample.labels: sample.value for sample in self.book.read() if sample.family is family}
        value = values[signal, result]
        assert isinstance(value, float)
        return value


def klio_samples() -> list[Sample]:
    """One sample of each published family."""
    return [family(7.0, **{label: f"a {label}" for label in family.labels}) for family in PUBLISHED]


def sending(protocol: str, received: Received, **more: str) -> dict[str, str]:
    """The variables that send both signals to a receiver."""
    return {
        "OTEL_SERVICE_NAME": "test",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": received.url,
        **more,
    }


def check_contract(received: Received) -> None:
    """Every klio family has arrived with its name, type, unit, attributes and value, under the meter klio."""
    found = {metric.name: (scope, metric) for scope, metric in received.scoped()}
    for name, row in ROWS.items():
        scope, metric = found[name]
        assert (scope, metric.unit) == ("klio", row["unit"])
        assert metric.WhichOneof("data") == ("sum" if row["type"] == "counter" else "gauge")
        [point] = points(metric)
        assert list(attributes(point)) == [label for label in row["labels"].split(",") if label]
        assert point.as_double == 7.0 or name.endswith("_age")
        if row["type"] == "counter":
            assert metric.sum.is_monotonic and metric.sum.aggregation_temporality == 2  # cumulative


# --- protocols


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
@pytest.mark.parametrize("way", ["plain", "gzip", "tls", "client certificates"])
async def test_everything_of_the_contract_arrives(protocol: str, way: str, tmp_path: Path) -> None:
    """Over both protocols, plain, compressed, over TLS and with client certificates: 25 families and the four spans."""
    files = certificates(tmp_path) if way in ("tls", "client certificates") else None
    with receiving(protocol, files, clients=way == "client certificates") as received:
        variables = sending(protocol, received)
        if way == "gzip":
            variables["OTEL_EXPORTER_OTLP_COMPRESSION"] = "gzip"
        if files is not None:
            variables["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(files.authority)
        if files is not None and way == "client certificates":
            variables["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] = str(files.client)
            variables["OTEL_EXPORTER_OTLP_CLIENT_KEY"] = str(files.client_key)
        async with World(**variables) as world:
            world.publish(*klio_samples())
            with KLIO.span("backup", {"backup.name": "b1"}):
                for child in ("backup_run", "backup_verify", "backup_maintenance"):
                    with KLIO.span(child):
                        pass
        check_contract(received)
        spans = {span.name: span for scope, span in received.spans() if scope == "klio.backup"}
        assert set(spans) == {"backup", "backup_run", "backup_verify", "backup_maintenance"}
        assert {span.parent_span_id for name, span in spans.items() if name != "backup"} == {spans["backup"].span_id}
        assert attributes(spans["backup"]) == {"backup.name": "b1"}
        assert received.resource()["service.name"] == "test"
        sizes = sum(request.ByteSize() for request in (*received.metrics, *received.traces))
        assert (received.wire < sizes) == (way == "gzip")


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
@pytest.mark.parametrize("missing", ["authority", "client certificate"])
async def test_a_receiver_that_cannot_be_trusted_gets_nothing(protocol: str, missing: str, tmp_path: Path) -> None:
    """Without the authority, or without the client certificate it asks for, nothing arrives, and that is counted."""
    files = certificates(tmp_path)
    with receiving(protocol, files, clients=True) as received:
        variables = sending(protocol, received, OTEL_TRACES_EXPORTER="none", OTEL_EXPORTER_OTLP_TIMEOUT="1500")
        if missing == "authority":
            variables["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] = str(files.client)
            variables["OTEL_EXPORTER_OTLP_CLIENT_KEY"] = str(files.client_key)
        else:
            variables["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(files.authority)
        async with World(**variables) as world:
            world.publish(*klio_samples())
        assert not received.metrics
        assert world.counted(f.EXPORTS, "metrics", "failure") == 1
        assert world.counted(f.EXPORTS, "metrics", "success") == 0


async def test_each_signal_may_have_its_own_receiver(tmp_path: Path) -> None:
    """Variables of a signal win over those of both: traces by gRPC with TLS, metrics by HTTP to a whole path."""
    files = certificates(tmp_path)
    with receiving(GRPC, files) as traces, receiving(HTTP) as metrics:
        variables = sending(HTTP, metrics, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9/nowhere")
        variables |= {
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{metrics.url}/v1/metrics",
            "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "x-tenant=a%20team",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": traces.url,
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": GRPC,
            "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": str(files.authority),
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip",
        }
        async with World(**variables) as world:
            world.publish(*klio_samples())
            with KLIO.span("backup"):
                pass
        check_contract(metrics)
        assert metrics.headers[-1]["x-tenant"] == "a team"
        assert [span.name for _, span in traces.spans()] == ["backup"]
        assert not traces.metrics and not metrics.traces


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
async def test_a_hundred_thousand_series_arrive(protocol: str) -> None:
    """None of 100,000 series of one family is lost, though a receiver takes no more than 4 MiB a message over gRPC."""
    with receiving(protocol) as received:
        more = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRIC_EXPORT_TIMEOUT": "150000"}
        async with World(**sending(protocol, received, **more)) as world:
            world.publish(*(WIDE(number, bucket="b" * 40, name=f"n-{number:060}") for number in range(100_000)))
            [service] = world.telemetry.services
            await service.send()  # type: ignore[attr-defined]
            seen = {point.as_double for _, metric in received.scoped() for point in points(metric)}
            assert len(seen) >= 100_000
            assert world.counted(f.ITEMS, "metrics", "success") >= 100_000
            assert max(request.ByteSize() for request in received.metrics) < 2 << 20
            world.publish()


# --- spans


async def test_spans_carry_errors_attributes_and_context() -> None:
    """A failure is recorded with status ERROR; threads and queue messages continue the trace of their sender."""
    with receiving(HTTP) as received:
        async with World(**sending(HTTP, received, OTEL_METRICS_EXPORTER="none")):
            with pytest.raises(OSError, match="disk full"), KLIO.span("backup") as span:
                span.set("backup.bytes", 7)
                carried = tracing.carrier()
                await in_thread(_in_a_span, "in_thread")
                raise OSError("disk full")
            with KLIO.span("upload", parent=carried):
                pass
            assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[13]", carried)
            assert tracing.carrier() == ""
        assert tracing.carrier() == ""
    spans = {span.name: span for _, span in received.spans()}
    assert spans["backup"].status.code == 2  # ERROR
    assert spans["backup"].status.message == "OSError: disk full"
    [event] = spans["backup"].events
    assert attributes(event)["exception.message"] == "disk full"
    assert attributes(spans["backup"])["backup.bytes"] == 7
    for name in ("in_thread", "upload"):
        assert spans[name].parent_span_id == spans["backup"].span_id
        assert spans[name].trace_id == spans["backup"].trace_id
    assert spans["upload"].status.code == 0


def _in_a_span(name: str) -> None:
    with KLIO.span(name):
        pass


# --- failures


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
async def test_a_receiver_that_refuses_is_told_once(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """What a receiver refuses is counted each time and logged once, with its reason; a recovery is logged, too."""
    caplog.set_level("INFO", "tallykeep")
    with receiving(protocol) as received:
        received.refuse = True
        async with World(**sending(protocol, received, OTEL_TRACES_EXPORTER="none")) as world:
            world.publish(*klio_samples())
            [service] = world.telemetry.services
            await service.send()  # type: ignore[attr-defined]
            await service.send()  # type: ignore[attr-defined]
            received.refuse = False
            await service.send()  # type: ignore[attr-defined]
        assert world.counted(f.EXPORTS, "metrics", "failure") == 2
        assert world.counted(f.EXPORTS, "metrics", "success") == 2
    said = [record.getMessage() for record in caplog.records if "reach" in record.getMessage()]
    assert len(said) == 2 and said[1].endswith("again")
    assert any(reason in said[0] for reason in ("not today", "403", "gave no reason"))  # gRPC's comes late under load


def test_what_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    """A missing certificate, half a pair, an address that is none: `config validate` finds each and names variables."""
    for more, said in (
        ({"OTEL_EXPORTER_OTLP_CERTIFICATE": str(tmp_path / "none")}, "none cannot be read: No such file"),
        ({"OTEL_EXPORTER_OTLP_CLIENT_KEY": str(tmp_path / "none")}, "certificate or its key is missing"),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "ftp://host"}, "'ftp://host' is not an address"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "nonsense"}, "headers are to be key=value"),
    ):
        world = World(**{"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "https://host", **more})
        with pytest.raises(ConfigError, match=re.escape(said)) as caught:
            check(world.settings)
        assert "OTEL_EXPORTER_OTLP_" in str(caught.value)


# --- the program


AS_INSTALLED = ("-m", "tallykeep", "run")
PATIENT = f"""
import sys
from tallykeep.cli import run
from tallykeep.cli.main import main
from tallykeep.telemetry import sender, traces
run.LAST_RESORT = sender.LAST_WORDS = traces.LAST_WORDS = {PATIENCE}
sys.exit(main(["run", *sys.argv[1:]]))
"""


@contextmanager
def program(
    folder: Path, variables: Mapping[str, str], *argv: str, how: Sequence[str] = AS_INSTALLED
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`tallykeep run` with its log; ended if it still runs."""
    environment = {
        "PATH": os.environ["PATH"],
        "METRICS_PORT": "0",
        "LITELLM_PULSE_PORT": "0",
        "TALLYKEEP_METRICS_HOST": "127.0.0.1",
        "LOCAL_LTX_DIR": str(folder),
        "TALLYKEEP_STATE_DIR": str(folder / "state"),
    }
    log, out = folder / "log", folder / "out"
    with log.open("wb") as errors, out.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *how, *argv],
            env={**environment, **variables}, cwd=folder, stdout=output, stderr=errors,
        )  # fmt: skip
        try:
            yield process, log
        finally:
            process.kill()
            process.wait()


def eventually(holds: Callable[[], Any], log: Path) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return found


def told(pattern: str, log: Path) -> str:
    """What a line of the log says at the group of the pattern."""
    match = eventually(lambda: re.search(pattern, log.read_text()), log)
    return str(match[1])


def names(page: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+) ", page, re.MULTILINE))


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE) as reply:
        return str(reply.read().decode())


NEEDED = {"postgres": {"TALLYKEEP_POSTGRES_URL": "postgresql://tallykeep@127.0.0.1:1/postgres"}}  # others have defaults


@pytest.mark.parametrize("system", [system.name for system in all_systems() if system.open])
def test_every_family_of_a_system_is_sent(system: str, tmp_path: Path) -> None:
    """`OTEL_METRICS_EXPORTER=otlp tallykeep run SYSTEM` sends every family that its page shows, over http/protobuf."""
    by_name = {family.name: family for group in groups().values() for family in group}
    with receiving(HTTP) as received:
        variables = {
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": received.url,
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
        } | NEEDED.get(system, {})
        with program(tmp_path, variables, system) as (process, log):
            url = ready(log)
            shown = names(get(url))
            expected = {otlp_name(by_name[name]) for name in shown}
            eventually(lambda: expected <= set(received.found()), log)
            process.terminate()
            assert process.wait(PATIENCE) == 0
            assert "OTEL_SERVICE_NAME is not set" in log.read_text()
    assert any(family.otel == "process.memory.usage" for name, family in by_name.items() if name in shown)
    assert received.resource()["service.name"] == "tallykeep"


def ready(log: Path) -> str:
    """The address of /metrics, once the program is ready."""
    url = told(r"metrics are at (\S+)", log)
    eventually(lambda: _ready(url.replace("/metrics", "/readyz")), log)
    return url


def _ready(url: str) -> bool:
    try:
        return get(url) == "ready\n"
    except HTTPError as error:
        error.close()
        return False


def test_the_last_figures_are_sent_at_the_end(tmp_path: Path) -> None:
    """A program that ends before its first interval is over sends its figures and spans all the same."""
    with receiving(GRPC) as received:
        variables = sending(GRPC, received, OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="2000", POD_NAME="pod-1")
        with program(tmp_path, variables, "litestream", how=("-c", PATIENT)) as (process, log):
            ready(log)
            process.terminate()
            assert process.wait(PATIENCE) == 0
    assert "tallykeep_build_info" in received.found()
    assert received.resource()["k8s.pod.name"] == "pod-1"


def test_a_dead_receiver_delays_neither_start_nor_end(tmp_path: Path) -> None:
    """With nothing at the endpoint the page is served, the log says it once, and SIGTERM ends with status 0."""
    variables = {
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_METRIC_EXPORT_INTERVAL": "300",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "500",
    }
    with program(tmp_path, variables, "litestream") as (process, log):
        url = told(r"metrics are at (\S+)", log)
        assert "tallykeep_build_info" in get(url)
        failures = re.compile(r'exports_total\{result="failure",signal="metrics"\} ([2-9]|\d\d)')
        eventually(lambda: failures.search(get(url)), log)
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert log.read_text().count("metrics do not reach http://127.0.0.1:9/v1/metrics") == 1
        assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
def test_a_frozen_receiver_delays_the_end_by_seconds(protocol: str, tmp_path: Path) -> None:
    """A receiver that accepts and never answers: SIGTERM still ends with status 0; the log says what was not sent."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        variables = {
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{frozen.getsockname()[1]}",
            "OTEL_METRIC_EXPORT_INTERVAL": "300",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "60000",
        }
        with program(tmp_path, variables, "litestream") as (process, log):
            url = ready(log)
            time.sleep(0.5)  # for an export to hang
            assert "tallykeep_build_info" in get(url)
            process.terminate()
            assert process.wait(PATIENCE) == 0
            assert "the last metrics were not sent" in log.read_text()
            assert "stopping took more than" not in log.read_text()


def test_prometheus_has_a_page_of_its_own(tmp_path: Path) -> None:
    """OTEL_METRICS_EXPORTER=prometheus: the page of /metrics at the host and port of the exporter's variables."""
    variables = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
    with program(tmp_path, variables, "litestream") as (_, log):
        url = told(r"Prometheus exporter is at (\S+)", log)
        assert url.startswith("http://localhost:")
        own = told(r"metrics are at (\S+)", log)
        eventually(lambda: "process_memory_usage_bytes" in get(url), log)
        eventually(lambda: names(get(url)) == names(get(own)), log)


def test_console_prints_metrics_and_spans(tmp_path: Path) -> None:
    """The exporter `console` prints what would be sent, as JSON, on standard output."""
    variables = {"OTEL_METRICS_EXPORTER": "console", "OTEL_TRACES_EXPORTER": "console"}
    with program(tmp_path, variables, "litestream", how=("-c", PATIENT)) as (process, log):
        told(r"metrics are at (\S+)", log)
        process.terminate()
        assert process.wait(PATIENCE) == 0
    printed = (tmp_path / "out").read_text()
    first, _ = json.JSONDecoder().raw_decode(printed[printed.index("{") :])
    assert first
    assert '"name": "tallykeep_build_info"' in printed


@pytest.mark.parametrize("off", [{}, {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}])
def test_without_an_exporter_nothing_is_imported_or_sent(off: dict[str, str], tmp_path: Path) -> None:
    """No variable, or `none`: nothing of OpenTelemetry, gRPC or psutil is loaded, and no figure tells of it."""
    script = """
import asyncio, os, sys
from contextlib import AsyncExitStack
from tallykeep.cli import run, sections
from tallykeep.clock import SystemClock
from tallykeep.metrics import Book, Catalogue
from tallykeep.runtime import tracing
from tallykeep.runtime.board import Board
from tallykeep.telemetry.work import start_telemetry

async def main():
    book = Book()
    async with AsyncExitStack() as stack:
        settings = sections.load_config(None).section(sections.TELEMETRY)
        started = await start_telemetry(stack, settings, Board(Catalogue([]), book, SystemClock()), book, SystemClock())
        assert not started.services and not started.collectors
        with tracing.tracer("klio.backup").span("backup", {"backup.name": "b"}) as span:
            span.set("a", 1)
            assert tracing.carrier() == ""
    assert not book.read()
    heavy = [name for name in sys.modules if name.partition(".")[0] in ("opentelemetry", "grpc", "psutil", "google")]
    assert not heavy, heavy

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PATH": os.environ["PATH"], **off}, cwd=tmp_path, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


BARE = """
import sys
sys.modules |= {"opentelemetry": None, "grpc": None, "psutil": None, "requests": None}
from tallykeep.cli.main import main
sys.exit(main(["run", "litestream"]))
"""


def test_without_the_extra_the_start_says_what_to_install(tmp_path: Path) -> None:
    """Where OpenTelemetry is not installed a named exporter ends the start with status 2 and the pip command."""
    environment = {"PATH": os.environ["PATH"], "LOCAL_LTX_DIR": str(tmp_path), "METRICS_PORT": "0"}
    for name in ("OTEL_METRICS_EXPORTER", "OTEL_TRACES_EXPORTER"):
        done = subprocess.run(
            [sys.executable, "-c", BARE], env={**environment, name: "otlp"}, cwd=tmp_path, capture_output=True,
            text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 2
        assert "pip install 'tallykeep[telemetry]'" in done.stderr


def test_without_the_extra_prometheus_works(tmp_path: Path) -> None:
    """The Prometheus listener needs nothing of OpenTelemetry; without psutil the host's figures are left out."""
    environment = {
        "PATH": os.environ["PATH"], "LOCAL_LTX_DIR": str(tmp_path), "METRICS_PORT": "0",
        "OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
    }  # fmt: skip
    log = tmp_path / "log"
    with (
        log.open("wb") as file,
        subprocess.Popen([sys.executable, "-c", BARE], env=environment, cwd=tmp_path, stderr=file) as process,
    ):
        try:
            page = get(told(r"Prometheus exporter is at (\S+)", log))
            assert "tallykeep_build_info" in page and "process_memory_usage_bytes" not in page
            assert "psutil is not installed" in log.read_text()
        finally:
            process.terminate()
