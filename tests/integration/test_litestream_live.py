"""The restored image beside the live database, while a writer writes and the real Litestream checkpoints."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.replicas import LOCAL_DB, LOCAL_LTX, replica
from tests.support.servers import need

from tallykeep.demo.litestream import LitestreamDaemon
from tallykeep.storage.local import LocalStore
from tallykeep.systems.litestream.drill_request import DrillRequest
from tallykeep.systems.litestream.drill_result import DrillResult
from tallykeep.systems.litestream.drilling import list_inventory, perform
from tallykeep.systems.litestream.live import Restored, Side, compare
from tallykeep.systems.litestream.plan import make_plan
from tallykeep.systems.litestream.restore import apply
from tallykeep.systems.litestream.targets import Target
from tallykeep.systems.litestream.verifying import opener

_WRITER = """
import random, sqlite3, sys, time
dice = random.Random(7)
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
db.execute("PRAGMA wal_autocheckpoint=0")
while True:
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO t (body) VALUES (?)", (dice.randbytes(dice.choice([20, 300, 5000])),))
    db.execute("DELETE FROM t WHERE id % 50 = ? AND id > 2000", (dice.randrange(50),))
    db.execute("UPDATE t SET body = ? WHERE id = ?", (dice.randbytes(100), dice.randrange(1, 2000)))
    db.execute("COMMIT")
    time.sleep(dice.random() * 0.02)
"""
_CONFIG = """
dbs:
  - path: {database}
    monitor-interval: 100ms
    checkpoint-interval: 700ms
    min-checkpoint-page-count: 30
    replica:
      type: file
      path: {replica}
      sync-interval: 100ms
"""


class World:
    """A writer, its database, Litestream, and a file replica."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "app.db"
        self.ltx = folder / ".app.db-litestream" / "ltx"
        self.replica = folder / "replica"
        self.replica.mkdir()
        with closing(sqlite3.connect(self.database)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)")
            database.executemany("INSERT INTO t (body) VALUES (?)", ((bytes(200),) for _ in range(5000)))
            database.commit()
        self.daemon = LitestreamDaemon(folder / "d", _CONFIG.format(database=self.database, replica=self.replica))
        self.writer: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.daemon.start()
        self.writer = subprocess.Popen([sys.executable, "-c", _WRITER, self.database])

    def stop_writer(self) -> None:
        if self.writer is not None:
            self.writer.kill()
            self.writer.wait()

    def drill(self) -> DrillResult:
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        request = DrillRequest(Target("app", self.ltx, self.database), scratch, full=True)
        return asyncio.run(perform(LocalStore(self.replica), request))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    need("litestream", "pip install 'tallykeep[demo]'")
    world = World(tmp_path)
    world.start()
    level0, deadline = world.replica / "ltx" / "0", time.monotonic() + 60
    while len(list(level0.glob("*.ltx"))) < 10:
        assert time.monotonic() < deadline, world.daemon.log_tail()
        time.sleep(0.05)
    yield world
    world.stop_writer()
    world.daemon.kill()


@pytest.mark.server
def test_busy_database_matches(world: World) -> None:
    """Under a busy writer and constant checkpoints a drill never finds a difference, and finds agreement again and
    again: on a machine with time for it mostly.
    """
    results: list[DrillResult] = []
    agreed, deadline = 0, time.monotonic() + 120
    while len(results) < 12 or agreed < 6:
        results.append(world.drill())
        told = [result.live.match for result in results if result.live is not None]
        agreed = told.count("matches")
        assert "differs" not in told, results
        assert time.monotonic() < deadline, [result.live for result in results]


@pytest.mark.soak
@pytest.mark.server
@pytest.mark.timeout(600)
def test_busy_database_matches_for_minutes(world: World) -> None:
    """For two minutes, with Litestream killed and restarted again and again, no drill ever finds a difference."""
    deadline, rounds = time.monotonic() + 120, 0
    while time.monotonic() < deadline:
        rounds += 1
        if rounds % 5 == 0:
            world.daemon.kill()
            world.daemon.start()
        result = world.drill()
        assert result.live is None or result.live.match != "differs", result


@pytest.mark.server
def test_replaced_database_differs(world: World) -> None:
    """A database file replaced under a running Litestream is found by the comparison, with every checksum good."""
    world.stop_writer()
    time.sleep(0.5)
    other = world.folder / "other.db"
    with closing(sqlite3.connect(other)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)")
        database.executemany("INSERT INTO t (body) VALUES (?)", ((b"other" * 50,) for _ in range(4000)))
        database.commit()
    for suffix in ("-wal", "-shm"):
        world.database.with_name(world.database.name + suffix).unlink(missing_ok=True)
    other.replace(world.database)
    world.writer = subprocess.Popen([sys.executable, "-c", _WRITER, world.database])
    deadline = time.monotonic() + 60
    while (result := world.drill()).live is None or result.live.match != "differs":
        assert time.monotonic() < deadline, result
        time.sleep(0.5)
    assert result.result == "failed"
    assert result.stage in ("compare", "integrity")


def image_of_healthy(folder: Path) -> Restored:
    async def restore() -> Restored:
        store = LocalStore(replica("healthy"))
        plan = make_plan(await list_inventory(store))
        done = await apply(plan.files, opener(store), folder / "image.db")
        return Restored(folder / "image.db", done.txid, done.page_size, done.commit)

    return asyncio.run(restore())


@pytest.fixture
def live(tmp_path: Path) -> Side:
    """A copy of the fixture's live side: at TXID 3b, with 7 commits behind it in the WAL."""
    folder = tmp_path / "live"
    shutil.copytree(LOCAL_DB.parent, folder)
    return Side(folder / LOCAL_DB.name, folder / LOCAL_LTX.parent.name / "ltx")


def never(_: float) -> None:
    """No pause between attempts."""


def test_fixture_matches(live: Side, tmp_path: Path) -> None:
    """The fixture's database equals its replica in every page that the 7 commits in the WAL have not touched."""
    found = compare(image_of_healthy(tmp_path), live, never)
    assert found.match == "matches"
    assert found.compared >= 5


def test_one_changed_byte_differs(live: Side, tmp_path: Path) -> None:
    """One byte of an untouched page, in image or database, is one page that differs."""
    image = image_of_healthy(tmp_path)
    data = bytearray(image.path.read_bytes())
    data[7 * 1024 + 100] ^= 1
    image.path.write_bytes(data)
    found = compare(image, live, never)
    assert (found.match, found.mismatched) == ("differs", 1)


def test_doubt_is_unknown(live: Side, tmp_path: Path) -> None:
    """Where the WAL has gone or started over, pages that differ prove nothing, and equal pages still do."""
    image = image_of_healthy(tmp_path)
    wal = live.database.with_name(live.database.name + "-wal")
    wal.unlink()
    found = compare(image, live, never)
    assert (found.match, bool(found.reason)) in (("unknown", True), ("matches", False))
    data = bytearray(image.path.read_bytes())
    data[7 * 1024 + 100] ^= 1
    image.path.write_bytes(data)
    assert compare(image, live, never).match == "unknown"


@pytest.mark.parametrize("missing", ["database", "ltx"])
def test_no_live_side_is_unknown(missing: str, live: Side, tmp_path: Path) -> None:
    """A database or LTX folder that cannot be read makes the comparison unknown, with a reason; never an error."""
    gone = live._replace(**{missing: tmp_path / "nothing"})
    found = compare(image_of_healthy(tmp_path), gone, never)
    assert found.match == "unknown"
    assert found.reason
