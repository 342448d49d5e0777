"""Child servers that never outlive their parent.

A ManagedProcess is one program with its arguments, environment and log file. The kernel kills it when the parent
dies, however that happens. It is not a supervisor: nothing here restarts a child.

The kernel's order belongs to the *thread* that started the child, so every child is started by one thread that
lives as long as the process does. A launcher of a few lines gives the order and then becomes the program: Python's
own way (preexec_fn) may deadlock in a process with threads.
Source: Linux, prctl(2), PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tallykeep.errors import ConfigError, Unreachable

# PR_SET_PDEATHSIG is 1. The parent may have died before the order was given: then nobody would send the signal.
_LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
_POLL = 0.02  # seconds between two looks at a child that is starting or stopping
_PORTS = range(15000, 32000)  # below the range from which Linux takes the ports of outgoing connections


class _Forker:
    """The one thread that starts children; a forked copy of this process gets its own."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forker")
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forker")

    def start(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path | None, log: int) -> subprocess.Popen[bytes]:
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *argv]
        return self._thread.submit(
            subprocess.Popen[bytes],
            launcher,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in a terminal is for the parent, which then stops its children in order
        ).result()


_forker = _Forker()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on, and that nobody else is given here for a minute.

    Somebody may take it first who did not ask here: a start may have to be retried.
    Raises: Unreachable where no port is free.
    """
    for port in random.sample(_PORTS, 200):
        with suppress(OSError):
            _reserve(port)
            return port
    raise Unreachable("No free TCP port on 127.0.0.1 among 200 tried; stop some servers and try again.")


def _reserve(port: int) -> None:
    """Leave a connection in TIME_WAIT there: servers, which set SO_REUSEADDR, may bind the port, and we may not again.

    Raises: OSError where it is taken or reserved.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)) as listener, socket.create_connection(listener.getsockname()):
        listener.accept()[0].close()  # who closes first waits


def find_program(name: str) -> Path | None:
    """The program of that name: beside this Python (where wheels put theirs), else on PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    return Path(found) if found else None


class ManagedProcess:
    """A child process with its log. Start, freeze, thaw, stop; use it as a context manager to be sure of the end."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: Path | None = None,
    ) -> None:
        """`env` replaces the whole environment (None: this process's own); output is appended to `log`, or dropped."""
        self.argv = tuple(argv)
        self.env = dict(os.environ if env is None else env)
        self.cwd = cwd
        self.log = log
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """The program's file name, for messages."""
        return Path(self.argv[0]).name

    @property
    def pid(self) -> int:
        """The process id of the last start."""
        assert self._child is not None, "not started"
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Started and not ended; a frozen process is alive."""
        return self._child is not None and self._child.poll() is None

    @property
    def returncode(self) -> int | None:
        """How it ended (negative: by that signal), or None."""
        return None if self._child is None else self._child.poll()

    def start(self) -> None:
        """Start the program. Raises: ConfigError where it does not exist."""
        assert not self.alive, f"{self.name} runs already"
        program = find_program(self.argv[0])
        if program is None:
            raise ConfigError(f"{self.argv[0]}: no such program, neither beside {sys.executable} nor on PATH.")
        with (self.log or Path(os.devnull)).open("ab") as log:
            argv = [str(program.absolute()), *self.argv[1:]]
            self._child = _forker.start(argv, self.env, self.cwd, log.fileno())

    def wait_ready(self, check: Callable[[], bool], timeout: float) -> None:
        """Return once `check()` is true; it is asked again and again, and an OSError of it means not yet.

        Raises: Unreachable with the end of the log, when the process ends or `timeout` seconds pass.
        """
        deadline = time.monotonic() + timeout
        while self.alive and time.monotonic() < deadline:
            with suppress(OSError):
                if check():
                    return
            time.sleep(_POLL)
        what = f"was not ready after {timeout:g} s" if self.alive else f"ended with status {self.returncode}"
        raise Unreachable(f"{self.name} {what}.\n{self.log_tail()}".rstrip())

    def log_tail(self, lines: int = 15) -> str:
        """The end of its output; empty without a log."""
        if self.log is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def freeze(self) -> None:
        """SIGSTOP, and wait until it stands still: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)
        if self._child is not None and sys.platform == "linux":
            with suppress(ChildProcessError):  # it has ended, and somebody knows
                os.waitid(os.P_PID, self._child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """SIGCONT: go on where it was frozen."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait for the end. Nothing to kill is success."""
        self._signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()

    def stop(self, timeout: float = 10.0) -> None:
        """SIGTERM, and SIGKILL if it has not ended after `timeout` seconds. Stopping a stopped process is success."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a frozen process would not see the SIGTERM
        if self.wait(timeout) is None:
            self.kill()

    def wait(self, timeout: float | None = None) -> int | None:
        """How it ended, or None if it has not within `timeout` seconds (None: for ever)."""
        assert self._child is not None or timeout is not None, "not started"
        if self._child is None:
            return None
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def _signal(self, number: signal.Signals) -> None:
        """To the child and what it started; nothing once it has been waited for, as the id may be another's by then."""
        if self._child is not None and self._child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)

    def __enter__(self) -> ManagedProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
