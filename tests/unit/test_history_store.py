"""The history file: whole rounds, rollups, moments, retention."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from tests.support.rounds import BERLIN, TARGET, UTC, at, round_of, running, spend, total_in

from tallykeep.errors import Corrupt, Unavailable
from tallykeep.history import purge
from tallykeep.history.deltas import Memory
from tallykeep.history.purge import purge_some
from tallykeep.history.rounds import QUARTER, Round
from tallykeep.history.store import HistoryStore
from tallykeep.history.windows import KEPT

NOON = at("2026-09-30 12:00")


def purge_all(store: HistoryStore, now: float, retention: float) -> int:
    steps = 1
    while purge_some(store, now, retention):
        steps += 1
    return steps


def count(store: HistoryStore, table: str) -> int:
    return int(store.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_a_round_is_in_every_table(tmp_path: Path) -> None:
    """Totals, points, both rollups, lifetime and memory are written together and read back after a restart."""
    store = HistoryStore(tmp_path / "h.db", UTC)
    memory = Memory(spend("a", 0).series, 5.0, 10.0, NOON)
    points = [spend("a", 2.0), running("a", 3.0)]
    plain = round_of(NOON, 2.0, flight=3, points=points)
    store.append(Round(plain.moment, plain.totals, True, TARGET, points, {TARGET: [memory]}, {TARGET: NOON - 5}))
    store.close()
    store = HistoryStore(tmp_path / "h.db", UTC)
    (row,) = store.rows(10)
    assert (row.moment, row.is_reset) == (NOON, True)
    assert row.totals == {"cost": (100.0, 2.0), "in_flight_requests": (3.0, 0.0)}
    assert store.lifetimes() == {"cost": 2.0}
    assert store.memories() == {TARGET: (NOON - 5, [memory])}
    for table in ("point", "quarter", "day"):
        assert (count(store, table), total_in(store, table)) == (2, 2.0)


def test_rollups_add_up(tmp_path: Path) -> None:
    """An hour of minutes is four quarters and one day; last and highest are those of the values."""
    store = HistoryStore(tmp_path / "h.db", UTC)
    for minute in range(60):
        store.append(round_of(NOON + 60 * minute, points=[spend("a", 1.0, minute), running("a", 59 - minute)]))
    assert (count(store, "quarter"), count(store, "day")) == (8, 2)
    for table in ("point", "quarter", "day", "tracked"):
        assert total_in(store, table) == 60
    rows = store.db.execute(
        "SELECT gauge, last, highest FROM day JOIN series s ON s.id = day.series ORDER BY gauge"
    ).fetchall()
    assert rows == [(0, 59.0, 59.0), (1, 0.0, 59.0)]


def test_no_moment_is_lost_when_the_clock_steps_back(tmp_path: Path) -> None:
    """An hour lived twice keeps both its rounds, in the order they came."""
    store = HistoryStore(tmp_path / "h.db", UTC)
    for _ in range(2):
        for minute in range(60):
            store.append(round_of(NOON + 60 * minute, points=[spend("a", 1.0)]))
    assert [count(store, table) for table in ("scrape", "point")] == [120, 120]
    assert [total_in(store, table) for table in ("point", "quarter", "day", "tracked")] == [120] * 4
    moments = [row.moment for row in store.rows(61)]
    assert moments[0] == NOON + 59 * 60
    assert moments[1:3] == [NOON + 0.001, NOON + 60.001]


def test_points_of_two_writers_at_one_moment(tmp_path: Path) -> None:
    """Rounds without totals, as kept families have them, share the file with scrapes and lose nothing."""
    store = HistoryStore(tmp_path / "h.db", UTC)
    store.append(round_of(NOON, points=[spend("a", 1.0)]))
    store.append(Round(NOON, points=[spend("a", 1.0), running("b", 1.0)]))
    assert (count(store, "scrape"), count(store, "point"), total_in(store, "day")) == (1, 3, 2)


def test_a_failed_round_leaves_nothing(tmp_path: Path) -> None:
    """Whatever stops a round in its middle, no table has a part of it, and the next one is whole."""
    store = HistoryStore(tmp_path / "h.db", UTC)
    store.db.execute("CREATE TEMP TRIGGER stop BEFORE INSERT ON memory BEGIN SELECT raise(ABORT, 'full'); END")
    memory = {TARGET: [Memory(b"m", 0.0, 1.0, NOON)]}
    with pytest.raises(Unavailable):
        store.append(Round(NOON, round_of(NOON).totals, points=[spend("a", 1.0)], memories=memory))
    assert sum(count(store, table) for table in ("scrape", "series", "point", "quarter", "day", "lifetime")) == 0
    store.db.execute("DROP TRIGGER stop")
    store.append(Round(NOON, round_of(NOON).totals, points=[spend("a", 1.0)], memories=memory))
    assert [count(store, table) for table in ("scrape", "series", "point", "day")] == [1, 2, 1, 1]


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_rows_of_days_are_the_zones(tmp_path: Path, day: str, hours: int) -> None:
    """A day of 23 or 25 hours has all its rounds and no other."""
    store = HistoryStore(tmp_path / "h.db", BERLIN)
    first = at(f"{day} 00:00", BERLIN)
    for hour in range(-1, hours + 1):
        store.append(round_of(first + 3600 * hour, points=[spend("a", 1.0)]))
    assert store.db.execute("SELECT delta FROM day WHERE start = ?", (int(first),)).fetchone() == (hours,)
    assert count(store, "day") == 3


def test_a_changed_zone_rebuilds_the_days(tmp_path: Path) -> None:
    """Opened in another zone, rows of days are as if they had been kept in it from the beginning."""
    there = ZoneInfo("Asia/Kathmandu")
    moments = [NOON + 5000 * n for n in range(100)]
    for name, zone in (("moved.db", BERLIN), ("there.db", there)):
        store = HistoryStore(tmp_path / name, zone)
        for number, moment in enumerate(moments):
            store.append(round_of(moment, points=[spend("a", 1.0, number), running("b", number % 5)]))
        store.close()
    moved, stayed = (HistoryStore(tmp_path / name, there) for name in ("moved.db", "there.db"))
    rows = [store.db.execute("SELECT * FROM day ORDER BY start, series").fetchall() for store in (moved, stayed)]
    assert rows[0] == rows[1]
    assert len(rows[0]) > 10


def test_retention_forgets_all_but_lifetimes(tmp_path: Path) -> None:
    """Points go after two days, everything else after retention; what was counted in all stays."""
    store = HistoryStore(tmp_path / "h.db", UTC)
    for hour in range(10 * 24):
        store.append(round_of(NOON + 3600 * hour, points=[spend("a", 1.0)]))
    now = NOON + 10 * 86400
    purge_all(store, now, 5 * 86400)
    assert (count(store, "point"), count(store, "scrape"), count(store, "quarter")) == (48, 120, 120)
    assert count(store, "day") <= 7
    assert store.lifetimes() == {"cost": 240.0}
    assert total_in(store, "tracked") == 240, "windows of a month outlive a short retention"
    purge_all(store, now + KEPT + 86400, 5 * 86400)
    assert count(store, "series") == count(store, "tracked") == count(store, "scrape") == 0
    assert store.lifetimes() == {"cost": 240.0}
    store.append(round_of(now + KEPT + 86400, points=[spend("a", 1.0)]))
    assert (count(store, "series"), total_in(store, "day")) == (1, 1)


def test_forgetting_goes_in_bounded_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No step forgets more than its share and one round, so a round never waits for thousands of others."""
    monkeypatch.setattr(purge, "STEP", 50)
    store = HistoryStore(tmp_path / "h.db", UTC)
    for minute in range(100):
        store.append(round_of(NOON + 60 * minute, points=[spend(str(n), 1.0) for n in range(10)]))
    assert purge_some(store, NOON + 3 * 86400, 90 * 86400)
    assert 1000 - 60 <= count(store, "point") < 1000
    assert purge_all(store, NOON + 3 * 86400, 90 * 86400) > 15
    assert (count(store, "point"), total_in(store, "quarter")) == (0, 1000)


def test_a_memory_outlives_a_short_retention(tmp_path: Path) -> None:
    """An identity seen lately is not forgotten with its points: it would be counted whole when it comes again."""
    store = HistoryStore(tmp_path / "h.db", UTC)
    memories = {TARGET: [Memory(b"a", 0.0, 5.0, NOON), Memory(b"b", 0.0, 5.0, NOON - 40 * 86400)]}
    store.append(Round(NOON, memories=memories, since={TARGET: NOON}))
    purge_all(store, NOON + 10 * 86400, 86400)
    assert [memory.series for memory in store.memories()[TARGET][1]] == [b"a"]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """Another program's database, and a history of a newer format, are not touched."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE letters (text TEXT)")
    before = path.read_bytes()
    with pytest.raises(Unavailable, match="other"):
        HistoryStore(path, UTC)
    assert path.read_bytes() == before
    store = HistoryStore(tmp_path / "newer.db", UTC)
    store.db.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(Unavailable, match="newer"):
        HistoryStore(tmp_path / "newer.db", UTC)


@pytest.mark.parametrize("damage", ["nonsense", "middle"])
def test_damage_is_told_from_what_may_pass(tmp_path: Path, damage: str) -> None:
    """A file that is no database, or has foreign bytes in its pages, is Corrupt; a folder in its place Unavailable."""
    path = tmp_path / "h.db"
    store = HistoryStore(path, UTC)
    for minute in range(200):
        store.append(round_of(NOON + 60 * minute))
    store.close()
    data = bytearray(path.read_bytes())
    if damage == "nonsense":
        data[:100] = b"x" * 100
    else:
        data[4096:] = bytes(len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(Corrupt):
        HistoryStore(path, UTC).rows(1000)
    with pytest.raises(Unavailable):
        HistoryStore(tmp_path, UTC)


def test_quarters_suit_every_midnight() -> None:
    """A quarter of an hour divides the day."""
    assert 86400 % QUARTER == 0
