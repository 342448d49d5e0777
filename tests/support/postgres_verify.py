"""Clusters with real backups and WAL in one tier or two, and damage done to them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from tests.support.postgres_wal import KEY, Receiving, lsn_of

from tallykeep.clock import SystemClock
from tallykeep.demo.postgres import PostgresServer
from tallykeep.storage.digest import digest
from tallykeep.storage.store import Store
from tallykeep.systems.postgres.basebackup.backup import BackupRequest, back_up
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.cluster import Cluster, open_cluster, prepare
from tallykeep.systems.postgres.locks import writing
from tallykeep.systems.postgres.repository.chunk import SIZE, Frames
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.repository.files import FOLDER, BackupFile, Files
from tallykeep.systems.postgres.repository.filling import Filler
from tallykeep.systems.postgres.settings import ClusterSettings, PostgresSettings, Tier2Settings
from tallykeep.systems.postgres.verifying.manifest import WalRange
from tallykeep.systems.postgres.verifying.verdict import Verdict
from tallykeep.systems.postgres.verifying.verify import verify_tier
from tallykeep.systems.postgres.wal_source import segment_key

CLOCK = SystemClock()


def cluster_in(archive: Path, tier2: Tier2Settings | None = None, key: bytes | None = KEY) -> Cluster:
    """The cluster "main" of an archive."""
    settings = PostgresSettings(archive=archive, tier2=tier2 or Tier2Settings())
    return open_cluster(settings, ClusterSettings(name="main"), Cipher.from_key(key) if key else None)


@contextmanager
def streamed(server: PostgresServer, cluster: Cluster) -> Iterator[Receiving]:
    """WAL into tier 1 while the context lasts; when it is left, all there is has come."""
    with Receiving(server.dsn(), cluster.folder, cluster.cipher) as receiving:
        receiving.until(lambda archiver: archiver.durable > 0)
        yield receiving
        end = lsn_of(server)
        receiving.until(lambda archiver: archiver.durable >= end)


async def backed_up(server: PostgresServer, cluster: Cluster, name: str) -> BackupEntry:
    """A base backup in tier 1."""
    async with writing(cluster, cluster.tier1, CLOCK) as repository:
        return await back_up(BackupRequest(server.dsn(), cluster.name, name), repository, CLOCK)


async def copied(cluster: Cluster) -> None:
    """Tier 2 made the same as tier 1 is."""
    assert cluster.tier2 is not None
    await prepare(cluster)
    base, root = cluster.tier1.base, cluster.tier2.root
    async for page in base.list():
        for found in page:
            if not found.key.startswith("probe/"):
                await cluster.tier2.base.create(found.key, await base.read(found.key))
    await root.create("identity.json", (cluster.folder / "identity.json").read_bytes())
    for held in await cluster.tier1.wal.segments():
        if held.complete:
            key = segment_key(held.segment)
            await root.create(key, (cluster.folder / key).read_bytes())


async def kept(cluster: Cluster, folder: Path, name: str, wal: WalRange, frames: Frames | None = None) -> BackupEntry:
    """The files of a folder in the place of a base backup, as they are: also what no server would send."""
    async with writing(cluster, cluster.tier1, CLOCK) as repository:
        repository.frames = frames or repository.frames
        filler = Filler(repository, asyncio.get_running_loop())
        files = await asyncio.to_thread(_fill, filler, folder)
        id = digest(name.encode())[-32:]
        data = Files(files, []).encode(id, cluster.cipher)
        await repository.store.create(f"{FOLDER}{id}", data)
        entry = BackupEntry(
            id=id, name=name, cluster="main", system_id="1", version=180000, timeline=wal.timeline,
            start_lsn=str(wal.start), stop_lsn=str(wal.end), started=1, finished=2, key=f"{FOLDER}{id}",
            hash=digest(data), size=len(data), files=len(files), directories=0, raw=0, added=0,
        )  # fmt: skip
        await repository.commit([entry])
        return entry


def _file(folder: Path, path: Path) -> BackupFile:
    size = path.stat().st_size if path.is_file() else 0
    return BackupFile(path.relative_to(folder).as_posix(), "file" if path.is_file() else "directory", 0o600, 0, size)


def _fill(filler: Filler, folder: Path) -> list[BackupFile]:
    files = [_file(folder, path) for path in sorted(folder.rglob("*"))]
    for file in files:
        data = (folder / file.path).read_bytes() if file.kind == "file" else b""
        for at in range(0, len(data), SIZE):
            filler.put(memoryview(data)[at : at + SIZE], file.chunks)
    filler.finish()
    return files


async def verified(cluster: Cluster, tier: str = "1", *ids: str, patience: float = 0.0) -> dict[str, Verdict]:
    """Verdicts by name of the backup; "" for the rest of the tier."""
    found = await verify_tier(cluster, cluster.tier(tier), CLOCK, ids, patience=patience)
    return {verdict.name: verdict for verdict in found}


def problems_of(verdicts: dict[str, Verdict]) -> list[str]:
    """All that is wrong."""
    return [problem for verdict in verdicts.values() for problem in verdict.problems]


@contextmanager
def changed(path: Path, at: int, bit: int = 1) -> Iterator[None]:
    """One byte of a file is another one while the context lasts."""
    before = path.read_bytes()
    data = bytearray(before)
    data[at] ^= bit
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


@contextmanager
def without(path: Path) -> Iterator[None]:
    """A file is gone while the context lasts."""
    before = path.read_bytes()
    path.unlink()
    try:
        yield
    finally:
        path.write_bytes(before)


async def flipped(store: Store, key: str, at: int) -> None:
    """Change one byte of an object."""
    data = bytearray(await store.read(key))
    data[at] ^= 1
    await store.replace(key, bytes(data))


def fill(server: PostgresServer, rows: int) -> None:
    """So many rows more, in a table with an index."""
    numbers = f"SELECT (SELECT coalesce(max(id), 0) FROM t) + n AS id FROM generate_series(1, {rows}) n"
    with psycopg.connect(server.dsn(), autocommit=True) as db:
        db.execute("CREATE TABLE IF NOT EXISTS t (id bigint PRIMARY KEY, body text)")
        db.execute(f"INSERT INTO t SELECT id, md5(id::text) FROM ({numbers}) new")


def switched(server: PostgresServer) -> None:
    """A new WAL segment begins."""
    with psycopg.connect(server.dsn(), autocommit=True) as db:
        db.execute("CREATE TABLE IF NOT EXISTS s ()")
        db.execute("SELECT pg_switch_wal()")
