"""The course that a cluster took: timelines left and followed, tablespaces, standbys, restores of restores."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_majors import MajorServer
from tests.support.postgres_restore import OWNER, SETTINGS, Kept, in_recovery, numbers, recovering
from tests.support.postgres_wal import place, wait

from tallykeep.errors import RestoreError

__all__ = ["place"]
pytestmark = pytest.mark.server
MAJOR = 16


async def test_timelines_old_and_new(place: Path) -> None:
    """After a restore to a moment that is protected on: the new line by default, the old one by its number."""
    kept = Kept(place)
    with MajorServer(MAJOR, place / "primary", SETTINGS) as server, kept.receiving(server):
        kept.write(server, 5)
        await kept.back_up(server, "first")
        kept.write(server, 10)
        kept.note_times(server)
        old, fork = [row.number for row in kept.rows], kept.rows[7]
    kept.hand_over()
    await kept.restore(place / "branch/data", time=fork.committed)
    with recovering(MAJOR, place / "branch") as server, kept.receiving(server):
        kept.write(server, 5)
        await kept.back_up(server, "second")
        kept.write(server, 5)
        kept.note_times(server)
    new = [*old[:8], *(row.number for row in kept.rows[len(old) :])]
    kept.hand_over()
    wanted: dict[str, tuple[dict[str, object], str, int, list[int]]] = {
        "newest": ({}, "second", 2, new),
        "across": ({"time": kept.rows[len(old) + 1].committed, "backup": "first"}, "first", 2, new[:10]),
        "left": ({"timeline": "1"}, "first", 1, old),
    }
    for name, (asked, backup, timeline, rows) in wanted.items():
        done = await kept.restore(place / name / "data", **asked)
        assert (done.plan.entry.name, done.plan.timeline) == (backup, timeline), name
        with recovering(MAJOR, place / name) as server:
            assert numbers(server) == rows, name
            assert (server.data / "pg_wal/00000003.history").exists() == (timeline == 2 or name == "left")
    with pytest.raises(RestoreError, match="known timelines: 1, 2"):
        await kept.plan(place / "x", timeline="7")
    with pytest.raises(RestoreError, match="is of timeline 2, from which timeline 1 does not come"):
        await kept.plan(place / "x", timeline="1", backup="second")


async def test_tablespaces_synchronous_standbys_and_pauses(place: Path) -> None:
    """A tablespace goes where it is told, one in the data directory stays; a server that is paused can be looked at.

    Commits wait for no standby of old.
    """
    kept, fast = Kept(place), place / "fast"
    settings = {**SETTINGS, "allow_in_place_tablespaces": "on"}
    with MajorServer(MAJOR, place / "primary", settings) as server, kept.receiving(server):
        fast.mkdir()
        if OWNER:
            user = pwd.getpwnam(OWNER)
            os.chown(fast, user.pw_uid, user.pw_gid)
        with psycopg.connect(server.dsn(), autocommit=True) as db:
            db.execute(f"CREATE TABLESPACE fast LOCATION '{fast}'")
            db.execute("CREATE TABLE f TABLESPACE fast AS SELECT n FROM generate_series(1, 1000) n")
            [oid] = db.execute("SELECT oid FROM pg_tablespace WHERE spcname = 'fast'").fetchone() or (0,)
            db.execute("CREATE TABLESPACE inside LOCATION ''")
            db.execute("CREATE TABLE i TABLESPACE inside AS SELECT n FROM generate_series(1, 70) n")
            db.execute("ALTER SYSTEM SET synchronous_standby_names = 'elsewhere'")
        await kept.back_up(server, "only")
        kept.write(server, 5)
        kept.note_times(server)
        with psycopg.connect(server.dsn(), autocommit=True) as db:
            db.execute("INSERT INTO f VALUES (0)")
    kept.hand_over()
    new = place / "new place"
    with pytest.raises(RestoreError, match=f"holds no tablespace 1; it holds {oid}"):
        await kept.restore(place / "again/data", tablespaces={1: new})
    with pytest.raises(RestoreError, match="fast is not empty"):
        await kept.restore(place / "again/data")
    done = await kept.restore(
        place / "again/data", tablespaces={oid: new}, time=kept.rows[2].committed, action="pause"
    )  # fmt: skip
    assert any("synchronous_standby_names was set" in note for note in done.notes)
    (place / "again").chmod(0o711)
    server = MajorServer(MAJOR, place / "again", settings)
    with server:
        wait(lambda: _paused(server), told=lambda: server.log.read_text()[-2000:])
        assert numbers(server) == [1, 2, 3]
        with psycopg.connect(server.dsn(), autocommit=True) as db:
            assert db.execute("SELECT count(*) FROM f").fetchone() == (1000,)
            assert db.execute("SELECT count(*) FROM i").fetchone() == (70,)
            db.execute("SELECT pg_wal_replay_resume()")
        wait(lambda: not in_recovery(server))
        kept.write(server, 1)
        with psycopg.connect(server.dsn(), autocommit=True) as db:
            db.execute("DROP TABLE i")
            db.execute("DROP TABLESPACE inside")
    assert any(path.is_file() for path in new.rglob("*"))


def _paused(server: MajorServer) -> bool:
    with psycopg.connect(server.dsn()) as db:
        return db.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("paused",)


async def test_a_standby_goes_on_with_what_arrives_and_a_restored_server_can_be_restored(place: Path) -> None:
    """The standby sees rows that were not there when it began; a backup that holds recovery settings is no trouble."""
    kept = Kept(place)
    with MajorServer(MAJOR, place / "primary", SETTINGS) as server:
        with kept.receiving(server):
            kept.write(server, 3)
            await kept.back_up(server, "first")
            kept.write(server, 3)
        kept.hand_over()
        await kept.restore(place / "standby/data", standby=True)
        (place / "standby").chmod(0o711)
        with MajorServer(MAJOR, place / "standby", {**SETTINGS, "wal_retrieve_retry_interval": "200ms"}) as standby:
            wait(lambda: numbers(standby)[-1:] == [6])
            with kept.receiving(server):
                kept.write(server, 3)
                with psycopg.connect(server.dsn(), autocommit=True) as db:
                    db.execute("SELECT pg_switch_wal()")
                kept.write(server, 1)
            kept.hand_over()
            wait(lambda: numbers(standby)[-1:] == [10], told=lambda: standby.log.read_text()[-2000:])
            assert in_recovery(standby)
        kept.note_times(server)
    await kept.restore(place / "one/data", time=kept.rows[7].committed)
    with recovering(MAJOR, place / "one") as server, kept.receiving(server):
        await kept.back_up(server, "of the restored")
        kept.write(server, 2)
    kept.hand_over()
    await kept.restore(place / "two/data", lsn=kept.rows[-1].before)
    with recovering(MAJOR, place / "two") as server:
        assert numbers(server) == [1, 2, 3, 4, 5, 6, 7, 8, 11]
