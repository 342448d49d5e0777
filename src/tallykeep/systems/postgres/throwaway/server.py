"""The restored server: a child that dies with this process, on a Unix socket in its own folder, and by TCP if asked.

It recovers to the end of WAL, or to its target, and promotes itself; how far it came stands in the history file that it
writes then, and when the last transaction was in its log. Where a library that the cluster preloads is not installed
here, or its postgresql.conf cannot be used, it is started without, and says so.
Source: PostgreSQL, src/include/utils/pidfile.h; src/backend/access/transam/xlogrecovery.c (PerformWalRecovery);
setpriv(1): a change of user clears the order to die with the parent, so it is given again.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from tallykeep.clock import Clock
from tallykeep.errors import Refused, SourceError
from tallykeep.runtime.processes import ManagedProcess, free_port
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.lsn import Fork, History, history_timeline
from tallykeep.systems.postgres.replication import Connection
from tallykeep.systems.postgres.throwaway import configuration, judging
from tallykeep.systems.postgres.throwaway.ended import Ended
from tallykeep.systems.postgres.throwaway.feeding import Feeder
from tallykeep.systems.postgres.throwaway.programs import Programs
from tallykeep.systems.postgres.throwaway.scratch import Scratch

_POLL = 0.05  # seconds between two looks at a server that recovers
_STARTS = 5  # with ever less of what it asks for
_SHUTDOWN = 120.0  # seconds for its last checkpoint
_STATUS_LINE = 7  # of postmaster.pid
_LIBRARY = re.compile(r"FATAL:\s+could not (?:access file|load library) \"([^\"]+)\"")
_FILE = re.compile(
    r"configuration file|could not open .*\.conf|unrecognized configuration parameter|syntax error in file"
)
_NOWHERE_ELSE = {  # whatever PGHOSTADDR and the like say in our environment
    "hostaddr": "", "options": "", "sslmode": "disable", "gssencmode": "disable", "target_session_attrs": "any",
}  # fmt: skip
_TAKEN = "could not create any TCP/IP sockets"
_COMMIT = re.compile(r"last completed transaction was at log time (\S+ \S+)")
_LONGEST_LOG = 1 << 20  # bytes of its end that are looked at


class RestoredServer:
    """One server on the data in one scratch folder. Blocking methods say so."""

    def __init__(
        self, programs: Programs, scratch: Scratch, feeder: Feeder, settings: Sequence[str], port: int | None = None
    ) -> None:
        """`port`: of 127.0.0.1, where it takes connections there as well; 0: a free one."""
        self.user = "postgres"
        self.visitor = "" if port is None else f"tallykeep_{secrets.token_hex(4)}"  # who may connect by TCP
        self.port = port or 0  # of 127.0.0.1; 0: none
        self._any_port = port == 0
        self.without: list[str] = []  # what it was started without
        self.committed = 0.0  # Unix seconds of the end of the last transaction that was recovered; 0: there was none
        self._programs = programs
        self._scratch = scratch
        self._feeder = feeder
        self._settings = settings
        self._libraries: str | None = None
        self._own_file = False
        self._process: ManagedProcess | None = None

    async def recover(self, clock: Clock) -> None:
        """Start it; return when it has recovered and takes queries. Raises: Ended; what the feeder met."""
        await in_thread(configuration.write_files, self._scratch, self.visitor)
        for attempt in range(1, _STARTS + 1):
            await in_thread(self._start)
            try:
                await self._wait_ready(clock)
            except Ended:
                if attempt == _STARTS or not await in_thread(self._give_way):
                    raise
            else:
                break
        self.committed = await in_thread(self._last_commit)
        await self._find_user(clock)

    def reached(self) -> Fork:
        """The timeline that recovery ended on, and where: the first position that it did not replay. Blocks."""
        found: dict[int, Path] = {}
        for path in (self._scratch.data / "pg_wal").glob("*.history"):
            timeline = history_timeline(path.name)
            if timeline is not None:
                found[timeline] = path
        if not found:
            raise Ended("inconclusive", "PostgreSQL has written no timeline history at the end of its recovery.")
        newest = max(found)
        return History.parse(newest, found[newest].read_text()).forks[-1]

    @property
    def notes(self) -> list[str]:
        """What is to be said of how it was started."""
        return [f"PostgreSQL was started without {thing}" for thing in self.without]

    def conninfo(self, database: str = "template1") -> str:
        """A connection string of libpq."""
        host, port = self.socket
        pairs = {"host": host, "port": port, "user": self.user, "dbname": database} | _NOWHERE_ELSE
        quoted = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in pairs.items()}
        return " ".join(f"{name}='{value}'" for name, value in quoted.items()) + " client_encoding=UTF8"

    def clients(self) -> dict[str, str]:
        """The environment of PostgreSQL's own clients."""
        host, port = self.socket
        return environment() | {"PGHOST": host, "PGPORT": port, "PGUSER": self.user, "PGCLIENTENCODING": "UTF8"}

    def rows(self, database: str, command: str, seconds: float) -> list[tuple[str | None, ...]]:
        """What it answers within `seconds`. Blocks. Raises: ServerError; SourceErrors."""
        with Connection(self.conninfo(database), timeout=seconds) as connection:
            return connection.execute(command)

    def admit(self) -> str:
        """Make the role that may connect by TCP, a superuser; its password. Blocks. Raises: Ended."""
        password = secrets.token_urlsafe(24)
        role = f"CREATE ROLE {self.visitor} SUPERUSER LOGIN PASSWORD '{password}'"
        try:
            self.rows("template1", f"SET password_encryption = 'scram-sha-256'; {role}", _SHUTDOWN)
        except SourceError as error:
            raise Ended("inconclusive", f"No role could be made that may connect by TCP: {error}") from None
        return password

    @property
    def socket(self) -> tuple[str, str]:
        """Folder and number of its Unix socket."""
        return str(self._scratch.sockets), str(self.port or 5432)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.alive

    def last_words(self) -> Ended:
        """Why it runs no more. Blocks."""
        return judging.stopped(self.log(), None if self._process is None else self._process.returncode)

    def log(self) -> str:
        """The end of what it has said. Blocks."""
        with suppress(FileNotFoundError), self._scratch.log.open("rb") as file:
            file.seek(max(0, self._scratch.log.stat().st_size - _LONGEST_LOG))
            return file.read().decode(errors="replace")
        return ""

    def stop(self) -> None:
        """Let it write a checkpoint and end. Raises: Ended where it does not. Blocks."""
        if self._process is None:
            return
        self._signal(signal.SIGINT)
        if self._process.wait(_SHUTDOWN) is None:
            self.abandon()
            raise Ended("inconclusive", f"PostgreSQL did not shut down within {_SHUTDOWN:g} s.")

    def abandon(self) -> None:
        """End it and its backends at once. Idempotent. Blocks."""
        if self._process is not None and self._process.alive:
            self._signal(signal.SIGQUIT)
            if self._process.wait(10) is None:
                self._process.kill()

    # --- within

    def _last_commit(self) -> float:
        found = _COMMIT.findall(self.log())
        return datetime.fromisoformat(_iso(found[-1])).timestamp() if found else 0.0

    def _start(self) -> None:
        self._scratch.log.unlink(missing_ok=True)
        self._scratch.log.touch(mode=0o600)  # errors quote data
        (self._scratch.data / "postmaster.pid").unlink(missing_ok=True)
        if self._any_port:
            self.port = free_port()
        argv = [*unprivileged(self._scratch), str(self._programs.postgres), *self._arguments()]
        self._process = ManagedProcess(argv, env=environment(), cwd=self._scratch.folder, log=self._scratch.log)
        self._process.start()

    def _arguments(self) -> list[str]:
        return ["-D", str(self._scratch.data), *configuration.arguments(
            self._scratch, self._programs.major, self._feeder.source, self._settings,
            port=self.port, libraries=self._libraries, own_file=self._own_file,
        )]  # fmt: skip

    async def _wait_ready(self, clock: Clock) -> None:
        assert self._process is not None
        while not await in_thread(self._ready):
            if self._feeder.error is not None:
                raise self._feeder.error
            if not self._process.alive:
                raise await in_thread(self.last_words)
            await clock.sleep(_POLL)

    def _ready(self) -> bool:
        """Whether it takes connections: with hot_standby=off, whether recovery is over."""
        with suppress(OSError, IndexError):
            lines = (self._scratch.data / "postmaster.pid").read_text().splitlines()
            return lines[_STATUS_LINE].strip() == "ready"
        return False

    def _give_way(self) -> bool:
        """Leave out what it could not start with; whether another start is worth it."""
        log = self.log()
        if _TAKEN in log and self._any_port:
            return True
        if missing := _LIBRARY.search(log):
            return self._leave_out(missing[1])
        if _FILE.search(log) and not self._own_file:
            self._own_file = True
            self.without.append("the cluster's postgresql.conf, which cannot be used here")
            return True
        return False

    def _leave_out(self, library: str) -> bool:
        if self._libraries is None:
            self._libraries = self._ask("shared_preload_libraries")
        names = [name.strip().strip('"') for name in self._libraries.split(",")]
        if not any(names):
            return False
        kept = [name for name in names if name and Path(name).stem != Path(library).stem]
        self._libraries = ",".join(kept) if len(kept) < len(names) else ""  # a name that cannot be told: without any
        self.without.append(f"the library {library}, which the cluster preloads and which is not installed here")
        return True

    def _ask(self, name: str) -> str:
        """A setting as the cluster's files have it."""
        argv = [*unprivileged(self._scratch), str(self._programs.postgres), "-C", name, *self._arguments()]
        said = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=60, check=False)
        return said.stdout.strip()

    async def _find_user(self, clock: Clock) -> None:
        """See that there is a superuser to log in as, the usual one or one that is made now."""
        if await in_thread(self._is_superuser):
            return
        await in_thread(self.stop)
        await in_thread(self._make_user)
        await in_thread(self._start)
        await self._wait_ready(clock)

    def _is_superuser(self) -> bool:
        try:
            with Connection(self.conninfo()) as connection:
                rows = connection.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")
                return rows == [("t",)]
        except Refused:
            return False
        except SourceError as error:
            raise Ended("inconclusive", f"The restored server cannot be asked: {error}") from None

    def _make_user(self) -> None:
        """In single-user mode, which asks nobody who he is."""
        self.user = f"tallykeep_{secrets.token_hex(4)}"
        argv = [*unprivileged(self._scratch), str(self._programs.postgres), "--single", *self._arguments(), "template1"]
        command = f"CREATE ROLE {self.user} SUPERUSER LOGIN\n"
        said = subprocess.run(
            argv, input=command, env=environment(), capture_output=True, text=True, timeout=_SHUTDOWN, check=False
        )
        if said.returncode or "ERROR:" in said.stderr:
            last = (said.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise Ended("inconclusive", f"No superuser could be made to ask the restored server as: {last}")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        if self._process.alive:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


def environment() -> dict[str, str]:
    """Nothing of PG* in it, which would change what servers and clients do."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C", "TZ": "UTC"}


def unprivileged(scratch: Scratch) -> list[str]:
    """What to put before a command that root may not run."""
    owner = scratch.owner
    if owner is None:
        return []
    return ["setpriv", f"--reuid={owner.uid}", f"--regid={owner.gid}", "--clear-groups", "--pdeathsig=KILL"]


def _iso(text: str) -> str:
    """2026-11-30 13:37:42.123456+00, as Python reads it."""
    return text + ":00" if re.search(r"[+-]\d\d$", text) else text
