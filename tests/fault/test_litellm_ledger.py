"""What is kept of a database, in trouble: full disks, damage, another database, longer windows, restarts."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from tests.support.litellm import LitellmWatch, Tables, reading
from tests.support.postgres import MakeDatabase

from tallykeep.demo.postgres import PostgresServer
from tallykeep.systems.litellm.keeping import path_of

pytestmark = pytest.mark.server
HOURS = 3600.0


def with_rows(url: str, *ages: float, key: str = "k") -> None:
    """A request of half a dollar at each age in seconds."""
    now = time.time()
    with Tables(url) as tables:
        for age in ages:
            tables.request(now - age, api_key=key)


def spent(watch: LitellmWatch) -> tuple[float | None, float | None]:
    """Window and counter."""
    return (
        watch.value("litellm_total_spend", model="gpt-4o"),
        watch.value("litellm_spend_dollars_total", model="gpt-4o"),
    )


@contextmanager
def _no_file_may_grow(state: Path) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _no_room(state: Path) -> Iterator[None]:
    fill = state / "fill"
    with fill.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    try:
        yield
    finally:
        fill.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs takes root; the limit on file sizes is tried instead")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def _full(url: str, state: Path, full: Callable[[Path], AbstractContextManager[None]]) -> None:
    with_rows(url, 5 * HOURS, 60)
    async with LitellmWatch(reading(url), state) as watch:
        await watch.works()
        assert spent(watch) == (1.0, 1.0)
        with full(state):
            with_rows(url, 50)
            await watch.fails("unavailable")
            await watch.fails("unavailable")
        await watch.works()
        assert spent(watch) == (1.5, 1.5)
    async with LitellmWatch(reading(url), state) as watch:
        await watch.works()
        assert spent(watch) == (1.5, 1.5)


async def test_full_disk(litellm_database: MakeDatabase, small_disk: Path) -> None:
    """What cannot be kept is not shown: code unavailable; once there is room again everything is counted, once."""
    await _full(litellm_database(), small_disk, _no_room)


async def test_files_that_may_not_grow(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """The same where writing fails for another reason."""
    await _full(litellm_database(), tmp_path / "state", _no_file_may_grow)


async def test_full_disk_at_the_start(litellm_database: MakeDatabase, small_disk: Path) -> None:
    """A disk that is full from the start: unavailable, and figures as soon as there is room."""
    url = litellm_database()
    with_rows(url, 5 * HOURS, 60)
    async with LitellmWatch(reading(url), small_disk) as watch:
        with _no_room(small_disk):
            await watch.fails("unavailable")
        await watch.works()
        assert spent(watch) == (1.0, 1.0)


@pytest.mark.parametrize("damage", ["not a database", "a block", "the counters", "a page"])
async def test_damaged_ledger(litellm_database: MakeDatabase, tmp_path: Path, damage: str) -> None:
    """A ledger that does not read is set aside, never deleted, and figures are right from the first one shown."""
    url = litellm_database()
    with_rows(url, 5 * HOURS, 60)
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.works()
    path = path_of(tmp_path, "default")
    if damage == "not a database":
        path.write_bytes(b"no ledger " * 1000)
    elif damage == "a page":
        data = bytearray(path.read_bytes())
        data[4096 + 8 : -4096] = b"\xff" * (len(data) - 8192 - 8)
        path.write_bytes(data)
    else:
        with sqlite3.connect(path) as connection:
            if damage == "a block":
                connection.execute("UPDATE block SET cells = x'00ff00ff'")
            else:
                connection.execute("INSERT OR REPLACE INTO base VALUES (999999, '[1]')")
        connection.close()
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.works()
        assert spent(watch) == (1.0, 1.0)
    assert len(list(path.parent.glob(f"{path.name}.corrupt-*"))) == 1


async def test_another_database_of_the_same_name(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """A ledger whose newest hours do not stand in the database is not this database's: it is set aside."""
    first, second = litellm_database(), litellm_database()
    with_rows(first, 9 * HOURS, 5 * HOURS, 60)
    with_rows(second, 8 * HOURS)
    async with LitellmWatch(reading(first), tmp_path) as watch:
        await watch.works()
    async with LitellmWatch(reading(second), tmp_path) as watch:
        await watch.works()
        assert spent(watch) == (0.5, 0.5)
    path = path_of(tmp_path, "default")
    assert len(list(path.parent.glob(f"{path.name}.other-*"))) == 1


async def test_a_database_that_was_moved(
    postgres: PostgresServer, litellm_database: MakeDatabase, tmp_path: Path
) -> None:
    """A copy of the database under another name goes on with the ledger: counters keep what has been deleted since."""
    url = litellm_database()
    with_rows(url, 9 * HOURS, 5 * HOURS, 60)
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.works()
    name = url.rpartition("/")[2]
    moved = copied(postgres, name)
    try:
        with Tables(moved) as tables:
            tables.run(
                """DELETE FROM "LiteLLM_SpendLogs" WHERE "startTime" < now() AT TIME ZONE 'UTC' - interval '6h'"""
            )
        async with LitellmWatch(reading(moved), tmp_path) as watch:
            await watch.works()
            assert spent(watch)[1] == 1.5
        path = path_of(tmp_path, "default")
        assert [found.name for found in path.parent.glob("*.sqlite*") if "other" in found.name] == []
    finally:
        postgres.drop_database(f"{name}_moved")


def copied(postgres: PostgresServer, name: str) -> str:
    """A copy of a database, once the server has noticed that nobody is there any more: it waits for 5 s itself."""
    for _ in range(8):
        with suppress(psycopg.errors.ObjectInUse):
            return postgres.create_database(f"{name}_moved", name)
    raise AssertionError(f"{name} is still in use")


async def test_a_longer_window_after_a_restart(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """A longer spend window reads the history it needs; the counters do not jump by it, and still count late rows."""
    url = litellm_database()
    day = 24 * HOURS
    with_rows(url, 70 * day, 50 * day, 40 * day, 3 * day, 60)
    async with LitellmWatch(reading(url, spend_window=45 * 86400), tmp_path) as watch:
        await watch.works()
        assert spent(watch) == (1.5, 1.5)
    async with LitellmWatch(reading(url, spend_window=60 * 86400), tmp_path) as watch:
        await watch.works()
        assert spent(watch) == (2.0, 1.5)
    async with LitellmWatch(reading(url, spend_window=30 * 86400), tmp_path) as watch:
        await watch.works()
        assert spent(watch) == (1.0, 1.5)
    async with LitellmWatch(reading(url, spend_window=90 * 86400, interval=0.02), tmp_path) as watch:
        await watch.works()
        assert spent(watch) == (2.5, 1.5)
        with_rows(url, 89 * day)  # checks begin with the oldest hour
        await watch.until(lambda: spent(watch) == (3.0, 2.0), "the late row", timeout=60)


async def test_two_databases(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """Several databases: every family has the label `database`, and one that fails takes nothing from the other."""
    first, second = litellm_database(), litellm_database()
    with_rows(first, 60)
    with_rows(second, 60, 50)
    async with LitellmWatch(reading(first, second), tmp_path) as watch:
        await watch.works()
        await watch.until(lambda: watch.value("litellm_total_spend", database="second") == 1.0, "the second")
        assert watch.value("litellm_total_spend", database="default") == 0.5
        for line in watch.page().decode().splitlines():
            if line.startswith("litellm_"):
                assert 'database="default"' in line or 'database="second"' in line
        with Tables(second) as tables:
            tables.run('ALTER TABLE "LiteLLM_SpendLogs" RENAME TO hidden')
        await watch.until(lambda: watch.value("litellm_total_spend", database="second") is None, "the second is gone")
        assert watch.value("litellm_total_spend", database="default") == 0.5
        page = watch.page().decode()
        assert page.count("# TYPE litellm_total_spend ") == 1


async def test_one_connection_and_no_state(litellm_database: MakeDatabase) -> None:
    """A pool of one connection is enough, and a state in memory, where nothing may be written, as well."""
    url = litellm_database()
    with_rows(url, 40 * 24 * HOURS, 29 * 24 * HOURS, 5 * HOURS, 60)
    async with LitellmWatch(reading(url, connections_max=1)) as watch:
        await watch.works()
        assert spent(watch) == (1.5, 1.5)
        with_rows(url, 50)
        await watch.works()
        assert spent(watch) == (2.0, 2.0)


@pytest.mark.parametrize("until", [None, "baseline"])
async def test_empty_database(litellm_database: MakeDatabase, tmp_path: Path, until: str | None) -> None:
    """A database without a row: no figure but that there is nothing, and no failure; newest and oldest schema."""
    async with LitellmWatch(reading(litellm_database(until)), tmp_path) as watch:
        await watch.works()
        assert watch.up
        assert spent(watch) == (None, None)
        assert not watch.failures("internal")
