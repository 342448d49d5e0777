"""Tablespaces that were made after the base backup: a drill on the primary's own machine must not touch them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_drill import protected_by
from tests.support.postgres_majors import MajorServer
from tests.support.postgres_wal import give, place

from tallykeep.demo.postgres import PostgresServer
from tallykeep.systems.postgres.settings import QuestionSettings

__all__ = ["place"]
pytestmark = pytest.mark.server
MAJOR = 14  # the oldest knows in-place tablespaces as well


async def test_a_tablespace_in_wal_is_not_made_where_the_cluster_has_it(place: Path) -> None:
    """Nothing in its folder is changed, though who holds the drill may write there, and its rows come back."""
    space = place / "fast disk"

    def after(server: PostgresServer) -> None:
        space.mkdir()
        give(space)
        with psycopg.connect(server.dsn(), autocommit=True) as db:
            db.execute(f"CREATE TABLESPACE fast LOCATION '{space}'")
            db.execute("CREATE TABLE f TABLESPACE fast AS SELECT generate_series(1, 20000) n")
            db.execute("CHECKPOINT")
            db.execute("DELETE FROM f WHERE n > 100")

    found = await protected_by(MajorServer(MAJOR, place / "primary"), after=after)
    before = content(space)
    asked = QuestionSettings("rows", sql="SELECT count(*) FROM f", expected="100")
    result = await found.drilling(questions=(asked,), bin=bin_of(MAJOR)).drill()
    assert (result.outcome, result.problems, result.unchecked) == ("ok", [], [])
    assert content(space) == before != {}


def content(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file, when it was changed, and its hash."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


def bin_of(major: int) -> Path:
    """The programs of a major."""
    return Path(__file__).parents[2] / ".cache" / "postgres" / str(major) / "bin"
