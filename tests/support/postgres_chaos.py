"""A protected PostgreSQL under load whose parts are killed at random moments; then it is restored and compared.

Real processes: the primary, pgbench and clients that commit numbers, `tallykeep postgres server` with its NATS child,
and SeaweedFS as tier 2. Every number of a round is drawn from its seed.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from tests.support.postgres_restore import OWNER
from tests.support.postgres_restore import program as program_of_theirs
from tests.support.postgres_wal import KEY, REPLICATED, give, wait

from tallykeep.demo.page import Page, get, scrape
from tallykeep.demo.postgres import PostgresServer, program
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.runtime.processes import ManagedProcess, find_program, free_port
from tallykeep.systems.postgres import keyfile
from tallykeep.systems.postgres.lsn import LSN

BUCKET = "chaos"
_YAML = """\
state_dir: {folder}/state
metrics_host: 127.0.0.1
metrics_port: {port}
postgres:
  archive: {folder}/archive
  key_file: {folder}/recovery.key
  interval: 0.5s
  clusters:
    - name: main
      url: {url}
  tier2:
    url: s3://{bucket}/{prefix}
    endpoint: {endpoint}
    region: us-east-1
    access_key: {access}
    secret_key: {secret}
    timeout: 5s
    partial_every: 1s
  queue:
    reconcile_every: 3s
    retry_after: 0.2s
    retry_at_most: 1s
  backup: {{schedule: never}}
  verify: {{schedule: never}}
  drill: {{schedule: never}}
"""


class Client(threading.Thread):
    """Commits numbers one after another, connecting again when it is cut off; knows which were acknowledged."""

    def __init__(self, dsn: str, number: int) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.acknowledged: list[int] = []
        self._dsn = dsn
        self._next = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            with suppress(psycopg.Error), psycopg.connect(self._dsn, autocommit=True, connect_timeout=10) as connection:
                while not self._ended.is_set():
                    self._next += 1  # one in doubt is never tried again
                    connection.execute("INSERT INTO kept VALUES (%s, %s)", (self.number, self._next))
                    self.acknowledged.append(self._next)
            self._ended.wait(0.05)

    def end(self) -> None:
        """Commit nothing more."""
        self._ended.set()


@dataclass(slots=True)
class Reported:
    """What was told before the end."""

    flushed: int = 0  # to PostgreSQL, the furthest that was seen
    page: Page | None = None  # the last one
    killed: list[str] = field(default_factory=list)


class Chaos:
    """One round: `with Chaos(place, s3, seed) as round: round.play()`."""

    def __init__(self, place: Path, s3: SeaweedFS, seed: int) -> None:
        self.folder = place
        self.s3 = s3
        self.dice = random.Random(seed)
        self.reported = Reported()
        self.port = free_port()
        self.primary = PostgresServer(place / "primary", fast=True, settings=REPLICATED)
        self.config = place / "tallykeep.yaml"
        self.server = ManagedProcess(
            ["tallykeep", "postgres", "server", "--config", str(self.config)], env=_environment(), cwd=place,
            log=place / "server.log",
        )  # fmt: skip
        self.clients: list[Client] = []
        self._load: subprocess.Popen[bytes] | None = None
        self._seed = seed

    def __enter__(self) -> Chaos:
        keyfile.write(self.folder / "recovery.key", KEY)
        self.primary.start()
        self.config.write_text(_YAML.format(
            folder=self.folder, port=self.port, url=self.primary.dsn(), bucket=BUCKET,
            prefix=f"round-{self._seed}-{os.getpid()}", endpoint=self.s3.endpoint, access=self.s3.access_key,
            secret=self.s3.secret_key,
        ))  # fmt: skip
        self.config.chmod(0o600)
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.end()
        self.server.kill()
        self.primary.kill()
        if self._load is not None:
            self._load.kill()
            self._load.wait()

    # --- the play

    def play(self, kills: int) -> None:
        """Protect, back up, kill `kills` times under load, and end as a machine does that burns down."""
        self.begin()
        for _ in range(kills):
            self.progress(5)
            time.sleep(0.4 * self.dice.random())
            self.kill(self.dice.choice(["server", "primary", "nats", "s3"]))
        self.progress(20)
        time.sleep(0.3 * self.dice.random())
        self.see()
        self.end()

    def begin(self) -> None:
        """Everything up, a base backup taken, commits waiting for tier 1."""
        self._serve()
        run = self.command("backup", "--json")
        assert run.returncode == 0, run.stderr + self.server.log_tail(20)
        subprocess.run(
            [str(program("pgbench")), "-i", "-q", "-s", "1", "-d", self.primary.dsn()], check=True, capture_output=True
        )
        with psycopg.connect(self.primary.dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (client int, n int)")
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'tallykeep'")
            connection.execute("SELECT pg_reload_conf()")
        wait(self._synchronous, 60, lambda: self.server.log_tail(20))
        self._press()
        self.clients = [Client(self.primary.dsn(), number) for number in range(3)]
        for client in self.clients:
            client.start()

    def kill(self, what: str) -> None:
        """kill -9 of a part, and its start again after a moment (NATS is started by its parent)."""
        self.reported.killed.append(what)
        pause = 0.8 * self.dice.random()
        if what == "nats":
            self._kill_nats()
            return
        {"server": self.server.kill, "primary": self.primary.kill, "s3": self.s3.kill}[what]()
        time.sleep(pause)
        if what == "server":
            self._serve()
        elif what == "primary":
            self.primary.start()
            self._press()
        else:
            self.s3.start()

    def progress(self, commits: int) -> None:
        """Return when so many more commits have been acknowledged."""
        before = self.acknowledged
        wait(lambda: self.acknowledged >= before + commits, 90, lambda: self.server.log_tail(20))

    def see(self) -> None:
        """Remember what tallykeep has reported up to now."""
        with psycopg.connect(self.primary.dsn()) as connection:
            found = connection.execute("SELECT flush_lsn - '0/0' FROM pg_stat_replication").fetchall()
        self.reported.flushed = max([self.reported.flushed, *(int(lsn) for (lsn,) in found if lsn is not None)])
        self.reported.page = scrape(self.port)

    def end(self) -> None:
        """The primary and the server die at once."""
        for client in self.clients:
            client.end()
        first, second = self.dice.sample([self.primary.kill, self.server.kill], 2)
        first()
        second()
        for client in self.clients:
            client.join(60)

    @property
    def acknowledged(self) -> int:
        """Commits that clients were told of."""
        return sum(len(client.acknowledged) for client in self.clients)

    # --- afterwards

    def serve_again(self) -> None:
        """The server without its primary; returns once everything has reached tier 2."""
        self._serve()
        wait(lambda: self._drained() and self.is_offloaded(), 120, lambda: self.server.log_tail(30))

    def _drained(self) -> bool:
        """Whether figures are there, and nothing waits in the queue."""
        time.sleep(0.2)
        page = scrape(self.port)
        return (
            page is not None
            and bool(page.values("klio_base_snapshots"))
            and not any(page.values("klio_queue_messages"))
        )

    def is_offloaded(self) -> bool:
        """Whether tier 2 reaches as far as tier 1, by what a command finds in both."""
        tiers = {tier["tier"]: tier for tier in self.status()["tiers"]}
        return bool(tiers["1"]["end"]) and tiers["1"]["end"] == tiers["2"]["end"]

    def status(self) -> dict[str, Any]:
        """What `status` tells."""
        run = self.command("status", "--json")
        assert run.stdout, run.stderr
        found: dict[str, Any] = json.loads(run.stdout)[0]
        return found

    def reach(self, tier: str) -> LSN:
        """How far a tier reaches, by what it says itself."""
        [found] = [each for each in self.status()["tiers"] if each["tier"] == tier]
        return LSN.parse(found["end"])

    @contextmanager
    def restored(self, tier: str) -> Iterator[PostgresServer]:
        """The cluster, restored from one tier by the command, started, recovered to the end of WAL."""
        server = PostgresServer(self.folder / f"from-{tier}", fast=True, settings=REPLICATED)
        server.folder.mkdir()
        server.folder.chmod(0o711)
        owner = ("--owner", OWNER) if OWNER else ()
        run = self.command(
            "restore", "--to", str(server.data), "--tier", tier, "--json", "-q", *owner,
            "--program", shlex.join(program_of_theirs()),
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        for path in (self.folder / "archive", self.folder / "recovery.key", self.config):
            give(path)
        server.start(120)
        try:
            wait(lambda: _recovered(server), 90, lambda: server.log.read_text()[-3000:])
            yield server
        finally:
            server.stop()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`tallykeep postgres ...`."""
        argv = [str(find_program("tallykeep")), "postgres", words[0], "--config", str(self.config), *words[1:]]
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, env=_environment(), cwd=self.folder, timeout=150
        )

    # --- within

    def _serve(self) -> None:
        self.server.start()
        wait(lambda: get(self.port, "/healthz") is not None, 60, lambda: self.server.log_tail(20))

    def _synchronous(self) -> bool:
        with psycopg.connect(self.primary.dsn()) as connection:
            return connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall() == [("sync",)]

    def _press(self) -> None:
        """pgbench; it ends with the primary."""
        if self._load is not None:
            self._load.kill()
            self._load.wait()
        argv = [str(program("pgbench")), "-c", "2", "-T", "120", "-n", "-R", "200", "-d", self.primary.dsn()]
        self._load = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _kill_nats(self) -> None:
        for child in _children(self.server):
            with suppress(psutil.Error):
                if child.name() == "nats-server":
                    child.kill()


def _children(process: ManagedProcess) -> list[psutil.Process]:
    with suppress(psutil.Error):
        found: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
        return found
    return []


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/")}


def _recovered(server: PostgresServer) -> bool:
    assert server.alive, server.log.read_text()[-3000:]
    with psycopg.connect(server.dsn()) as connection:
        return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
