"""WAL of a real PostgreSQL, received, kept and restored."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_wal import KEY, Receiving, base_backup, lsn_of, place, primary, restored, run, wait
from tests.support.spans import Kept, kept

from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.session import PENDING

__all__ = ["kept", "place"]
pytestmark = pytest.mark.server


@pytest.mark.parametrize("cipher", [None, Cipher.from_key(KEY)], ids=["plain", "encrypted"])
def test_a_partial_segment_is_read_by_pg_waldump_and_is_what_the_primary_wrote(
    place: Path, tmp_path: Path, cipher: Cipher | None
) -> None:
    """Complete and partial segments decode to the primary's own bytes; pg_waldump finds the records."""
    with primary(place) as server, Receiving(server.dsn(), tmp_path / "main", cipher) as receiving:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE t AS SELECT i, repeat('x', 100) FROM generate_series(1, 150000) i")
            end = lsn_of(server)
        receiving.until(lambda archiver: archiver.durable >= end)
        archive = Archive(tmp_path / "main", cipher)
        stored = archive.segments()
        assert [one.complete for one in stored] == [True] * (len(stored) - 1) + [False]
        assert len(stored) > 1
        for one in stored:
            data = archive.read(one.segment)
            own = (server.data / "pg_wal" / one.segment.name).read_bytes()  # which has got more meanwhile, if anything
            assert data == own[: len(data)]
        last = tmp_path / stored[-1].segment.name
        last.write_bytes(archive.restored(stored[-1].segment))
        assert "rmgr: Heap" in run("pg_waldump", "--end", f"{end >> 32:X}/{end & 0xFFFFFFFF:X}", str(last))


def test_no_acknowledged_commit_is_lost_with_the_primary(place: Path, tmp_path: Path) -> None:
    """With synchronous replication everything that was acknowledged is in the archive when the primary is gone."""
    cipher = Cipher.from_key(KEY)
    with primary(place) as server, Receiving(server.dsn(), tmp_path / "main", cipher) as receiving:
        receiving.until(lambda archiver: archiver.durable > 0)
        base_backup(server, tmp_path / "base")
        acknowledged = 0
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'tallykeep'")
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("CREATE TABLE t (i int)")
            wait(lambda: connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall() == [("sync",)])
            for acknowledged in range(1, 301):
                connection.execute("INSERT INTO t VALUES (%s)", (acknowledged,))
        server.kill()
    archive = Archive(tmp_path / "main", cipher)
    with (
        restored(tmp_path / "base", archive, place / "restored", {"synchronous_standby_names": ""}) as server,
        psycopg.connect(server.dsn()) as connection,
    ):
        assert connection.execute("SELECT count(*), max(i) FROM t").fetchone() == (acknowledged, acknowledged)


def test_while_it_catches_up_it_says_how_far_it_has_come(place: Path, tmp_path: Path, kept: Kept) -> None:
    """Every 16 MiB is a round with its sync and its report, though the primary never stops sending."""
    with primary(place) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("SELECT pg_create_physical_replication_slot('tallykeep', true)")
            connection.execute("CREATE TABLE t AS SELECT i, repeat('x', 100) FROM generate_series(1, 700000) i")
            end = lsn_of(server)
        with Receiving(server.dsn(), tmp_path / "main") as receiving:
            receiving.until(lambda archiver: archiver.durable >= end)
    stored = sum(one.segment.size for one in Archive(tmp_path / "main").segments() if one.complete)
    rounds = sum(" receive_block {" in line for line in kept.lines)
    assert stored > 64 << 20 and rounds >= stored // PENDING


def test_every_round_of_receiving_is_a_span_of_its_own(place: Path, tmp_path: Path, kept: Kept) -> None:
    """Writing and flushing are below it, with the segment's name; the handshake is another."""
    with primary(place) as server, Receiving(server.dsn(), tmp_path / "main") as receiving:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE t (i int)")
        end = lsn_of(server)
        receiving.until(lambda archiver: archiver.durable >= end)
    cluster = "{'cluster_name': 'main'}"
    (stored, *_) = Archive(tmp_path / "main").segments()
    assert kept.lines[:2] == [f" > klio.wal manage_wal_stream {cluster}", f" > klio.wal receive_block {cluster}"]
    for name in ("write_block", "flush_block"):
        assert f"receive_block > klio.wal {name} {{'wal_name': '{stored.segment.name}'}}" in kept.lines
