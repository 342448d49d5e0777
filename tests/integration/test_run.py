from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

import pytest
from tests.support.toy import PROGRAM

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds; far beyond what anything here takes, for a machine under load


class Running:
    """A `tallykeep run` of its own, logging into a file."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        self.url = ""

    @property
    def log(self) -> str:
        return self._log.read_text()

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def listening(self) -> None:
        def found() -> bool:
            match = re.search(r"metrics are at (http://\S+/)metrics", self.log)
            self.url = match[1] if match else ""
            return bool(match) or self.process.poll() is not None

        self.until(found)
        assert self.url, self.log

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as reply:
            return str(reply.read().decode())

    def shows(self, line: str) -> bool:
        return line in self.get("metrics").splitlines()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def running(folder: Path, variables: Mapping[str, str], *argv: str) -> Iterator[Running]:
    environment = {"PATH": os.environ["PATH"], "METRICS_PORT": "0", "TALLYKEEP_METRICS_HOST": "127.0.0.1"}
    environment |= {"TALLYKEEP_STATE_DIR": str(folder / "state"), **variables}
    log = folder / "log"
    with (
        log.open("ab") as file,
        subprocess.Popen((*PROGRAM, "run", *argv), env=environment, cwd=ROOT, stdout=file, stderr=file) as process,
    ):
        try:
            yield Running(process, log)
        finally:
            process.kill()


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    """A file that says good."""
    file = tmp_path / "watched"
    file.write_text("good")
    return file


def test_serves_until_sigterm(tmp_path: Path, watched: Path) -> None:
    """Figures, self families and readiness are served; SIGTERM ends it with status 0 and lets the state go."""
    with running(tmp_path, {"TOY_FILE": str(watched)}) as program:
        program.listening()
        program.until(lambda: program.shows('toy_verdict{target="file",toy_verdict="good"} 1.0'))
        assert program.shows('toy_size_bytes{target="file"} 4.0')
        program.until(lambda: program.shows('tallykeep_collector_up{collector="toy",target="file"} 1.0'))
        assert program.shows("tallykeep_state_persistent 1.0")
        assert program.get("readyz") == "ready\n"
        assert program.stop() == 0
    assert (tmp_path / "state" / "opened").read_bytes() == b"1"


def test_named_system_runs_without_settings(tmp_path: Path) -> None:
    """`run toy` takes the defaults; a source that fails is an unknown verdict and no reason to be unready."""
    with running(tmp_path, {}, "toy") as program:
        program.listening()
        program.until(lambda: program.shows('tallykeep_collector_up{collector="toy",target="file"} 0.0'))
        assert program.shows('toy_verdict{target="file",toy_verdict="unknown"} 1.0')
        assert program.get("readyz") == "ready\n"
        assert "missing cannot be read: No such file" in program.log


def test_hang_while_good_turns_unknown(tmp_path: Path, watched: Path) -> None:
    """A collector that begins to hang in a thread: its verdict turns unknown, timeouts are counted, figures are
    withdrawn, the page goes on, and SIGTERM still ends the program with status 0, without being forced.
    """
    variables = {"TOY_FILE": str(watched), "TOY_INTERVAL": "0.2", "TOY_TIMEOUT": "0.3"}
    with running(tmp_path, variables) as program:
        program.listening()
        program.until(lambda: program.shows('toy_verdict{target="file",toy_verdict="good"} 1.0'))
        watched.write_text("hang")

        def hangs() -> bool:
            page = program.get("metrics")
            unknown = 'toy_verdict{target="file",toy_verdict="unknown"} 1.0\n' in page
            down = 'tallykeep_collector_up{collector="toy",target="file"} 0.0\n' in page
            return unknown and down and 'code="timeout"' in page and "toy_size_bytes{" not in page

        program.until(hangs)
        program.until(lambda: "an earlier collection still hangs" in program.log)
        assert hangs()
        assert program.stop() == 0
        assert "stopping took more than" not in program.log
        assert "did not stop" not in program.log


def test_readiness_waits_for_the_first_attempt(tmp_path: Path, watched: Path) -> None:
    """While the first collection hangs /readyz says what it waits for; its timeout is an attempt, too."""
    watched.write_text("hang")
    with running(tmp_path, {"TOY_FILE": str(watched), "TOY_TIMEOUT": "0.3"}) as program:
        program.listening()
        try:
            program.get("readyz")
        except HTTPError as error:
            assert error.code == 503
            assert "first look of toy at file" in error.read().decode()
            error.close()
        program.until(lambda: program.shows('tallykeep_collector_up{collector="toy",target="file"} 0.0'))
        assert program.get("readyz") == "ready\n"


def test_second_process_is_refused(tmp_path: Path, watched: Path) -> None:
    """A state that another process holds ends the start with status 2 and its pid, not with a state in memory."""
    with running(tmp_path, {"TOY_FILE": str(watched)}) as first:
        first.listening()
        (tmp_path / "second").mkdir()
        state = {"TOY_FILE": str(watched), "TALLYKEEP_STATE_DIR": str(tmp_path / "state")}
        with running(tmp_path / "second", state) as second:
            assert second.process.wait(PATIENCE) == 2
            assert f"in use by process {first.process.pid}" in second.log


def test_state_that_cannot_be_written_is_kept_in_memory(tmp_path: Path, watched: Path) -> None:
    """A watcher on a read-only file system runs, warns, and says so on the page."""
    variables = {"TOY_FILE": str(watched), "TALLYKEEP_STATE_DIR": "/proc/tallykeep"}
    with running(tmp_path, variables) as program:
        program.listening()
        assert program.shows("tallykeep_state_persistent 0.0")
        assert "warning: state in /proc/tallykeep cannot be used" in program.log
        assert program.stop(signal.SIGINT) == 0


def test_port_in_use_is_status_2(tmp_path: Path, watched: Path) -> None:
    """A port that cannot be had is told with the setting that changes it."""
    with running(tmp_path, {"TOY_FILE": str(watched)}) as first:
        first.listening()
        port = first.url.rstrip("/").rpartition(":")[2]
        (tmp_path / "second").mkdir()
        with running(tmp_path / "second", {"TOY_FILE": str(watched), "METRICS_PORT": port}) as second:
            assert second.process.wait(PATIENCE) == 2
            assert "METRICS_PORT" in second.log


def test_logs_as_json(tmp_path: Path, watched: Path) -> None:
    """With the JSON format every line of the log is an object."""
    with running(tmp_path, {"TOY_FILE": str(watched), "TALLYKEEP_LOG_FORMAT": "json"}) as program:
        program.until(lambda: "metrics are at" in program.log)
        assert program.stop() == 0
        assert all(line.startswith("{") and line.endswith("}") for line in program.log.splitlines())


def test_second_signal_forces_the_end(tmp_path: Path, watched: Path) -> None:
    """A stop that hangs is cut short by a second Ctrl-C, with status 130."""
    with running(tmp_path, {"TOY_FILE": str(watched), "TOY_STUBBORN": "true"}) as program:
        program.listening()
        program.process.send_signal(signal.SIGTERM)
        program.until(lambda: "stopping on SIGTERM" in program.log)
        time.sleep(0.2)
        assert program.process.poll() is None
        assert program.stop(signal.SIGINT) == 130


def test_stop_that_hangs_ends_by_itself() -> None:
    """Past the last resort the process ends with the status it was to end with, whatever hangs."""
    code = """
import threading
from tallykeep.runtime.signals import leave_within
leave_within(0.05, 0)
threading.Event().wait()
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE, check=False).returncode == 0


def test_no_file_no_yaml() -> None:
    """A sidecar set up by variables alone never imports YAML, nor what only commands and other listeners need."""
    code = """
import sys
from tallykeep.cli.sections import load_config
import tallykeep.cli.run, tallykeep.web.app, tallykeep.web.listener
load_config(None)
heavy = ("yaml", "rich", "zstandard", "bcrypt", "prometheus_client", "pydantic")
print([name for name in heavy if name in sys.modules])
"""
    environment = {"PATH": os.environ["PATH"], "LOCAL_LTX_DIR": "/x"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[]\n"
