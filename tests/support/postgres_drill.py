"""Clusters that are protected, for drills: a base backup, rows after it, and all of the WAL, in one tier or two."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.postgres import server_folder
from tests.support.postgres_wal import REPLICATED, Receiving, lsn_of
from tests.support.servers import need

from tallykeep.clock import SystemClock
from tallykeep.config.model import Secret
from tallykeep.demo.postgres import MISSING, PostgresServer, program
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.systems.postgres import blocks, keyfile
from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.basebackup.backup import BackupRequest, back_up
from tallykeep.systems.postgres.cluster import Cluster, clusters_of, prepare
from tallykeep.systems.postgres.drilling.drill import drill
from tallykeep.systems.postgres.drilling.request import DrillRequest
from tallykeep.systems.postgres.drilling.result import DrillResult
from tallykeep.systems.postgres.locks import writing
from tallykeep.systems.postgres.settings import (
    ClusterSettings,
    DrillSettings,
    PostgresSettings,
    QuestionSettings,
    Tier2Settings,
)
from tallykeep.systems.postgres.throwaway.scratch import LOCK, MAKING
from tallykeep.systems.postgres.wal_source import part_key

Do = Callable[[PostgresServer], None]
ROWS = 400  # after the backup as many as before it
COUNTED = QuestionSettings("rows", "postgres", "SELECT count(*) FROM t", str(2 * ROWS))


@dataclass(frozen=True)
class Protected:
    """What is left of a cluster."""

    settings: PostgresSettings
    end: int  # LSN up to which everything is held

    @property
    def cluster(self) -> Cluster:
        """Opened anew."""
        return clusters_of(self.settings)[0]

    def drilling(self, **changes: object) -> Protected:
        """With other settings of drills."""
        changed = replace(self.settings.drill, **changes)  # type: ignore[arg-type]
        return replace(self, settings=replace(self.settings, drill=changed))

    def at(self, archive: Path) -> Protected:
        """A copy of its tier 1."""
        shutil.copytree(self.settings.archive, archive)
        return replace(self, settings=replace(self.settings, archive=archive))

    async def drill(self, tier: str = "", **request: object) -> DrillResult:
        """Hold a drill."""
        cluster = self.cluster
        try:
            return await drill(cluster, self.settings, SystemClock(), DrillRequest(tier, **request))  # type: ignore[arg-type]
        finally:
            await cluster.close()

    async def offload(self) -> None:
        """Copy tier 1 to tier 2: backups, and WAL as far as it is held."""
        cluster = self.cluster
        assert cluster.tier2 is not None
        await prepare(cluster)
        for path in sorted((cluster.folder / "base").rglob("*")):
            if path.is_file():
                await cluster.tier2.base.create(path.relative_to(cluster.folder / "base").as_posix(), path.read_bytes())
        for key, data in wal_objects(cluster.archive):
            await cluster.tier2.root.create(key, data)
        await cluster.close()


def wal_objects(archive: Archive) -> list[tuple[str, bytes]]:
    """Identity and WAL as tier 2 holds it, by key."""
    found = [("identity.json", (archive.folder / "identity.json").read_bytes())]
    for stored in archive.segments():
        assert len(stored.paths) == 1
        held = archive.extent(stored) - stored.segment.start
        key = archive.key(stored.segment) if stored.complete else part_key(stored.segment, held)
        found.append((key, stored.paths[0].read_bytes()))
    for timeline in archive.timelines():
        name = f"wal/{timeline:08X}.history"
        found.append((name, (archive.folder / name).read_bytes()))
    return found


def settings_of(archive: Path, key_file: Path | None = None, tier2: Tier2Settings | None = None) -> PostgresSettings:
    """Settings of one cluster that can be restored."""
    drill = DrillSettings(questions=(COUNTED,))
    cluster = ClusterSettings("main", Secret(""))
    return PostgresSettings(
        archive=archive, key_file=key_file, clusters=(cluster,), tier2=tier2 or Tier2Settings(), drill=drill
    )


def on_s3(server: SeaweedFS, bucket: str) -> Tier2Settings:
    """Tier 2 in a bucket."""
    found = server.settings(bucket)
    return Tier2Settings(
        url=f"s3://{bucket}/backups", endpoint=found.endpoint, region=found.region, access_key=found.access_key,
        secret_key=Secret(found.secret_key),
    )  # fmt: skip


def new_key(path: Path) -> Path:
    """A recovery file."""
    keyfile.write(path, keyfile.generate())
    return path


def fill(server: PostgresServer, rows: int = ROWS) -> None:
    """So many rows more, in a table with an index."""
    with psycopg.connect(server.dsn(), autocommit=True) as db:
        db.execute("CREATE TABLE IF NOT EXISTS t (id bigserial PRIMARY KEY, body text)")
        db.execute(f"INSERT INTO t (body) SELECT repeat(md5(n::text), 5) FROM generate_series(1, {rows}) n")


async def protect(
    server: PostgresServer, settings: PostgresSettings, *, before: Callable[[], None] | None = None,
    after: Callable[[], None] | None = None,
) -> Protected:  # fmt: skip
    """Rows, a base backup, rows again, all WAL in tier 1; `before` and `after` do what is to be done around it."""
    [cluster] = clusters_of(settings)
    await prepare(cluster)
    fill(server)
    if before is not None:
        before()
    with Receiving(server.dsn(), cluster.folder, cluster.cipher) as receiving:
        receiving.until(lambda archiver: archiver.durable > 0)
        async with writing(cluster, cluster.tier1, SystemClock()) as repository:
            await back_up(BackupRequest(server.dsn(), cluster.name, "base"), repository, SystemClock())
        fill(server)
        if after is not None:
            after()
        end = lsn_of(server)
        receiving.until(lambda archiver: archiver.durable >= end)
    await cluster.close()
    return Protected(settings, end)


async def protected_by(server: PostgresServer, before: Do | None = None, after: Do | None = None) -> Protected:
    """What is left of a server's cluster, which is encrypted, once it is stopped."""
    folder = server.folder
    calls: dict[str, Any] = {}
    for name, call in (("before", before), ("after", after)):
        calls[name] = None if call is None else partial(call, server)
    with server:
        return await protect(server, settings_of(folder / "archive", new_key(folder / "key")), **calls)


def newest(folder: Path) -> PostgresServer:
    """A server of PostgreSQL 18."""
    return PostgresServer(folder, fast=True, settings=REPLICATED)


@pytest.fixture(scope="session")
def protected() -> Iterator[Protected]:
    """A sound cluster of PostgreSQL 18, which tests drill, and change in copies."""
    need(str(program("postgres")), MISSING)
    with server_folder() as folder:
        yield asyncio.run(protected_by(newest(folder)))


def alter_wal(protected: Protected, change: Callable[[bytearray], None]) -> None:
    """Change WAL in the last segment, in a file that says it is whole: as if it had arrived so."""
    archive = protected.cluster.archive
    stored = archive.segments()[-1]
    data = bytearray(archive.read(stored.segment))
    change(data)
    identity = archive.identity
    assert identity is not None
    sealed, segment = archive.cipher is not None, stored.segment
    encoder = blocks.Encoder(
        blocks.Header(sealed, segment, segment.start, identity.system_id, os.urandom(16)), archive.cipher
    )
    pieces = [
        encoder.block(segment.start + at, bytes(data[at : at + blocks.BLOCK]))
        for at in range(0, len(data), blocks.BLOCK)
    ]
    [path] = stored.paths
    path.write_bytes(encoder.header + b"".join(pieces))


def processes(*words: str) -> list[int]:
    """Processes with all of these in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = path.read_bytes()
            if all(word.encode() in line for word in words):
                found.append(int(path.parent.name))
    return found


def command(verb: str, config: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    """A command of `tallykeep postgres` as a process."""
    argv = [sys.executable, "-m", "tallykeep", "postgres", verb, "--config", str(config), *words]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TALLYKEEP_", "OTEL_"))}
    return subprocess.Popen(argv, env=kept | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def scratched(found: Protected) -> list[str]:
    """What is in the scratch folder of a cluster besides its locks."""
    folder = found.settings.drill.scratch or found.settings.archive / "scratch"
    names = {path.name for path in (folder / "main").iterdir()}
    return sorted(names - {LOCK, MAKING})
