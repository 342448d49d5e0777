"""Databases of litellm-pulse, as its releases make them, become histories of ours."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.clock import FakeClock
from tests.support.rounds import UTC, at, round_of

from tallykeep.errors import Unavailable
from tallykeep.history import migrate
from tallykeep.history.migrate import migrate_if_needed
from tallykeep.history.series import Query
from tallykeep.history.service import History
from tallykeep.history.store import HistoryStore

NOON = at("2026-09-30 12:00")
NAMES = {"cost": "litellm_spend_metric_total", "requests": "litellm_proxy_total_requests_metric_total"}
EIGHT = (
    "requests", "failed_requests", "tokens", "input_tokens", "output_tokens", "reasoning_tokens", "cost",
    "in_flight_requests",
)  # fmt: skip
FOUR_MORE = ("cache_hits", "cache_misses", "cached_tokens", "input_cached_tokens")


def old_database(path: Path, version: str, scrapes: int = 3) -> sqlite3.Connection:
    """A database as litellm-pulse 0.2 or 0.3 leaves it: WAL, one row a minute, the last ones not yet in the file."""
    names = EIGHT if version == "0.2" else EIGHT + FOUR_MORE
    raw, delta = ([f"{kind}_{name} REAL DEFAULT 0" for name in names] for kind in ("raw", "delta"))
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(
        "CREATE TABLE scrapes (id INTEGER PRIMARY KEY AUTOINCREMENT, ts INTEGER NOT NULL, is_reset INTEGER DEFAULT 0, "
        + ", ".join([*raw, *delta]) + ")"
    )  # fmt: skip
    db.execute("CREATE INDEX idx_scrapes_ts ON scrapes(ts)")
    if version == "0.3":
        db.execute(
            "CREATE TABLE model_snapshots (id INTEGER PRIMARY KEY AUTOINCREMENT, ts INTEGER NOT NULL, model TEXT NOT "
            "NULL, metric TEXT NOT NULL, raw REAL DEFAULT 0, delta REAL DEFAULT 0, is_reset INTEGER DEFAULT 0)"
        )
    for number in range(scrapes):
        ts = int(NOON) + 60 * number
        values = "raw_cost, delta_cost, raw_requests, delta_requests, raw_in_flight_requests"
        db.execute(
            f"INSERT INTO scrapes (ts, is_reset, {values}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (ts, int(number == 1), 10.0 + number, float(number), 100.0 + number, float(number), 7.0 - number),
        )
        if version == "0.3":
            for model in ('gpt-"4"', "claude"):
                db.execute(
                    "INSERT INTO model_snapshots (ts, model, metric, raw, delta) VALUES (?, ?, 'cost', ?, ?)",
                    (ts, model, 5.0 + number, float(number) / 2),
                )
    return db


@pytest.mark.parametrize("version", ["0.2", "0.3"])
async def test_an_upgrade_keeps_its_history(tmp_path: Path, version: str) -> None:
    """Rows, windows, lifetimes and (0.3) models are there; the old file lies whole in .bak, its WAL included."""
    path, clock = tmp_path / "litellm_pulse.db", FakeClock(NOON + 600)
    old_database(path, version).close()
    rows = old_database(tmp_path / "twin.db", version).execute("SELECT * FROM scrapes").fetchall()
    history = await History.open(path, zone=UTC, clock=clock, names=NAMES, gauges=frozenset({"in_flight_requests"}))
    assert (history.error, history.source, history.damaged) == (None, "sqlite", 0)
    found = await history.rows(10)
    assert [(row.moment, row.is_reset, row.totals["cost"]) for row in found] == [
        (NOON, False, (10, 0)),
        (NOON + 60, True, (11, 1)),
        (NOON + 120, False, (12, 2)),
    ]
    assert ("cache_hits" in found[0].totals) is (version == "0.3")
    windows = history.windows(clock.time())
    assert (windows["cost"]["daily"], windows["in_flight_requests"]["daily"]) == (3, 7)
    assert history.lifetimes()["cost"] == 3
    if version == "0.3":
        chart = await history.series(Query(NAMES["cost"], NOON, NOON + 900, 900, ("model",)))
        assert [(line.labels["model"], line.values) for line in chart.lines] == [("claude", [1.5]), ('gpt-"4"', [1.5])]
        assert (await history.series(Query(NAMES["cost"], NOON - 43200, NOON + 900, 86400))).lines[0].values == [3]
    await history.append(round_of(clock.time(), 5.0))
    assert history.lifetimes()["cost"] == 8
    await history.close()
    with closing(sqlite3.connect(path.with_name(path.name + ".bak"))) as backup:
        assert backup.execute("SELECT * FROM scrapes").fetchall() == rows


def test_rows_only_in_the_write_ahead_log_are_taken_over(tmp_path: Path) -> None:
    """What litellm-pulse had committed but not checkpointed when it was killed is in the copy and in the history."""
    path = tmp_path / "p.db"
    db = old_database(path, "0.2")
    for end in ("", "-wal"):
        (tmp_path / f"killed.db{end}").write_bytes((tmp_path / f"p.db{end}").read_bytes())
    db.close()
    killed = tmp_path / "killed.db"
    backup = migrate_if_needed(killed, UTC, NAMES)
    assert backup is not None
    assert len(HistoryStore(killed, UTC).rows(10)) == 3
    with closing(sqlite3.connect(backup)) as copy:
        assert copy.execute("SELECT count(*) FROM scrapes").fetchone() == (3,)


def test_two_scrapes_of_one_second_stay_two(tmp_path: Path) -> None:
    """Seconds become milliseconds, and no row replaces another."""
    path = tmp_path / "p.db"
    db = old_database(path, "0.2")
    db.execute("UPDATE scrapes SET ts = ?", (int(NOON),))
    db.close()
    migrate_if_needed(path, UTC, NAMES)
    assert [row.moment for row in HistoryStore(path, UTC).rows(10)] == [NOON, NOON + 0.001, NOON + 0.002]


def test_what_is_no_database_of_litellm_pulse_is_left_alone(tmp_path: Path) -> None:
    """Nothing there, an empty file, a history of ours: nothing is done, no copy is made."""
    (tmp_path / "empty.db").touch()
    HistoryStore(tmp_path / "ours.db", UTC).close()
    for name in ("none.db", "empty.db", "ours.db"):
        assert migrate_if_needed(tmp_path / name, UTC, NAMES) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.db", "ours.db"]


def test_a_database_in_use_is_not_taken_from_under_litellm_pulse(tmp_path: Path) -> None:
    """While litellm-pulse still has it open the file stays its own; afterwards it is taken over."""
    path = tmp_path / "p.db"
    db = old_database(path, "0.2")
    with pytest.raises(Unavailable, match="taken over"):
        migrate_if_needed(path, UTC, NAMES)
    assert db.execute("SELECT count(*) FROM scrapes").fetchone() == (3,)
    db.close()
    assert migrate_if_needed(path, UTC, NAMES) is not None


@pytest.mark.parametrize("step", ["_back_up", "_write_aside", "_put_in_place"])
def test_a_stop_at_any_step_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Stopped before any of its steps, the next start takes the file over as if it were the first."""
    path = tmp_path / "p.db"
    old_database(path, "0.3").close()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(migrate, step, stop)
        with pytest.raises(KeyboardInterrupt):
            migrate_if_needed(path, UTC, NAMES)
    with closing(sqlite3.connect(path)) as old:
        assert old.execute("SELECT count(*) FROM scrapes").fetchone() == (3,)
    assert migrate_if_needed(path, UTC, NAMES) is not None
    assert len(HistoryStore(path, UTC).rows(10)) == 3


async def test_a_damaged_database_of_litellm_pulse_is_set_aside(tmp_path: Path) -> None:
    """It opens fresh, as litellm-pulse's own documentation promises, but the old bytes are kept."""
    path, clock = tmp_path / "p.db", FakeClock(NOON)
    old_database(path, "0.2", 500).close()
    data = path.read_bytes()
    path.write_bytes(data[:8192] + b"\xff" * (len(data) - 8192))
    history = await History.open(path, zone=UTC, clock=clock, names=NAMES)
    assert (history.damaged, history.error) == (1, None)
    assert history.aside is not None
    assert history.aside.stat().st_size == len(data)
    await history.close()
