"""Throw-away servers at a moment: exactly that moment, for those who may, and for nobody else; or an error."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_drill import (  # noqa: F401 - with a fixture
    ROWS,
    Protected,
    alter_wal,
    command,
    protected,
    scratched,
)
from tests.support.postgres_majors import MajorServer, bin_of
from tests.support.postgres_restore import CLOCK, SETTINGS, Kept, Row, numbers
from tests.support.postgres_wal import place  # noqa: F401 - a fixture

from tallykeep.cli.main import main
from tallykeep.demo.postgres import PostgresServer, program
from tallykeep.errors import IntegrityError, RestoreError
from tallykeep.systems.postgres.cluster import clusters_of
from tallykeep.systems.postgres.drilling.drill import drill
from tallykeep.systems.postgres.opened.opening import Opened, opened
from tallykeep.systems.postgres.pages import PAGE
from tallykeep.systems.postgres.restoring.request import RestoreRequest
from tallykeep.systems.postgres.settings import DrillSettings, PostgresSettings
from tallykeep.systems.postgres.throwaway.watch import Silent

pytestmark = pytest.mark.server


@asynccontextmanager
async def open_at(settings: PostgresSettings, **asked: object) -> AsyncIterator[Opened]:
    """A server at what is asked for."""
    [cluster] = clusters_of(settings)
    request = RestoreRequest(Path(), **asked)  # type: ignore[arg-type]
    try:
        async with opened(cluster, settings, request, CLOCK, Silent()) as found:
            yield found
    finally:
        await cluster.close()


def mode(path: str) -> int:
    """Who may do what."""
    return stat.S_IMODE(Path(path).stat().st_mode)


async def rows_at(settings: PostgresSettings, **asked: object) -> list[int]:
    """The rows at a moment; a row more is written there."""
    async with open_at(settings, **asked) as found:
        return await asyncio.to_thread(look, found)


def look(found: Opened) -> list[int]:
    assert mode(found.door.host) == 0o700, "others do not come to the socket"
    assert mode(f"{found.door.host}/../postgres.log") == 0o600
    with psycopg.connect(found.door.dsn, autocommit=True) as db:
        rows = [number for (number,) in db.execute("SELECT n FROM t ORDER BY n").fetchall()]
        db.execute("INSERT INTO t VALUES (1000)")
        said = (
            "SELECT current_setting('archive_mode'), pg_is_in_recovery(), (SELECT count(*) FROM pg_stat_wal_receiver)"
        )
        assert db.execute(said).fetchone() == ("off", False, 0)
    return rows


def make_hard(server: PostgresServer, place: Path) -> None:  # noqa: F811
    """What a copy must not act by, and what would keep everybody out of it, in files that only a restart reads."""
    hard = {
        "archive_mode": "on", "archive_command": f"touch {place}/archived", "synchronous_standby_names": "ghost",
        "shared_preload_libraries": "ghost", "primary_conninfo": server.dsn(), "recovery_target_xid": "3",
    }  # fmt: skip
    with psycopg.connect(server.dsn(), autocommit=True) as db:
        for name, value in hard.items():
            db.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        db.execute("ALTER ROLE postgres PASSWORD 'hard to guess'")
    (server.data / "pg_hba.conf").write_text("local all all reject\nhost all all all reject\n")


def connections(server: PostgresServer) -> int:
    """How many there have been."""
    return server.log.read_text().count("connection received")


@pytest.mark.parametrize("major", [14, 18])
async def test_exactly_the_rows_of_a_moment(place: Path, major: int) -> None:  # noqa: F811
    """By time, LSN, name and the end of the backup: several open at once, beside a drill; the primary rests."""
    kept = Kept(place)
    with MajorServer(major, place / "primary", {**SETTINGS, "log_connections": "on"}) as server:
        with kept.receiving(server):
            kept.write(server, 3)
            make_hard(server, place)
            await kept.back_up(server, "only")
            kept.write(server, 3)
            with psycopg.connect(server.dsn(), autocommit=True) as db:
                db.execute("SELECT pg_create_restore_point('point')")
            kept.write(server, 5)
            kept.note_times(server)
        before = connections(server)
        settings = replace(kept.settings, drill=DrillSettings(bin=bin_of(major), amcheck=False))
        wanted = targets(kept.rows)[major]
        drilling = [asyncio.ensure_future(drill(kept.cluster, settings, CLOCK))] if major == 18 else []
        rows = await asyncio.gather(*(rows_at(settings, **asked) for asked, _ in wanted))
        assert rows == [list(range(1, last + 1)) for _, last in wanted]
        assert [(await each).outcome for each in drilling] == ["ok"] * len(drilling)
        assert connections(server) == before > 0
        assert numbers(server) == list(range(1, 12))
    assert not (place / "archived").exists()
    assert not list((place / "archive/scratch/main").glob("*-*"))


def targets(rows: list[Row]) -> dict[int, list[tuple[dict[str, object], int]]]:
    """What is asked for, by major, and the last row that is then there."""
    return {
        14: [({"time": rows[8].committed}, 9), ({"immediate": True}, 3)],
        18: [({"lsn": rows[7].before}, 7), ({"name": "point"}, 6)],
    }


async def test_what_cannot_be_opened(place: Path, protected: Protected) -> None:  # noqa: F811
    """Beyond what is held, at a restore point that never was, and behind damage: an error, and no server."""
    for asked, told in (
        ({"time": 4e9}, "lies beyond the last commit"),
        ({"lsn": protected.end + (1 << 30)}, "lies beyond"),
        ({"time": 1e9}, "No backup had ended before"),
        ({"name": "nowhere"}, "There is no restore point"),
        ({"name": "nowhere", "backup": "base"}, "before configured recovery target was reached"),
    ):
        with pytest.raises(RestoreError, match=told):
            await rows_at(protected.settings, **asked)
    copy = protected.at(place / "archive")
    middle = (protected.end % (16 << 20)) // PAGE // 2 * PAGE

    def change(data: bytearray) -> None:
        data[middle] ^= 1  # the page's magic, which no record's checksum takes in

    alter_wal(copy, change)
    with pytest.raises((RestoreError, IntegrityError), match="records up to"):
        await rows_at(copy.settings)
    assert not scratched(copy)
    assert not scratched(protected)


SCRIPT = """
import json, os, subprocess, sys
import psycopg
said = {name: value for name, value in os.environ.items() if name.startswith("PG") or name == "DATABASE_URL"}
with psycopg.connect() as db:
    said["rows"] = db.execute("SELECT count(*) FROM t").fetchone()[0]
for wrong in ("postgres", os.environ["PGUSER"]):
    try:
        psycopg.connect(user=wrong, password="guessed").close()
    except psycopg.OperationalError as error:
        said[wrong] = str(error)
said["dump"] = subprocess.run([sys.argv[1], "--data-only", "--table=t"], capture_output=True, text=True).stdout
print(json.dumps(said))
sys.exit(7)
"""


def config_of(found: Protected, path: Path) -> Path:
    """The same settings as a file."""
    path.write_text(
        f"postgres:\n  archive: {found.settings.archive}\n  key_file: {found.settings.key_file}\n"
        "  clusters: [{name: main}]\n"
    )
    return path


def test_a_command_beside_it(tmp_path: Path, protected: Protected) -> None:  # noqa: F811
    """It finds the server and no other, by TCP with a password of its own; standard output and status are its own."""
    misleading = {"PGHOSTADDR": "192.0.2.1", "PGSSLMODE": "require", "PGOPTIONS": "-c x=y", "PGPASSWORD": "secret"}
    argv = ("--port", "0", "--json", "--", sys.executable, "-c", SCRIPT, str(program("pg_dump")), "--debug")
    with command("open", config_of(protected, tmp_path / "tallykeep.yaml"), *argv, **misleading) as process:
        out, err = process.communicate(timeout=150)
    assert process.returncode == 7, (out, err)
    said, told = json.loads(out), json.loads(err)
    assert said["rows"] == 2 * ROWS
    assert said["dump"].count("\n") > 2 * ROWS
    assert "no pg_hba.conf entry" in said["postgres"]
    assert "password authentication failed" in said[said["PGUSER"]]
    assert said["DATABASE_URL"] == told["dsn"]
    assert (told["host"], told["port"], told["recovered_timeline"]) == ("127.0.0.1", int(said["PGPORT"]), 1)
    assert not set(misleading) - {"PGPASSWORD"} & set(said)
    assert not scratched(protected)


def test_wrong_usage_restores_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that there is not and a port that is taken are told at once, with status 2."""
    assert main(["postgres", "open", "--", "nothing-like-it", "--at"]) == 2
    assert "no such program" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["postgres", "open", "--port", str(taken.getsockname()[1])]) == 2
    assert "in use" in capsys.readouterr().err
