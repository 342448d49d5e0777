"""Every major that is supported: its WAL is received, proved record by record, and restored."""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_majors import MAJORS, MajorServer
from tests.support.postgres_wal import Receiving, base_backup, decode, give, lsn_of, place, wait

from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.verifier import verify_all

__all__ = ["place"]
pytestmark = pytest.mark.server


@pytest.mark.parametrize("major", MAJORS)
async def test_wal_of_every_major_is_kept_proved_and_restored(place: Path, tmp_path: Path, major: int) -> None:
    """The primary is thrown away; base backup and archive bring back every row."""
    with MajorServer(major, place / "primary") as server, Receiving(server.dsn(), tmp_path / "main") as receiving:
        receiving.until(lambda archiver: archiver.durable > 0)
        base_backup(server, tmp_path / "base")
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE t AS SELECT generate_series(1, 300000) i")
            connection.execute("SELECT pg_switch_wal()")
            connection.execute("INSERT INTO t VALUES (0)")
        end = lsn_of(server)
        receiving.until(lambda archiver: archiver.durable >= end)
        assert receiving.errors == []
        server.kill()
    archive = Archive(tmp_path / "main")
    assert await verify_all(archive) == []
    again = place / "again"
    restored = MajorServer(major, again, {"restore_command": f"cp {again}/wal/%f %p"})
    again.mkdir()
    again.chmod(0o711)
    decode(archive, again / "wal")
    shutil.copytree(tmp_path / "base", restored.data, symlinks=True)
    restored.data.chmod(0o700)
    (restored.data / "recovery.signal").touch()
    give(restored.data)
    with restored, psycopg.connect(restored.dsn(), autocommit=True) as connection:
        wait(lambda: connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,))
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (300001,)
