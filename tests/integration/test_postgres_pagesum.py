"""Page checksums and the control file, against data directories that real servers of every major have written."""

from __future__ import annotations

import os
import random
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_majors import MAJORS, MajorServer
from tests.support.postgres_wal import place

from tallykeep.systems.postgres.control import PATH, Control
from tallykeep.systems.postgres.pagesum import PAGE, check_files

__all__ = ["place"]
pytestmark = pytest.mark.server


class Summed(MajorServer):
    """A server with checksums."""

    checksums = True

    def __init__(self, major: int, folder: Path) -> None:
        super().__init__(major, folder)
        self.major = major

    def _initdb(self, passwords: Path) -> list[str]:
        off = ["--no-data-checksums"] if self.major >= 18 else []
        return [*super()._initdb(passwords), *(["--data-checksums"] if self.checksums else off)]


class Plain(Summed):
    """Without."""

    checksums = False


def filled(server: MajorServer, space: Path) -> int:
    """Make tables, an index and a tablespace; the system identifier as the server tells it."""
    space.mkdir()
    os.chown(space, server.data.stat().st_uid, -1)
    with psycopg.connect(server.dsn(), autocommit=True) as db:
        db.execute("CREATE TABLE t AS SELECT n AS id, repeat(md5(n::text), 5) AS body FROM generate_series(1, 30000) n")
        db.execute("CREATE INDEX ON t (id)")
        db.execute(f"CREATE TABLESPACE fast LOCATION '{space}'")
        db.execute("CREATE TABLE f TABLESPACE fast AS SELECT n FROM generate_series(1, 5000) n")
        db.execute("VACUUM t")
        [(found,)] = db.execute("SELECT system_identifier FROM pg_control_system()").fetchall()
    return int(found)


@pytest.mark.parametrize("major", MAJORS)
def test_pages_of_every_major(place: Path, major: int) -> None:
    """All pages of a stopped server are right, and any byte changed in one of them is found, with file and page."""
    server = Summed(major, place / "server")
    with server:
        system_id = filled(server, place / "fast")
    control = Control.parse((server.data / PATH).read_bytes(), "pg_control")
    assert control == Control(system_id, PAGE, 131072, True)
    read: list[int] = []
    pages, problems = check_files(server.data, read.append)
    assert problems == []
    assert pages is not None and pages > 2000 and sum(read) == pages * PAGE
    random.seed(major)
    files = [path for path in server.data.glob("base/*/*") if path.name.isdigit() and path.stat().st_size]
    files += [path for path in place.glob("fast/PG_*/*/*") if path.name.isdigit()]
    for file in [*random.sample(files, 4), files[-1]]:
        at = random.randrange(file.stat().st_size // PAGE) * PAGE
        changed = bytearray(file.read_bytes())
        if changed[at + 14 : at + 16] == b"\0\0":
            continue  # a new page, which has no checksum
        changed[at + random.choice([*range(14), *range(16, PAGE)])] ^= 1 << random.randrange(8)
        before = file.read_bytes()
        file.write_bytes(changed)
        [problem] = check_files(server.data).problems
        assert f"{file.name}, page {at // PAGE}: its checksum is" in problem
        file.write_bytes(before)


@pytest.mark.parametrize("major", [MAJORS[0], MAJORS[-1]])
def test_a_cluster_without_checksums(place: Path, major: int) -> None:
    """Nothing is said of its pages: not that they are right either."""
    server = Plain(major, place / "server")
    with server:
        pass
    assert check_files(server.data) == (None, [])
