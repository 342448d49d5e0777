"""Verification of what PostgreSQL sent: page checksums, and every kind of manifest."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_verify import (
    CLOCK,
    backed_up,
    changed,
    cluster_in,
    fill,
    kept,
    streamed,
    verified,
)
from tests.support.postgres_wal import KEY, REPLICATED, lsn_of, place, primary, run

from tallykeep.demo.postgres import PostgresServer
from tallykeep.systems.postgres.cluster import Cluster, prepare
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.pagesum import PAGE
from tallykeep.systems.postgres.repository.chunk import SIZE, Frames
from tallykeep.systems.postgres.verifying.manifest import NAME, BackupManifest
from tallykeep.systems.postgres.verifying.verify import verify_backup

__all__ = ["place"]
pytestmark = pytest.mark.server


def page_of(server: PostgresServer, table: str) -> tuple[Path, int]:
    """The file of a table, and the LSN up to which its server has written."""
    with psycopg.connect(server.dsn(), autocommit=True) as db:
        db.execute("CHECKPOINT")
        [(path,)] = db.execute("SELECT pg_relation_filepath(%s)", (table,)).fetchall()
    return server.data / path, lsn_of(server)


async def test_a_page_that_the_server_sent_damaged(place: Path) -> None:
    """A page that says that it is newer than its backup was sent unchecked: it is found, by file and page.

    If it was changed between start and stop, WAL makes it whole: then it is counted as torn.
    """
    cluster = cluster_in(place / "archive")
    await prepare(cluster)
    server = PostgresServer(place / "primary", fast=True, settings=REPLICATED)
    with server:
        fill(server, 5_000)
        path, lsn = page_of(server, "t")
    data = bytearray(path.read_bytes())
    later = lsn + (1 << 32)
    data[3 * PAGE : 3 * PAGE + 8] = struct.pack("<II", later >> 32, later & 0xFFFFFFFF)
    path.write_bytes(data)
    with server, streamed(server, cluster):
        entry = await backed_up(server, cluster, "monday")
    [verdict] = (await verified(cluster)).values()
    [problem] = verdict.problems
    assert f"/{path.name}, page 3: its checksum is" in problem
    assert str(LSN(later)) in problem
    assert (verdict.sound, verdict.torn) == (False, 0)
    during = replace(entry, stop_lsn=str(LSN(later)))
    repository = await cluster.tier1.repository(CLOCK)
    verdict = await verify_backup(cluster.tier1, repository, during, patience=0)
    assert (verdict.sound, verdict.torn, verdict.problems) == (True, 1, ())


async def test_every_kind_of_manifest(place: Path) -> None:
    """PostgreSQL's checksums of any kind are compared, of files of several chunks too; so is which files there are."""
    cluster = cluster_in(place / "archive")
    await prepare(cluster)
    algorithms = {"CRC32C": "CRC-32C", "SHA512": "SHA512", "NONE": ""}
    with primary(place) as server, streamed(server, cluster):
        fill(server, 20_000)
        for algorithm in algorithms:
            options = ["-X", "none", "-c", "fast", f"--manifest-checksums={algorithm}"]
            run("pg_basebackup", "-d", server.dsn(), "-D", str(place / algorithm), *options)
    for algorithm in algorithms:
        await spoilt(cluster, place / algorithm, algorithm)
    verdicts = await verified(cluster)
    for algorithm, told_as in algorithms.items():
        assert verdicts[algorithm].problems == ()
        told = "\n".join(verdicts[f"{algorithm} changed"].problems)
        assert "stray: PostgreSQL's manifest does not list it" in told
        assert f", page {(SIZE + 7000) // PAGE}: its checksum" in told
        assert (f": its {told_as} is not what PostgreSQL's manifest says" in told) is (algorithm != "NONE")
        assert "backup_manifest: not PostgreSQL's manifest" in verdicts[f"{algorithm} manifest"].problems[0]
        told = "\n".join(verdicts[f"{algorithm} incomplete"].problems)
        assert "PG_VERSION: PostgreSQL's manifest lists it, and the backup does not have it" in told
        assert "global/pg_filenode.map: has 5 bytes, and PostgreSQL's manifest says" in told


async def spoilt(cluster: Cluster, folder: Path, name: str) -> None:
    """Four backups of a folder: as it is, with a page changed, with another manifest, and with files missing."""
    [wal] = BackupManifest.parse((folder / NAME).read_bytes(), NAME).wal
    await kept(cluster, folder, name, wal)
    largest = max((folder / "base").rglob("*"), key=lambda path: path.stat().st_size)
    assert largest.stat().st_size > 2 * SIZE
    with changed(largest, SIZE + 7000):
        (folder / "stray").write_text("")
        await kept(cluster, folder, f"{name} changed", wal)
    (folder / "PG_VERSION").unlink()
    (folder / "global/pg_filenode.map").write_bytes(b"short")
    with changed(folder / NAME, 300):
        await kept(cluster, folder, f"{name} manifest", wal)
    await kept(cluster, folder, f"{name} incomplete", wal)


class Wrong(Frames):
    """A writer that spoils a byte of one file between naming a chunk and storing it."""

    def frame(self, id: bytes, chunk: bytes | memoryview) -> bytes:
        spoilt = bytes(chunk)
        return super().frame(id, spoilt.replace(b"# PostgreSQL Client Auth", b"# PostgreSQL client Auth"))


@pytest.mark.parametrize(("key", "algorithm"), [(None, "CRC32C"), (KEY, "CRC32C"), (KEY, "NONE")])
async def test_a_writer_that_was_wrong(place: Path, key: bytes | None, algorithm: str) -> None:
    """A chunk that was stored under an id that is not its own is found by file and chunk, sealed or not."""
    cluster = cluster_in(place / "archive", key=key)
    await prepare(cluster)
    with primary(place) as server, streamed(server, cluster):
        options = ["-X", "none", "-c", "fast", f"--manifest-checksums={algorithm}"]
        run("pg_basebackup", "-d", server.dsn(), "-D", str(place / "plain"), *options)
    [wal] = BackupManifest.parse((place / "plain" / NAME).read_bytes(), NAME).wal
    await kept(cluster, place / "plain", "monday", wal, Wrong(cluster.cipher))
    [verdict] = (await verified(cluster)).values()
    told = "\n".join(verdict.problems)
    assert not verdict.sound
    assert "pg_hba.conf" in told
    assert "holds a chunk with the id" in told
    assert len(verdict.problems) <= 2
