"""A disk that fills up under the archive of a real PostgreSQL."""

from __future__ import annotations

import threading
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_wal import KEY, Receiving, lsn_of, place, primary, wait
from tests.support.small_disk import small_disk

from tallykeep.demo.postgres import PostgresServer
from tallykeep.systems.postgres import coverage
from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.cipher import Cipher

__all__ = ["place"]
pytestmark = pytest.mark.server
_CIPHER = Cipher.from_key(KEY)
_ROW = "INSERT INTO t SELECT %s, string_agg(md5(random()::text), '') FROM generate_series(1, 400)"  # 13 kB of noise


class Client(threading.Thread):
    """Commits rows one after another, and knows how many were acknowledged."""

    def __init__(self, dsn: str) -> None:
        super().__init__(daemon=True)
        self.acknowledged = 0
        self.enough = threading.Event()
        self._dsn = dsn

    def run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self.enough.is_set():
                connection.execute(_ROW, (self.acknowledged + 1,))
                self.acknowledged += 1


def test_on_a_full_disk_commits_wait_and_nothing_is_lost(place: Path, tmp_path: Path) -> None:
    """It is told; what was acknowledged stays; with more room streaming goes on where it was, without a gap."""
    with (
        primary(place) as server,
        small_disk(tmp_path / "disk", 4) as disk,
        Receiving(server.dsn(), disk.folder / "main", _CIPHER) as receiving,
    ):
        receiving.until(lambda archiver: archiver.durable > 0)
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE t (i int, noise text)")
            connection.execute("ALTER TABLE t ALTER noise SET STORAGE EXTERNAL")
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'tallykeep'")
            connection.execute("SELECT pg_reload_conf()")
            wait(lambda: connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall() == [("sync",)])
        client = Client(server.dsn())
        client.start()
        wait(lambda: len(receiving.errors) > 1, 60)
        assert "No space left on device" in receiving.errors[0]
        assert "Nothing that was acknowledged is lost" in receiving.errors[0]
        full, archive = client.acknowledged, Archive(disk.folder / "main", _CIPHER)
        assert full > 20
        wait(lambda: archive.held()[-1].end == receiving.archiver.durable)  # a smaller block may have found room
        disk.grow(64)
        wait(lambda: client.acknowledged > full + 100, 60)
        client.enough.set()
        client.join(60)
        end = lsn_of(server)
        receiving.until(lambda archiver: archiver.durable >= end)
        is_what_the_primary_wrote(server, Archive(disk.folder / "main", _CIPHER), end)


def is_what_the_primary_wrote(server: PostgresServer, archive: Archive, end: int) -> None:
    """Without a gap, byte for byte."""
    assert archive.recorded_gaps() == [] and coverage.gaps(archive.held(), archive.history(1)) == []
    assert archive.held()[-1].end >= end
    for stored in archive.segments():
        data = archive.read(stored.segment)
        assert data == (server.data / "pg_wal" / stored.segment.name).read_bytes()[: len(data)]
