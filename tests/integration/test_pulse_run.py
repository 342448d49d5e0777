"""`tallykeep run` with pulse as a process of its own: two listeners, kill -9, and the command line beside it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.metrics_page_server import MetricsPage, litellm

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds
PROGRAM = (sys.executable, "-m", "tallykeep")


class Running:
    """One `tallykeep run`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline and self.process.poll() is None, self.log
            time.sleep(0.05)

    def url(self, what: str) -> str:
        self.until(lambda: re.search(rf"{what} (http://\S+/)", self.log))
        return str(re.findall(rf"{what} (http://\S+/)", self.log)[-1])

    @property
    def api(self) -> str:
        return self.url("the API is at")

    def told(self, path: str = "api/v1/metrics") -> Any:
        with urllib.request.urlopen(self.api + path, timeout=PATIENCE) as reply:
            return json.loads(reply.read())


def environment(folder: Path, **variables: str) -> dict[str, str]:
    fixed = {"PATH": os.environ["PATH"], "METRICS_PORT": "0", "TALLYKEEP_METRICS_HOST": "127.0.0.1"}
    return fixed | {"TALLYKEEP_STATE_DIR": str(folder / "state"), **variables}


@contextmanager
def running(folder: Path, variables: Mapping[str, str], *argv: str) -> Iterator[Running]:
    log = folder / f"log-{time.monotonic_ns()}"
    with (
        log.open("wb") as file,
        subprocess.Popen(
            (*PROGRAM, "run", *argv), env=environment(folder, **variables), cwd=folder, stdout=file, stderr=file
        ) as process,
    ):
        try:
            yield Running(process, log)
        finally:
            process.kill()


@pytest.fixture
def page() -> Iterator[MetricsPage]:
    with MetricsPage() as server:
        yield server


def pulse(page: MetricsPage, **more: str) -> dict[str, str]:
    found = {
        "LITELLM_PULSE_METRICS_URL": page.url, "LITELLM_PULSE_SCRAPE_INTERVAL": "0.2", "LITELLM_PULSE_PORT": "0",
        "LITELLM_PULSE_HOST": "127.0.0.1",
    }  # fmt: skip
    return found | more


def test_both_listeners_tell_the_same(tmp_path: Path, page: MetricsPage) -> None:
    """The API and /metrics tell the same figures; SIGTERM ends both with status 0."""
    page.shows(litellm(100, cost=1.0))
    with running(tmp_path, pulse(page)) as program:
        program.until(lambda: program.told()["last_scrape"])
        page.shows(litellm(107, cost=1.5))
        program.until(lambda: program.told()["requests_daily"] == 7)
        metrics = program.url("metrics are at").removesuffix("metrics")

        def shown() -> bool:
            with urllib.request.urlopen(f"{metrics}metrics", timeout=PATIENCE) as reply:
                return b'tallykeep_pulse_lifetime_total{name="requests"} 7.0' in reply.read()

        program.until(shown)
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(PATIENCE) == 0
        assert "defect" not in program.log and "Traceback" not in program.log


def test_kill_9_loses_nothing_that_was_told(tmp_path: Path, page: MetricsPage) -> None:
    """Killed while it scrapes five times a second, again and again: what was done since the first scrape is counted."""
    requests = 100
    page.shows(litellm(requests, created=1.6e9))
    for round in range(3):
        with running(tmp_path, pulse(page)) as program:
            program.until(lambda: program.told("api/v1/history")["count"])
            for _ in range(3):
                requests += 5
                page.shows(litellm(requests, created=1.6e9))
                time.sleep(0.25)
            program.until(partial(shows, program, requests))
            assert program.told()["requests_lifetime"] == requests - 100, round
            program.process.kill()
            program.process.wait(PATIENCE)


def shows(program: Running, requests: int) -> bool:
    return bool(program.told()["requests"] == requests)


def test_show_asks_the_api_and_then_the_file(tmp_path: Path, page: MetricsPage) -> None:
    """`pulse show` tells the same from the running API and, once it is gone, from the history file."""
    page.shows(litellm(100, cost=1.0))
    with running(tmp_path, pulse(page, LITELLM_PULSE_API_TOKEN="s3cret")) as program:
        api = program.api
        page.shows(litellm(100, cost=1.0))
        program.until(lambda: len(page.asked) > 2)
        page.shows(litellm(107, cost=1.5))
        seen = len(page.asked)
        program.until(lambda: len(page.asked) > seen + 2)
        asked = show(tmp_path, "--json", "--url", api, LITELLM_PULSE_API_TOKEN="s3cret")
        told = json.loads(asked.stdout)
        assert (asked.returncode, told["requests_daily"], told["cost_daily"]) == (0, 7, 0.5)
        refused = show(tmp_path, "--url", api)
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "LITELLM_PULSE_API_TOKEN" in refused.stderr
        program.process.terminate()
        program.process.wait(PATIENCE)
    with socket.socket() as held:  # nobody listens at its port, and nobody else can
        held.bind(("127.0.0.1", 0))
        closed = {"LITELLM_PULSE_PORT": str(held.getsockname()[1]), "LITELLM_PULSE_HOST": "127.0.0.1"}
        from_file = json.loads(show(tmp_path, "--json", **closed).stdout)
        text = show(tmp_path, **closed).stdout
    names = [name for name in told if name not in ("last_scrape", "source") and "pct" not in name]
    assert {name: from_file[name] for name in names} == {name: told[name] for name in names}
    assert re.search(r"requests +7 +7 +7 +7\n", text)
    assert re.search(r"cost +\$0\.5000", text)


def test_show_with_nothing_to_show(tmp_path: Path) -> None:
    """Neither API nor file is status 3; a bad address is wrong usage."""
    nowhere = {"LITELLM_PULSE_PORT": "9", "LITELLM_PULSE_HOST": "127.0.0.1"}
    done = show(tmp_path, **nowhere)
    assert (done.returncode, done.stdout) == (3, "")
    assert "no history file" in done.stderr
    assert show(tmp_path, "--url", "localhost:8000").returncode == 2


def show(folder: Path, *argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What `tallykeep pulse show` does."""
    words = [*PROGRAM, "pulse", "show", *argv]
    return subprocess.run(
        words, env=environment(folder, **variables), cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def test_kept_families_without_pulse(tmp_path: Path) -> None:
    """Families of any system are kept by a list, and read from the API on TALLYKEEP_WEB_PORT, without pulse."""
    (tmp_path / "ltx" / "0").mkdir(parents=True)
    config = tmp_path / "tallykeep.yaml"
    config.write_text("history: {keep: [tallykeep_collector_up], interval: 1s}\n")
    variables = {"LOCAL_LTX_DIR": str(tmp_path / "ltx"), "TALLYKEEP_WEB_PORT": "0", "TALLYKEEP_WEB_HOST": "127.0.0.1"}
    with running(tmp_path, variables, "--config", str(config)) as program:
        path = "api/v1/series?name=tallykeep_collector_up&by=collector&from=1h&step=1m"
        program.until(lambda: program.told(path)["series"])
        (line,) = program.told(path)["series"]
        assert line["labels"] == {"collector": "litestream_local"}
        assert 1 in line["values"]
        assert list(program.told("openapi.json")["paths"]) == ["/api/v1/series"]


def test_unknown_family_to_keep(tmp_path: Path, page: MetricsPage) -> None:
    """A family that there is not ends the start with status 2 and its name."""
    config = tmp_path / "tallykeep.yaml"
    config.write_text("history: {keep: [no_such_family]}\n")
    with running(tmp_path, pulse(page), "--config", str(config)) as program:
        assert program.process.wait(PATIENCE) == 2
        assert "no_such_family" in program.log


def test_port_in_use_names_its_setting(tmp_path: Path, page: MetricsPage) -> None:
    """A port that is taken ends the start with status 2, naming the variable to change."""
    with running(tmp_path, pulse(page, LITELLM_PULSE_PORT=str(page.port))) as program:
        assert program.process.wait(PATIENCE) == 2
        assert "LITELLM_PULSE_PORT" in program.log
