"""Restores of real clusters: every major, every kind of target, from either tier, by the real restore_command."""

from __future__ import annotations

import random
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_majors import MAJORS, MajorServer
from tests.support.postgres_restore import SETTINGS, Kept, numbers, pick, recovering
from tests.support.postgres_wal import lsn_of, place

__all__ = ["place"]
pytestmark = pytest.mark.server


async def made(kept: Kept, major: int) -> None:
    """Two backups with rows before, between and after, and a restore point; the primary is gone."""
    with MajorServer(major, kept.place / "primary", SETTINGS) as server, kept.receiving(server) as receiving:
        kept.write(server, 5)
        await kept.back_up(server, "first")
        kept.write(server, 20)
        with psycopg.connect(server.dsn(), autocommit=True) as db:
            db.execute("SELECT pg_create_restore_point('here')")
            db.execute("SELECT pg_switch_wal()")
        kept.write(server, 10)
        await kept.back_up(server, "second")
        kept.write(server, 20)
        kept.note_times(server)
        end = lsn_of(server)
        receiving.until(lambda archiver: archiver.durable >= end)  # no commit has waited for that
        server.kill()
    kept.hand_over()


@pytest.mark.parametrize("major", MAJORS)
async def test_every_major_comes_back_at_any_moment(place: Path, major: int) -> None:
    """The newest point, a random time, LSN and restore point: exactly the rows committed up to there."""
    kept = Kept(place)
    await made(kept, major)
    early, late = pick(kept.rows[5:25], major), pick(kept.rows[35:], major)
    wanted: dict[str, tuple[dict[str, object], int]] = {
        "newest": ({}, len(kept.rows)),
        "early": ({"time": early.committed}, early.number),
        "late": ({"time": late.committed}, late.number),
    }
    others: list[tuple[str, dict[str, object], int]] = [
        ("lsn", {"lsn": late.before}, late.number - 1),
        ("name", {"name": "here"}, 25),
        ("immediate", {"immediate": True, "backup": "first"}, 5),
    ]
    name, asked, last = others[random.Random(major).randrange(len(others))]
    wanted[name] = asked, last
    for name, (asked, last) in wanted.items():
        done = await kept.restore(place / name / "data", **asked)
        assert done.plan.entry.name == ("first" if name in ("early", "name", "immediate") else "second")
        with recovering(major, place / name) as server:
            assert numbers(server) == list(range(1, last + 1)), name
            assert not (server.data / "pg_wal/tallykeep.spool").exists()
