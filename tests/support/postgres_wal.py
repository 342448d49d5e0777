"""Real primaries, real receivers, and restores from what these have kept."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres import server_folder
from tests.support.servers import need

from tallykeep.demo.postgres import MISSING, PostgresServer, program
from tallykeep.errors import TallykeepError
from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.archiver import Archiver
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.replication import Stop, Stopped
from tallykeep.systems.postgres.session import Session, Source

REPLICATED = {
    "wal_level": "replica",
    "max_wal_senders": "10",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_wal_size": "256MB",
}
KEY = bytes(range(32))


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that servers can reach."""
    need(str(program("postgres")), MISSING)
    with server_folder() as folder:
        yield folder


@contextmanager
def primary(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """A running server that can be replicated."""
    with PostgresServer(folder / "primary", fast=True, settings={**REPLICATED, **(settings or {})}) as server:
        yield server


class Receiving:
    """A receiver in a thread of the test, connecting again when it fails."""

    def __init__(self, conninfo: str, folder: Path, cipher: Cipher | None = None, slot: str = "tallykeep") -> None:
        self.errors: list[str] = []
        self.archiver = Archiver(folder, cipher)
        self._source = Source("main", conninfo, slot, status_interval=0.5)
        self._stop = Stop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.session: Session | None = None

    def __enter__(self) -> Receiving:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it and let go of the archive."""
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "it did not stop"
        with suppress(TallykeepError):
            self.archiver.flush()
        self.archiver.close()
        self._stop.close()

    def until(self, held: Callable[[Archiver], bool], timeout: float = 60.0) -> None:
        """Wait until something is true of the archive."""
        wait(lambda: held(self.archiver), timeout, lambda: f"{self.archiver.durable} {self.errors[-2:]}")

    def _run(self) -> None:
        while True:
            try:
                self.session = Session(self._source, self.archiver, self._stop)
                self.session.run()
                self._stop.wait(0.2)
            except Stopped:
                return
            except TallykeepError as error:
                self.errors.append(f"{type(error).__name__}: {error}")
                self.archiver.abandon()
                try:
                    self._stop.wait(0.2)
                except Stopped:
                    return


def wait(true: Callable[[], bool], timeout: float = 60.0, told: Callable[[], str] = str) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, told()
        time.sleep(0.02)


def lsn_of(server: PostgresServer) -> int:
    """How far the server has flushed."""
    with psycopg.connect(server.dsn()) as connection:
        found = connection.execute("SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn").fetchone()
    assert found is not None
    return int(found[0])


def run(name: str, *arguments: str) -> str:
    """One of PostgreSQL's programs, and what it said."""
    done = subprocess.run([str(program(name)), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def base_backup(server: PostgresServer, target: Path) -> None:
    """A base backup by pg_basebackup, without WAL."""
    run("pg_basebackup", "-d", server.dsn(), "-D", str(target), "-X", "none", "-c", "fast", "--no-sync")


@contextmanager
def restored(
    backup: Path, archive: Archive, folder: Path, settings: Mapping[str, str] | None = None
) -> Iterator[PostgresServer]:
    """A server that has recovered from a base backup and all WAL of the archive, and was promoted."""
    command = {"restore_command": f"cp {folder}/wal/%f %p"}
    server = PostgresServer(folder, fast=True, settings={**REPLICATED, **command, **(settings or {})})
    folder.mkdir()
    folder.chmod(0o711)
    decode(archive, folder / "wal")
    shutil.copytree(backup, server.data, symlinks=True)
    server.data.chmod(0o700)
    (server.data / "recovery.signal").touch()
    give(server.data)
    server.start(120)
    try:
        wait(lambda: _promoted(server), 60, lambda: server.log.read_text()[-2000:])
        yield server
    finally:
        server.stop()


def decode(archive: Archive, target: Path) -> None:
    """Write every segment and history as PostgreSQL's own files."""
    target.mkdir()
    for stored in archive.segments():
        (target / stored.segment.name).write_bytes(archive.restored(stored.segment))
    for timeline in archive.timelines():
        (target / f"{timeline:08X}.history").write_text(archive.history_text(timeline))


def give(folder: Path) -> None:
    """Make the server's user the owner."""
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def _promoted(server: PostgresServer) -> bool:
    with psycopg.connect(server.dsn()) as connection:
        found = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    return found == (False,)
