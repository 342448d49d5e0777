"""History as a service: what survives a restart, a damaged file, a full disk, a file that cannot be opened."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from tests.support.clock import FakeClock
from tests.support.rounds import TARGET, UTC, at, round_of, spend

from tallykeep.errors import ConfigError, Corrupt
from tallykeep.history import service
from tallykeep.history.deltas import Counter
from tallykeep.history.keeper import TARGET as KEPT_TARGET
from tallykeep.history.keeper import Keeper
from tallykeep.history.rounds import Round, Total
from tallykeep.history.series import Query
from tallykeep.history.service import History
from tallykeep.history.store import HistoryStore
from tallykeep.metrics import Book, Catalogue, Distribution, Family, Kind, Snapshot
from tallykeep.runtime.board import Board
from tallykeep.units import COUNT

NOON = at("2026-09-30 12:00")
NAMES = {"cost": "spend_total", "in_flight_requests": "running"}
GAUGES = frozenset({"in_flight_requests"})


async def opened(path: Path | None, clock: FakeClock, *, ring: int = 168) -> History:
    return await History.open(path, zone=UTC, clock=clock, names=NAMES, gauges=GAUGES, ring=ring)


def error(history: History) -> str:
    """Why the file is not written; empty while it is."""
    return history.error or ""


def daily(history: History, clock: FakeClock) -> float:
    return history.windows(clock.time())["cost"]["daily"]


async def scrape(history: History, clock: FakeClock, value: float) -> None:
    """One page with one counter, kept as a round."""
    deltas = history.deltas(TARGET)
    (delta,), memories = deltas.take([Counter(b"spend_total", value, NOON - 9000)], clock.time())
    totals = {"cost": Total(value, delta.amount), "in_flight_requests": Total(2.0, 0.0, gauge=True)}
    points = [spend("a", delta.amount, value)]
    since = {TARGET: deltas.since or 0.0}
    await history.append(Round(clock.time(), totals, delta.reset, TARGET, points, {TARGET: memories}, since))
    await clock.advance(60)


async def test_a_fresh_history_knows_every_name(tmp_path: Path) -> None:
    """Before the first round every tracked total is there, as zero."""
    clock = FakeClock(NOON)
    history = await opened(tmp_path / "new" / "h.db", clock)
    zero = {"daily": 0.0, "weekly": 0.0, "monthly": 0.0}
    assert history.windows(NOON) == {"cost": zero, "in_flight_requests": zero}
    assert (history.lifetimes(), await history.rows(5), history.source) == ({"cost": 0.0}, [], "sqlite")
    await history.close()


async def test_a_restart_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Windows, lifetimes, rows and the baseline of every counter are there again; the time down is counted."""
    clock = FakeClock(NOON)
    history = await opened(tmp_path / "h.db", clock)
    for value in (1000, 1003):
        await scrape(history, clock, value)
    await history.close()
    history = await opened(tmp_path / "h.db", clock)
    await scrape(history, clock, 1010)
    assert daily(history, clock) == 10
    assert history.lifetimes() == {"cost": 10.0}
    assert history.windows(clock.time())["in_flight_requests"]["daily"] == 2
    assert [row.totals["cost"] for row in await history.rows(9)] == [(1000, 0), (1003, 3), (1010, 7)]
    await history.close()


async def test_a_damaged_file_is_set_aside_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A loud warning, the old bytes under a dated name, a fresh file that works."""
    path, clock = tmp_path / "h.db", FakeClock(NOON)
    path.write_bytes(b"this is no database" * 100)
    history = await opened(path, clock)
    assert history.aside == tmp_path / "h.db.corrupt-20260930T120000Z"
    assert history.aside.read_bytes() == b"this is no database" * 100
    assert (history.damaged, history.error, history.source) == (1, None, "sqlite")
    assert "set aside" in caplog.text
    await scrape(history, clock, 1)
    assert len(await history.rows(5)) == 1
    await history.close()


async def test_a_file_damaged_while_it_is_used_loses_no_total(tmp_path: Path) -> None:
    """The fresh file goes on with the lifetimes, the windows and the baselines that were known."""
    path, clock = tmp_path / "h.db", FakeClock(NOON)
    history = await opened(path, clock)
    for value in range(1000, 1030, 3):
        await scrape(history, clock, value)
    assert history._store is not None
    history._store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    history._store.db.execute("PRAGMA cache_size = 0")
    path.write_bytes(path.read_bytes()[:4096] + bytes(path.stat().st_size - 4096))
    await scrape(history, clock, 1030)
    assert (history.damaged, history.error, daily(history, clock)) == (1, None, 30)
    await history.close()
    again = await opened(path, clock)
    await scrape(again, clock, 1031)
    assert (again.lifetimes(), daily(again, clock)) == ({"cost": 31.0}, 31)
    await again.close()


async def test_a_disk_that_damages_every_file_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One fresh file a round, not one after another for ever; figures go on in memory."""
    clock = FakeClock(NOON)
    history = await opened(tmp_path / "h.db", clock)

    def damaged(*_: object) -> None:
        raise Corrupt("the file is damaged")

    monkeypatch.setattr(HistoryStore, "append", damaged)
    await scrape(history, clock, 1000)
    await scrape(history, clock, 1002)
    assert (error(history), history.damaged, daily(history, clock)) == ("the file is damaged", 2, 2)
    assert len(await history.rows(5)) == 2
    await history.close()


async def test_a_file_that_cannot_be_opened_is_served_from_memory(tmp_path: Path) -> None:
    """`error` says why; when the file can be opened after all, what was counted meanwhile joins what stood there."""
    path, clock = tmp_path / "h.db", FakeClock(NOON)
    history = await opened(path, clock)
    await scrape(history, clock, 1000)
    await scrape(history, clock, 1005)
    await history.close()
    path.rename(tmp_path / "elsewhere")
    path.mkdir()
    history = await opened(path, clock)
    for value in (1010, 1012):
        await scrape(history, clock, value)
    assert str(path) in error(history)
    assert (history.source, daily(history, clock), len(await history.rows(5))) == ("memory", 2, 2)
    assert (await history.series(Query("spend_total", NOON, NOON + 900, 900))).lines[0].values == [2]
    path.rmdir()
    (tmp_path / "elsewhere").rename(path)
    await scrape(history, clock, 1013)
    assert (history.source, error(history), daily(history, clock)) == ("sqlite", "", 8)
    assert (history.lifetimes(), len(await history.rows(9))) == ({"cost": 8.0}, 5)
    await history.close()


async def test_a_full_disk_loses_nothing_when_space_returns(tmp_path: Path) -> None:
    """`error` while SQLite says the disk is full; figures go on; every held round is written afterwards."""
    clock = FakeClock(NOON)
    history = await opened(tmp_path / "h.db", clock)
    await scrape(history, clock, 1000)
    assert history._store is not None
    (pages,) = history._store.db.execute("PRAGMA page_count").fetchone()
    history._store.db.execute(f"PRAGMA max_page_count = {pages}")
    big = [spend(str(n), 1.0) for n in range(500)]
    for _ in range(3):
        await history.append(round_of(clock.time(), 2.0, points=big))
        await clock.advance(60)
    assert "full" in error(history)
    assert (history.source, history.held, daily(history, clock)) == ("memory", 3, 6)
    assert [row.totals["cost"][1] for row in await history.rows(9)] == [0, 2, 2, 2]
    history._store.db.execute("PRAGMA max_page_count = 1000000")
    await scrape(history, clock, 1001)
    assert (history.source, error(history), history.held, daily(history, clock)) == ("sqlite", "", 0, 7)
    assert (await history.series(Query("spend_total", NOON, NOON + 900, 900))).lines[0].values == [1501]
    assert len(await history.rows(9)) == 5
    await history.close()


async def test_without_file_and_ring_history_is_disabled(tmp_path: Path) -> None:
    """Neither a file nor memory: the summary still counts, rows are none."""
    path, clock = tmp_path / "h.db", FakeClock(NOON)
    path.mkdir()
    history = await opened(path, clock, ring=0)
    await scrape(history, clock, 1000)
    assert (history.source, await history.rows(5)) == ("disabled", [])
    await history.close()


async def test_a_hung_disk_does_not_hang_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process holds the file: after some patience the round is held, and written when the file is free."""
    monkeypatch.setattr(service, "PATIENCE", 0.2)
    path, clock = tmp_path / "h.db", FakeClock(NOON)
    history = await opened(path, clock)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await scrape(history, clock, 1000)
    assert "does not answer" in error(history)
    other.execute("ROLLBACK")
    other.close()
    monkeypatch.setattr(service, "PATIENCE", 60)
    await history.append(Round(clock.time()))
    assert (error(history), history.held, len(await history.rows(5))) == ("", 0, 1)
    await history.close()


async def test_old_rounds_are_forgotten_every_hour(tmp_path: Path) -> None:
    """The service purges by itself; what is gone from the file is not gone from the lifetimes."""
    clock = FakeClock(NOON)
    history = await History.open(tmp_path / "h.db", zone=UTC, clock=clock, names=NAMES, retention=86400)
    await history.append(round_of(NOON - 3 * 86400))
    await history.append(round_of(NOON))
    purging = asyncio.create_task(history.run())
    async with asyncio.timeout(60):
        while len(await history.rows(5)) > 1:  # noqa: ASYNC110 - a purge sets no event
            await asyncio.sleep(0.01)
    purging.cancel()
    await asyncio.wait({purging})
    assert (len(await history.rows(5)), history.lifetimes()["cost"]) == (1, 2)
    await history.close()


async def test_reading_the_summary_does_not_touch_the_file(tmp_path: Path) -> None:
    """Windows and lifetimes come from memory: a closed file does not stop them."""
    clock = FakeClock(NOON)
    history = await opened(tmp_path / "h.db", clock)
    await scrape(history, clock, 1000)
    await scrape(history, clock, 1004)
    await history.close()
    assert (daily(history, clock), history.lifetimes()) == (4, {"cost": 4.0})


REQUESTS = Family("requests_total", Kind.COUNTER, COUNT, ("code",), "Requests.")
SIZE = Family("size", Kind.GAUGE, COUNT, (), "Size.")
STATE = Family("verdict", Kind.STATE_SET, COUNT, ("db",), "Verdict.", states=("good", "bad", "unknown"))
TIMES = Family("latency", Kind.HISTOGRAM, COUNT, (), "Latency.", buckets=(1.0,))
OTHER = Family("other", Kind.GAUGE, COUNT, (), "Other.")
FAMILIES = (REQUESTS, SIZE, STATE, TIMES, OTHER)


async def test_families_of_the_page_are_kept(tmp_path: Path) -> None:
    """Those listed, of every kind, as the Board believes them; an expired snapshot leaves a gap."""
    clock, book = FakeClock(NOON), Book()
    board = Board(Catalogue(FAMILIES), book, clock)
    history = await opened(tmp_path / "h.db", clock)
    keeper = Keeper(history, board, [f.name for f in FAMILIES if f is not OTHER], 60.0, clock)
    for count, until in ((10.0, 1e9), (25.0, clock.monotonic() + 1000)):
        samples = (
            REQUESTS(count, code="200"),
            SIZE(count * 2),
            STATE("good", db="x"),
            TIMES(Distribution((int(count), 0), count)),
            OTHER(1),
        )
        board.publish(Snapshot("c", "t", samples, clock.time(), until))
        await history.append(keeper.round(clock.time()))
        await clock.advance(900)
    await history.append(keeper.round(clock.time()))

    async def values(name: str, *by: str) -> list[list[float | None]]:
        found = await history.series(Query(name, NOON, NOON + 2700, 900, by))
        return [line.values for line in found.lines]

    assert await values("requests_total", "code", "target") == [[0, 15, None]]
    assert await values("size") == [[20, 50, None]]
    assert await values("verdict", "verdict") == [[0, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert await values("latency_count") == [[0, 15, None]]
    assert await values("other") == []
    assert history.deltas(KEPT_TARGET).since == NOON
    assert await history.rows(5) == []
    await history.close()


async def test_an_unknown_family_cannot_be_kept(tmp_path: Path) -> None:
    """A slip in `history: keep:` is an error at the start, with the name in it."""
    clock, book = FakeClock(NOON), Book()
    history = await opened(None, clock)
    with pytest.raises(ConfigError, match="sizes"):
        Keeper(history, Board(Catalogue(FAMILIES), book, clock), ["size", "sizes"], 60.0, clock)


async def test_the_keeper_keeps_its_pace(tmp_path: Path) -> None:
    """A round at once, then one an interval."""
    clock, book = FakeClock(NOON), Book()
    board = Board(Catalogue(FAMILIES), book, clock)
    board.publish(Snapshot("c", "t", (SIZE(1),), clock.time()))
    history = await opened(None, clock)
    running = asyncio.create_task(Keeper(history, board, ["size"], 60.0, clock).run())
    await clock.advance(180)
    running.cancel()
    await asyncio.wait({running})
    assert [round.moment for round in history._held.all()] == [NOON, NOON + 60, NOON + 120, NOON + 180]
