"""`tallykeep postgres` as people run it: a real PostgreSQL, a server as a process, tier 2 on a real S3, a key."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_cli import PATIENCE, Protection, s3_variables
from tests.support.postgres_wal import REPLICATED, give, place, primary, wait

from tallykeep.demo.postgres import PostgresServer
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.locks import BACKUP, is_held

__all__ = ["place"]
pytestmark = [pytest.mark.server, pytest.mark.timeout(400)]


@contextmanager
def protected(place: Path, folder: Path, **variables: str) -> Iterator[tuple[PostgresServer, Protection]]:
    """A primary, and the settings that protect it; nothing runs yet."""
    with primary(place) as server:
        yield server, Protection.of(folder, server, **variables)


def execute(server: PostgresServer, *statements: str) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as db:
        for statement in statements:
            db.execute(statement.encode())


def test_from_a_key_to_a_drill(place: Path, seaweedfs: SeaweedFS, bucket: str) -> None:
    """A key, a server, a backup by command, list, verify, status, queue, retention and a cold drill: each says well."""
    folder = place / "work"  # PostgreSQL's user enters it
    folder.mkdir(mode=0o711)
    with protected(place, folder, **s3_variables(seaweedfs, bucket)) as (server, protection):
        key = folder / "recovery.key"
        assert protection.told("key", str(key)) == {"file": str(key)}
        assert key.stat().st_mode & 0o777 == 0o600 and key.read_text().splitlines()[-1].startswith("tallykeep-key-1-")
        assert "cannot be made" in protection.run("key", str(key), status=2)
        protection.variables["TALLYKEEP_POSTGRES_KEY_FILE"] = str(key)
        execute(server, "CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n")
        with protection.server():
            protection.backed_up()
            [backup] = protection.told("backup", "--name", "monday")
            assert (backup["cluster"], backup["name"]) == ("default", "monday")
            execute(server, "INSERT INTO t VALUES (-1)", "SELECT pg_switch_wal()")
            wait(lambda: in_both_tiers(protection, backup["id"]), 2 * PATIENCE)
            first, second = protection.told("list")
            assert [one["name"] for one in first["backups"]][-1] == "monday" and first["backups"][-1]["verified"][
                "sound"
            ]
            assert all(one["wal"]["usable"] for one in (*first["backups"], *second["backups"]))
            verified = protection.told("verify")
            assert [(one["tier"], one["sound"]) for one in verified] == [("1", True), ("2", True)]
            assert {one["stream"] for one in protection.told("queue", "status")} >= {"tallykeep-wal"}
            assert protection.told("queue", "list-failed") == protection.told("queue", "retry") == []
            assert [one["tier"] for one in protection.told("retention", "--dry-run")] == ["1", "2"]
            [drill] = protection.told("drill")
            assert drill["outcome"] == "ok" and drill["cold"] and drill["recovery_time_seconds"] > 0
            [status] = protection.told("status")
            assert status["ok"] and status["streaming"] and status["drill"]["outcome"] == "ok"
            assert "all is well" in protection.run("status")


def in_both_tiers(protection: Protection, id: str) -> bool:
    """Whether a backup and all WAL are in tier 2 as well."""
    tiers = protection.told("list")
    [status] = json.loads(status_of(protection))
    ends = [tier["end"] for tier in status["tiers"]]
    return all(id in [one["id"] for one in tier["backups"] or ()] for tier in tiers) and ends[0] == ends[1]


def status_of(protection: Protection) -> str:
    """What `status --json` prints, whatever it ends with."""
    done = subprocess.run(
        protection.argv("status", "--json"), capture_output=True, text=True, check=False, env=protection.environment()
    )
    return done.stdout


def test_a_restore_by_command_starts(place: Path, tmp_path: Path) -> None:
    """What was committed after the backup is there again; a folder that is not empty is not touched."""
    with protected(place, tmp_path) as (server, protection):
        with protection.server():
            protection.until("klio_backup_successes_total", 1)
            before = time.time()
            execute(server, "CREATE TABLE t AS SELECT 42 AS n")
            [status] = protection.told("status")
            wait(lambda: protection.told("status")[0]["tiers"][0]["rpo_bytes"] == 0, 2 * PATIENCE)
            assert status["server"]
            assert before < protection.told("status")[0]["tiers"][0]["newest_transaction"] < time.time()
        restored = PostgresServer(place / "restored", fast=True, settings=REPLICATED)
        restored.folder.mkdir()
        restored.folder.chmod(0o711)
        protection.run("restore", "--to", str(restored.data))
        assert "not empty" in protection.run("restore", "--to", str(restored.data), status=1)
        without_get_wal(protection, restored.data)
        give(restored.folder)
        with restored:
            wait(lambda: rows(restored) == [(42,)], PATIENCE, lambda: restored.log.read_text()[-3000:])


def without_get_wal(protection: Protection, data: Path) -> None:
    """Have PostgreSQL copy WAL that was fetched before: its own user may not read the archive of this test."""
    wal = data.parent / "wal"
    wal.mkdir()
    for path in sorted((protection.cluster / "wal").rglob("0*")):
        name = path.name[:24]
        if path.is_file() and not (wal / name).exists():
            protection.run("get-wal", name, str(wal / name))
    with (data / "postgresql.auto.conf").open("a") as file:
        file.write(f"restore_command = 'cp {wal}/%f %p'\n")


def rows(server: PostgresServer) -> list[tuple[int]]:
    """None while recovery has not come to the table, and lets clients in already."""
    found: list[tuple[int]] = []
    with suppress(psycopg.errors.UndefinedTable), psycopg.connect(server.dsn()) as db:
        found = db.execute("SELECT n FROM t").fetchall()
    return found


def test_what_is_wrong_is_told_with_its_status(place: Path, tmp_path: Path) -> None:
    """No server, wrong password, wrong key, an unknown cluster, a second server, a backup without its WAL."""
    with protected(place, tmp_path) as (_, protection):
        nothing = protection.run("status", status=1)
        assert "no base backup" in nothing and "no replication slot" in nothing
        assert "nobody receives it" in protection.run("backup", status=1)
        assert "NOT USABLE" in protection.run("list")
        assert "the latest base backup failed" in protection.run("status", status=1)
        assert "there is no cluster 'x'" in protection.run("list", "--cluster", "x", status=2)
        unreachable = {"TALLYKEEP_POSTGRES_URL": "postgresql://postgres@127.0.0.1:1/postgres"}
        assert "cannot be reached" in protection.run("backup", status=3, env=unreachable)
        assert "does not answer" in protection.run("status", status=1, env=unreachable)
        key = protection.told("key")["key"]
        assert "a key is given" in protection.run("backup", status=2, env={"TALLYKEEP_POSTGRES_KEY": key})
        with protection.server():
            protection.until("klio_backup_successes_total", 1)
            elsewhere = {"TALLYKEEP_STATE_DIR": str(tmp_path / "elsewhere"), "METRICS_PORT": "0"}
            assert "is protected by another process" in protection.run("server", status=1, env=elsewhere)


def test_a_wrong_password_is_told_and_not_shown(place: Path, tmp_path: Path) -> None:
    """A password that is refused ends a backup with 3, and is nowhere in what is said."""
    with PostgresServer(place / "closed", password="right") as server:
        protection = Protection.of(tmp_path, server)
        protection.variables["TALLYKEEP_POSTGRES_URL"] = server.dsn(password="very-wrong")
        said = protection.run("backup", status=3)
        assert "password authentication failed" in said and "very-wrong" not in said


def test_ctrl_c_ends_a_backup_on_both_sides(place: Path, tmp_path: Path) -> None:
    """A backup that is interrupted ends with 130, lets its lock go, and leaves no sender on the primary."""
    with protected(place, tmp_path, TALLYKEEP_POSTGRES_URL="") as (server, protection):
        protection.variables["TALLYKEEP_POSTGRES_URL"] = server.dsn()
        backup = subprocess.Popen(protection.argv("backup", "-q"), env=protection.environment(), cwd=tmp_path)
        wait(lambda: is_held(protection.cluster / BACKUP), PATIENCE)
        journal = Journal(protection.cluster)
        wait(lambda: journal.read().backups.latest_start > 0, PATIENCE)
        backup.send_signal(signal.SIGINT)
        assert backup.wait(PATIENCE) == 130
        assert not is_held(protection.cluster / BACKUP)
        told = journal.read().backups
        assert (told.outcomes, told.successes, told.failures) == ({"interrupted": 1}, 0, 0)
        with psycopg.connect(server.dsn(), autocommit=True) as db:
            senders = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'"
            wait(lambda: db.execute(senders).fetchone() == (0,), PATIENCE)
