"""What happens to servers over the years: promotions, dropped slots, other clusters under an old name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_wal import (
    REPLICATED,
    Receiving,
    base_backup,
    give,
    lsn_of,
    place,
    primary,
    restored,
    run,
    wait,
)
from tests.support.spans import Kept, kept

from tallykeep.demo.postgres import PostgresServer
from tallykeep.systems.postgres import coverage, slot
from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.replication import Connection

__all__ = ["kept", "place"]
pytestmark = pytest.mark.server


def execute(server: PostgresServer, *commands: str) -> None:
    """Commands, one after another."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for command in commands:
            connection.execute(command)


def standby_of(server: PostgresServer, folder: Path) -> PostgresServer:
    """A standby, not started."""
    standby = PostgresServer(
        folder, fast=True, settings={**REPLICATED, "hot_standby": "on", "primary_conninfo": server.dsn()}
    )
    folder.mkdir()
    folder.chmod(0o711)
    run("pg_basebackup", "-d", server.dsn(), "-D", str(standby.data), "-X", "stream", "-c", "fast", "--no-sync")
    (standby.data / "standby.signal").touch()
    give(standby.data)
    return standby


def test_a_second_receiver_on_the_same_archive_is_refused(place: Path, tmp_path: Path) -> None:
    """By name, as a process of its own, while the first goes on."""
    with primary(place) as server, Receiving(server.dsn(), tmp_path / "main") as receiving:
        receiving.until(lambda archiver: archiver.durable > 0)
        argv = [sys.executable, "-m", "tests.support.wal_receiver", server.dsn(), str(tmp_path / "main"), "other"]
        second = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        assert second.returncode != 0 and f"{tmp_path / 'main'}: another process writes WAL there" in second.stderr
        execute(server, "CREATE TABLE t (i int)")
        end = lsn_of(server)
        receiving.until(lambda archiver: archiver.durable >= end)


@pytest.mark.parametrize("behind", [False, True], ids=["in step", "behind the archive"])
def test_a_promoted_standby_is_followed(place: Path, tmp_path: Path, kept: Kept, behind: bool) -> None:
    """Its new timeline goes on in the same archive, also when it forks before what had already arrived."""
    with primary(place) as server:
        standby = standby_of(server, place / "standby")
        standby.start()
        try:
            dsn = (
                f"postgresql://postgres@127.0.0.1:{server.port},127.0.0.1:{standby.port}/postgres"
                "?target_session_attrs=read-write"
            )
            with Receiving(dsn, tmp_path / "main") as receiving:
                receiving.until(lambda archiver: archiver.durable > 0)
                base_backup(server, tmp_path / "base")
                execute(server, "CREATE TABLE t AS SELECT generate_series(1, 1000) i")
                end = lsn_of(server)
                with psycopg.connect(standby.dsn(), autocommit=True) as asking:
                    query = f"SELECT pg_last_wal_replay_lsn() >= '0/0'::pg_lsn + {end}"
                    wait(lambda: asking.execute(query).fetchone() == (True,))
                if behind:
                    standby.stop()
                    execute(server, "INSERT INTO t SELECT generate_series(10001, 300000)")
                    end = lsn_of(server)
                receiving.until(lambda archiver: archiver.durable >= end)
                server.kill()
                if behind:
                    standby.start()
                execute(standby, "SELECT pg_promote()", "INSERT INTO t SELECT generate_series(1001, 2000)")
                end = lsn_of(standby)
                receiving.until(lambda archiver: archiver.timeline == 2 and archiver.durable >= end)
                with Connection(standby.dsn()) as asked:
                    assert slot.look(asked, "tallykeep").timeline == 2
        finally:
            standby.stop()
    assert "manage_wal_stream > klio.wal download_history_file {'currentTLI': 2}" in kept.lines
    archive = Archive(tmp_path / "main")
    assert archive.timelines() == [2] and archive.recorded_gaps() == []
    history = archive.history(2)
    assert coverage.gaps(archive.held(), history) == []
    (line,) = coverage.ranges(archive.held(), history)
    assert line.end >= end
    with restored(tmp_path / "base", archive, place / "again") as again, psycopg.connect(again.dsn()) as connection:
        assert connection.execute("SELECT count(*), max(i) FROM t").fetchone() == (2000, 2000)


def test_a_dropped_slot_is_a_recorded_gap_and_a_new_base_backup_heals_it(place: Path, tmp_path: Path) -> None:
    """What the primary removed meanwhile is written down, to the segment, and streaming goes on behind it."""
    with primary(place, {"min_wal_size": "32MB", "max_wal_size": "32MB"}) as server:
        with Receiving(server.dsn(), tmp_path / "main") as receiving:
            receiving.until(lambda archiver: archiver.durable > 0)
            execute(server, "CREATE TABLE t (i int)")
            end = lsn_of(server)
            receiving.until(lambda archiver: archiver.durable >= end)
            stopped = receiving.archiver
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            wait(lambda: not connection.execute("SELECT 1 FROM pg_replication_slots WHERE active").fetchall())
        execute(server, "SELECT pg_drop_replication_slot('tallykeep')")
        for _ in range(6):
            execute(server, "INSERT INTO t SELECT generate_series(1, 1000)", "SELECT pg_switch_wal()", "CHECKPOINT")
        with Receiving(server.dsn(), tmp_path / "main") as receiving:
            receiving.until(lambda archiver: archiver.durable >= lsn_of(server))
            base_backup(server, tmp_path / "base")
            execute(server, "INSERT INTO t VALUES (1000000)")
            end = lsn_of(server)
            receiving.until(lambda archiver: archiver.durable >= end)
    archive = Archive(tmp_path / "main")
    (recorded,) = archive.recorded_gaps()
    (gap,) = coverage.gaps(archive.held(), archive.history(1))
    assert (gap.start, gap.end) == (recorded.start, recorded.end) and recorded.start == stopped.durable
    assert "already been removed" in recorded.reason and recorded.found > 0
    with restored(tmp_path / "base", archive, place / "again") as again, psycopg.connect(again.dsn()) as connection:
        assert connection.execute("SELECT count(*), max(i) FROM t").fetchone() == (6001, 1000000)


def test_a_timeline_whose_beginning_was_removed_is_gone_on_with_behind_a_gap(place: Path, tmp_path: Path) -> None:
    """All of the old timeline had arrived, and nothing kept the first segment of the new one meanwhile."""
    with primary(place, {"min_wal_size": "32MB", "max_wal_size": "32MB"}) as server:
        standby = standby_of(server, place / "standby")
        standby.start()
        try:
            with Receiving(server.dsn(), tmp_path / "main") as receiving:
                receiving.until(lambda archiver: archiver.durable > 0)
                execute(server, "CREATE TABLE t (i int)")
                server.stop()
            execute(standby, "SELECT pg_promote()", "ALTER SYSTEM SET max_wal_size = '32MB'", "SELECT pg_reload_conf()")
            for _ in range(6):
                execute(standby, "INSERT INTO t VALUES (1)", "SELECT pg_switch_wal()", "CHECKPOINT")
            with Receiving(standby.dsn(), tmp_path / "main") as again:
                again.until(lambda archiver: archiver.timeline == 2 and archiver.durable >= lsn_of(standby))
        finally:
            standby.stop()
    archive = Archive(tmp_path / "main")
    (recorded,) = archive.recorded_gaps()
    (gap,) = coverage.gaps(archive.held(), archive.history(2))
    assert "already been removed" in recorded.reason and recorded.start <= gap.start and recorded.end == gap.end


def test_a_slot_that_is_dropped_while_everything_is_still_there_costs_nothing(place: Path, tmp_path: Path) -> None:
    """It is made again, and streaming goes on from where it was."""
    with primary(place) as server:
        for number in range(2):
            with Receiving(server.dsn(), tmp_path / "main") as receiving:
                execute(server, f"CREATE TABLE t{number} (i int)")
                end = lsn_of(server)
                receiving.until(lambda archiver, end=end: archiver.durable >= end)  # type: ignore[misc]
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                wait(lambda: not connection.execute("SELECT 1 FROM pg_replication_slots WHERE active").fetchall())
            execute(server, "SELECT pg_drop_replication_slot('tallykeep')")
    assert Archive(tmp_path / "main").recorded_gaps() == []


def test_what_the_slot_keeps_on_the_primary_is_told(place: Path, tmp_path: Path) -> None:
    """While nobody receives, retained bytes rise and safe bytes fall; at the end the slot is lost and says so."""
    settings = {"max_slot_wal_keep_size": "32MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}
    with primary(place, settings) as server:
        with Receiving(server.dsn(), tmp_path / "main") as receiving:
            receiving.until(lambda archiver: archiver.durable >= lsn_of(server))
        with Connection(server.dsn()) as connection:
            first = slot.look(connection, "tallykeep")
            assert first.slot is not None and first.slot.safe is not None and first.slot.physical
            execute(server, "CREATE TABLE t (i int)", "SELECT pg_switch_wal()")
            second = slot.look(connection, "tallykeep")
            assert second.slot is not None and second.slot.safe is not None
            assert second.slot.safe < first.slot.safe and (second.retained or 0) > (first.retained or 0)
            for _ in range(8):
                execute(server, "INSERT INTO t SELECT generate_series(1, 1000)", "SELECT pg_switch_wal()", "CHECKPOINT")
            lost = slot.look(connection, "tallykeep")
            assert lost.slot is not None and lost.slot.lost and lost.keep == "32MB"
        with Receiving(server.dsn(), tmp_path / "main") as receiving:
            receiving.until(lambda archiver: archiver.durable >= lsn_of(server))
    assert len(Archive(tmp_path / "main").recorded_gaps()) == 1


def test_another_cluster_under_an_old_name_is_refused(place: Path, tmp_path: Path) -> None:
    """Its WAL is never mixed with what is held."""
    with primary(place) as server, Receiving(server.dsn(), tmp_path / "main") as receiving:
        receiving.until(lambda archiver: archiver.durable > 0)
    shutil.rmtree(place / "primary")
    with primary(place) as server, Receiving(server.dsn(), tmp_path / "main") as receiving:
        wait(lambda: any("another cluster" in each for each in receiving.errors), told=lambda: str(receiving.errors))
