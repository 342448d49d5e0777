"""Child processes: they start, freeze, stop, and never outlive their parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tallykeep.errors import ConfigError, Unreachable
from tallykeep.runtime.processes import ManagedProcess, find_program, free_port

_TICKS = "import sys, time\nwhile True: print('tick', flush=True); time.sleep(0.01)"
_BUSY = """
import hashlib, threading
for _ in range(4):
    threading.Thread(target=lambda: [hashlib.sha256(bytes(1 << 22)) for _ in iter(int, 1)], daemon=True).start()
print("busy", flush=True)
threading.Event().wait()
"""
_DEAF = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
_PARENT = """
import sys, threading, time
from tallykeep.runtime.processes import ManagedProcess
def start():
    child = ManagedProcess(["sleep", "60"])
    child.start()
    print(child.pid, flush=True)
thread = threading.Thread(target=start)
thread.start()
thread.join()
time.sleep(60)
"""


def _python(code: str, log: Path) -> ManagedProcess:
    return ManagedProcess([sys.executable, "-c", code], log=log)


def _eventually(true: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.01)
    return true()


def _runs(pid: int) -> bool:
    """Whether a process of that id runs and is not a zombie."""
    try:
        return _state(pid) != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter where it ends between opening and reading
        return False


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_dies_with_its_parent(number: signal.Signals) -> None:
    """However the parent ends, also by kill -9, the child ends; a thread that ends takes no child along."""
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent:
        child = int(parent.stdout.readline())
        assert _runs(child)
        parent.send_signal(number)
        parent.wait()
        assert _eventually(lambda: not _runs(child))


def test_a_child_started_in_a_thread_outlives_the_thread() -> None:
    """The kernel's order is tied to the thread that forks: that one lives as long as the process."""
    child = ManagedProcess(["sleep", "60"])
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()
    try:
        time.sleep(0.1)  # whoever would kill it has had time to
        assert child.alive
    finally:
        child.kill()


def test_freeze_and_thaw(tmp_path: Path) -> None:
    """A frozen process is alive and does nothing; thawed it goes on."""
    log = tmp_path / "log"
    with _python(_TICKS, log) as child:
        assert _eventually(lambda: "tick" in child.log_tail())
        child.freeze()
        assert _eventually(lambda: _state(child.pid) == "T")
        size = log.stat().st_size
        time.sleep(0.1)
        assert child.alive
        assert log.stat().st_size == size
        child.thaw()
        assert _eventually(lambda: log.stat().st_size > size)


def test_a_frozen_process_stands_still_at_once(tmp_path: Path) -> None:
    """Each of its threads does, busy ones too, when freeze returns; one that has ended is not waited for."""
    with _python(_BUSY, tmp_path / "log") as child:
        assert _eventually(lambda: "busy" in child.log_tail())
        for _ in range(50):
            child.freeze()
            states = [
                file.read_text().rpartition(")")[2].split()[0]
                for file in Path(f"/proc/{child.pid}/task").glob("*/stat")
            ]
            assert states == ["T"] * 5
            child.thaw()
    child.freeze()


def test_stop_ends_a_frozen_process() -> None:
    """stop() needs no thaw() before it."""
    child = ManagedProcess(["sleep", "60"])
    child.start()
    child.freeze()
    child.stop(timeout=60)
    assert not child.alive
    assert child.returncode == -signal.SIGTERM


def test_stop_ends_a_process_that_ignores_it(tmp_path: Path) -> None:
    """SIGTERM first, SIGKILL when that has not helped in time."""
    child = _python(_DEAF, tmp_path / "log")
    child.start()
    assert _eventually(lambda: "deaf" in child.log_tail())
    child.stop(timeout=0.1)
    assert child.returncode == -signal.SIGKILL


def test_stop_kills_what_the_child_started(tmp_path: Path) -> None:
    """Signals go to the child's whole process group."""
    code = "import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    child = _python(code, tmp_path / "log")
    child.start()
    assert _eventually(lambda: child.log_tail().strip().isdigit())
    grandchild = int(child.log_tail())
    child.kill()
    assert _eventually(lambda: not _runs(grandchild))


def test_stopping_twice_or_never_started_is_success() -> None:
    """stop() and kill() are idempotent."""
    child = ManagedProcess(["sleep", "60"])
    child.stop()
    child.start()
    child.kill()
    child.kill()
    child.stop()
    assert child.returncode == -signal.SIGKILL


def test_a_missing_program_is_named() -> None:
    """The error says which program, and where it was looked for."""
    with pytest.raises(ConfigError, match="no-such-program: no such program"):
        ManagedProcess(["no-such-program"]).start()
    assert find_program("no-such-program") is None


def test_the_last_words_of_a_process_that_ends_at_once(tmp_path: Path) -> None:
    """wait_ready does not sit out its timeout once the process has ended, and quotes its log."""
    child = _python("print('cannot bind'); raise SystemExit(3)", tmp_path / "log")
    child.start()
    with pytest.raises(Unreachable, match=r"ended with status 3.\n(.|\n)*cannot bind"):
        child.wait_ready(lambda: False, timeout=60)


def test_a_check_that_cannot_connect_means_not_yet() -> None:
    """wait_ready takes an OSError as an answer: no. After the timeout it says so."""

    def check() -> bool:
        raise ConnectionRefusedError

    child = ManagedProcess(["sleep", "60"])
    child.start()
    with pytest.raises(Unreachable, match=r"sleep was not ready after 0\.1 s"):
        child.wait_ready(check, timeout=0.1)
    child.kill()


def test_the_environment_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child given an environment sees nothing of this process's."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "leaked")
    child = ManagedProcess(["env"], env={"PATH": os.defpath, "ONLY": "this"}, log=tmp_path / "log")
    child.start()
    assert child.wait(60) == 0
    assert "ONLY=this" in child.log_tail()
    assert "leaked" not in child.log_tail()


def test_a_free_port_is_given_to_one_who_asks_and_a_server_may_bind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at the same ports in the same order is given another one, though nothing listens there yet."""
    monkeypatch.setattr("random.sample", lambda ports, count: list(ports)[:count])
    ports = {free_port() for _ in range(20)}
    assert len(ports) == 20
    assert max(ports) < 32768, "below the range that outgoing connections are given theirs from"
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()
