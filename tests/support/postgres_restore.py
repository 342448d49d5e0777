"""Clusters with a known history, and servers that recover from what was kept of them by the real restore_command."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import site
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from tests.support.postgres_majors import MajorServer
from tests.support.postgres_wal import Receiving, give, lsn_of, wait
from tests.support.servers import need

import tallykeep
from tallykeep.clock import SystemClock
from tallykeep.demo.postgres import PostgresServer
from tallykeep.demo.postgres import _unprivileged as unprivileged
from tallykeep.systems.postgres.basebackup.backup import BackupRequest, back_up
from tallykeep.systems.postgres.cluster import Cluster, clusters_of, prepare
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.restoring.request import RestoreRequest
from tallykeep.systems.postgres.restoring.restore import Plan, Restored, plan, restore
from tallykeep.systems.postgres.settings import ClusterSettings, PostgresSettings, Tier2Settings
from tallykeep.systems.postgres.wal_source import history_key, part_key, segment_key

SETTINGS = {"track_commit_timestamp": "on", "autovacuum": "off"}
CLOCK = SystemClock()
OWNER = "nobody" if os.geteuid() == 0 else ""
_SYSTEM = Path(f"/usr/bin/python3.{sys.version_info.minor}")


def program(**environ: str) -> Sequence[str]:
    """tallykeep as the server's user can run it: root's own Python may be out of its reach."""
    more = [f"{name}={value}" for name, value in environ.items()]
    told = (sys.executable, "-P", "-m", "tallykeep")
    tried = [*unprivileged(), "sh", "-c", f"{shlex.quote(sys.executable)} -c ''"]  # setpriv itself still may everything
    if not OWNER or subprocess.run(tried, check=False, capture_output=True).returncode == 0:
        return ("/usr/bin/env", *more, *told)
    need(
        str(_SYSTEM), f"{OWNER} cannot run {sys.executable}: run the tests as another user, or install Debian's Python"
    )
    paths = [str(Path(tallykeep.__file__).parents[1]), *site.getsitepackages()]
    return ("/usr/bin/env", *more, f"PYTHONPATH={':'.join(paths)}", str(_SYSTEM), *told[1:])


@dataclass
class Row:
    """A row that was committed alone."""

    number: int
    before: LSN  # where WAL stood before it
    committed: float = 0.0  # as PostgreSQL keeps it


@dataclass
class Kept:
    """Where a cluster's protection is, and what it should give back."""

    place: Path  # which the server's user can reach
    tier2: Tier2Settings = field(default_factory=Tier2Settings)
    key_file: Path | None = None
    rows: list[Row] = field(default_factory=list)

    @property
    def settings(self) -> PostgresSettings:
        return PostgresSettings(
            archive=self.place / "archive",
            key_file=self.key_file,
            clusters=(ClusterSettings("main"),),
            tier2=self.tier2,
        )

    @property
    def cluster(self) -> Cluster:
        """Opened anew."""
        return clusters_of(self.settings)[0]

    @property
    def config(self) -> Path:
        """The same settings as a file."""
        tier2 = {"url": self.tier2.url, "endpoint": self.tier2.endpoint, "region": self.tier2.region,
                 "access_key": self.tier2.access_key, "secret_key": self.tier2.secret_key.reveal(),
                 "timeout": f"{self.tier2.timeout}s"}  # fmt: skip
        lines = ["postgres:", f"  archive: {self.place / 'archive'}", "  clusters: [{name: main}]"]
        lines += [f"  key_file: {self.key_file}"] if self.key_file else []
        if self.tier2.url:
            lines += ["  tier2:", *(f"    {name}: '{value}'" for name, value in tier2.items() if value)]
        path = self.place / "tallykeep.yaml"
        path.write_text("\n".join(lines) + "\n")
        return path

    # --- making

    def write(self, server: PostgresServer, count: int, connection: psycopg.Connection | None = None) -> None:
        """So many rows more, each committed alone."""
        with psycopg.connect(server.dsn(), autocommit=True) as db:
            db.execute("CREATE TABLE IF NOT EXISTS t (n int PRIMARY KEY)")
            for _ in range(count):
                found = db.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
                assert found is not None
                row = Row(len(self.rows) + 1, LSN.parse(found[0]))
                db.execute("INSERT INTO t VALUES (%s)", [row.number])
                self.rows.append(row)

    def note_times(self, server: PostgresServer) -> None:
        """When each row was committed, from PostgreSQL."""
        with psycopg.connect(server.dsn()) as db:
            query = "SELECT n, extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM t"
            times = {number: float(moment) for number, moment in db.execute(query).fetchall()}
        for row in self.rows:
            row.committed = times.get(row.number, 0.0)

    async def back_up(self, server: PostgresServer, name: str) -> BackupEntry:
        """A base backup into tier 1."""
        cluster = self.cluster
        await prepare(cluster)
        repository = await cluster.tier1.repository(CLOCK)
        await repository.chain.take_over()
        return await back_up(BackupRequest(server.dsn(), "main", name), repository, CLOCK)

    @contextmanager
    def receiving(self, server: PostgresServer, slot: str = "tallykeep") -> Iterator[Receiving]:
        """WAL into tier 1 while the context lasts, and all there is at its end."""
        with Receiving(server.dsn(), self.place / "archive" / "main", self.cluster.cipher, slot) as receiving:
            receiving.until(lambda archiver: archiver.durable > 0)
            yield receiving
            if server.alive:
                end = lsn_of(server)
                receiving.until(lambda archiver: archiver.durable >= end)

    async def offload(self) -> None:
        """Everything that tier 1 holds into tier 2, under the keys that it has there."""
        cluster = self.cluster
        await prepare(cluster)
        tier = cluster.tier("2")
        base = cluster.folder / "base"
        for path in sorted(path for path in base.rglob("*") if path.is_file()):
            await tier.base.create(str(path.relative_to(base)), path.read_bytes())
        await tier.root.create("identity.json", (cluster.folder / "identity.json").read_bytes())
        archive = cluster.archive
        for stored in archive.segments():
            held = archive.extent(stored) - stored.segment.start
            key = segment_key(stored.segment) if stored.complete else part_key(stored.segment, held)
            await tier.root.create(key, stored.paths[0].read_bytes())
        for number in archive.timelines():
            await tier.root.create(history_key(number), (cluster.folder / history_key(number)).read_bytes())
        await cluster.close()

    # --- restoring

    async def plan(self, target: Path, **asked: object) -> Plan:
        """A plan."""
        request = RestoreRequest(target, get_wal=("--config", str(self.config)), **asked)  # type: ignore[arg-type]
        cluster = self.cluster
        try:
            return await plan(cluster, request, CLOCK)
        finally:
            await cluster.close()

    async def restore(self, target: Path, **asked: object) -> Restored:
        """Files and settings into `target`, all of it owned by the server's user where that is another."""
        asked = {"owner": OWNER, "program": program()} | asked
        request = RestoreRequest(target, get_wal=("--config", str(self.config)), **asked)  # type: ignore[arg-type]
        cluster = self.cluster
        try:
            planned = await plan(cluster, request, CLOCK)
            return await restore(cluster, planned, CLOCK)
        finally:
            await cluster.close()

    def copy(self, place: Path, tier2: Tier2Settings | None = None) -> Kept:
        """The same elsewhere."""
        shutil.copytree(self.place / "archive", place / "archive")
        return Kept(place, tier2 or self.tier2, self.key_file, self.rows)

    def hand_over(self) -> None:
        """Let the server's user read what get-wal reads."""
        for path in (self.place / "archive", self.config, self.key_file):
            if path is not None and path.exists():
                give(path)


@contextmanager
def recovering(major: int, folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[MajorServer]:
    """The server of the data directory `folder`/data, promoted."""
    folder.chmod(0o711)
    server = MajorServer(major, folder, settings={**SETTINGS, **(settings or {})})
    server.start(90)
    try:
        wait(lambda: not in_recovery(server), 60, lambda: server.log.read_text()[-3000:])
        yield server
    finally:
        server.stop()


def in_recovery(server: PostgresServer) -> bool:
    """Whether it still recovers."""
    with psycopg.connect(server.dsn()) as db:
        return db.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)


def numbers(server: PostgresServer) -> list[int]:
    """The rows it has."""
    with psycopg.connect(server.dsn()) as db:
        return [number for (number,) in db.execute("SELECT n FROM t ORDER BY n").fetchall()]


def pick(rows: Sequence[Row], seed: int) -> Row:
    """One that is neither the first nor the last."""
    return random.Random(seed).choice(rows[1:-1])


def get_wal(
    kept: Kept, name: str, path: Path, *options: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`tallykeep postgres get-wal` as a process."""
    argv = [sys.executable, "-P", "-m", "tallykeep", "postgres", "get-wal", "--config", str(kept.config), *options]
    return subprocess.run([*argv, name, str(path)], capture_output=True, text=True, check=False, cwd=cwd)
