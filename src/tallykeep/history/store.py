"""The history file: what was scraped, for as long as it is kept, in one SQLite database.

    scrape    one row a round of scrapes: the tracked totals as they stood, and what each rose by
    point     every kept series at every scrape, for two days
    quarter   every kept series by quarter of an hour, in UTC
    day       the same by day of the zone
    tracked   the tracked totals by quarter of an hour: what the windows of day, week and month are summed from
    lifetime  what each tracked total has risen by since the first scrape: apart from retention, so it never falls
    memory    the last value of each counter's identities: what deltas go on from

All of one round is one transaction, rollups included, so a kill loses at most the running round and no figure is
ever half of one. Quarters of an hour serve every zone: none is off UTC by less. Methods block; one thread at a
time. Not here: what a delta is (deltas.py), where periods begin (periods.py).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tallykeep.errors import Corrupt, Unavailable
from tallykeep.history.deltas import Memory, Series

QUARTER = 900  # seconds
RAW_KEPT = 2 * 86400  # seconds of single points
_FORMAT = "1"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS scrape (
    moment INTEGER PRIMARY KEY,  -- Unix milliseconds
    is_reset INTEGER NOT NULL,
    totals TEXT NOT NULL,        -- {name: [value, delta]}
    source TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS tracked (
    name TEXT NOT NULL, quarter INTEGER NOT NULL, delta REAL NOT NULL, highest REAL NOT NULL,
    PRIMARY KEY (name, quarter)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lifetime (name TEXT PRIMARY KEY, total REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS series (id INTEGER PRIMARY KEY, target TEXT NOT NULL, series BLOB NOT NULL) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS series_by_name ON series (target, series);
CREATE TABLE IF NOT EXISTS point (
    moment INTEGER NOT NULL, series INTEGER NOT NULL, value REAL NOT NULL, delta REAL NOT NULL,
    PRIMARY KEY (moment, series)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quarter (
    series INTEGER NOT NULL, start INTEGER NOT NULL, last REAL NOT NULL, delta REAL NOT NULL, highest REAL NOT NULL,
    PRIMARY KEY (start, series)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS day (
    series INTEGER NOT NULL, start INTEGER NOT NULL, last REAL NOT NULL, delta REAL NOT NULL, highest REAL NOT NULL,
    PRIMARY KEY (series, start)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS memory (
    target TEXT NOT NULL, series BLOB NOT NULL, created REAL NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (target, series, created)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS target (name TEXT PRIMARY KEY, since REAL NOT NULL) STRICT, WITHOUT ROWID;
"""
_UPSERT = """
INSERT INTO {table} (series, start, last, delta, highest) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET last = excluded.last, delta = delta + excluded.delta,
                          highest = max(highest, excluded.highest)
"""


class Point(NamedTuple):
    """One kept series of one target at one scrape."""

    target: str
    series: Series
    value: float
    delta: float  # 0 for the first look; the change, for a gauge


class Total(NamedTuple):
    """One tracked total of a round."""

    value: float  # as it stands on the pages, summed over series and targets
    delta: float  # what it rose by; for a gauge its change
    gauge: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    """Everything one round of scrapes brings."""

    moment: float  # Unix seconds
    totals: Mapping[str, Total]
    is_reset: bool
    source: str
    points: Sequence[Point] = ()
    memories: Mapping[str, Sequence[Memory]] = field(default_factory=dict)  # target -> those that changed
    since: Mapping[str, float] = field(default_factory=dict)  # target -> Unix seconds of its first scrape


class Row(NamedTuple):
    """A round as it is read back."""

    moment: float
    is_reset: bool
    totals: Mapping[str, tuple[float, float]]  # name -> value, delta


class HistoryStore:
    """One history file, or one in memory.

    Raises: Unavailable where it cannot be opened or written, Corrupt where it is no such file.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._ids: dict[tuple[str, Series], int] = {}
        try:
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (_FORMAT,))
            for number, target, series in self._db.execute("SELECT id, target, series FROM series"):
                self._ids[target, series] = number
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error

    def _translated(self, error: sqlite3.DatabaseError) -> Unavailable | Corrupt:
        if isinstance(error, sqlite3.OperationalError):
            return Unavailable(f"{self.path} cannot be used: {error}; free space or mend its permissions")
        return Corrupt(f"{self.path} is damaged: {error}")

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._db.close()

    # --- writing

    def append(self, round: Round, day: int) -> None:
        """Keep a round, all of it or nothing. `day`: Unix seconds at which its day began in the zone."""
        fresh: list[tuple[str, Series]] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._put_totals(round)
                self._put_points(round, day, fresh)
                self._put_memories(round)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                for key in fresh:
                    del self._ids[key]
                raise
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error

    def _put_totals(self, round: Round) -> None:
        totals = {name: [total.value, total.delta] for name, total in round.totals.items()}
        self._db.execute(
            "INSERT OR REPLACE INTO scrape VALUES (?, ?, ?, ?)",
            (round_ms(round.moment), int(round.is_reset), json.dumps(totals), round.source),
        )
        quarter = int(round.moment) // QUARTER * QUARTER
        self._db.executemany(
            "INSERT INTO tracked VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "delta = delta + excluded.delta, highest = max(highest, excluded.highest)",
            [(name, quarter, 0.0 if t.gauge else t.delta, t.value) for name, t in round.totals.items()],
        )
        self._db.executemany(
            "INSERT INTO lifetime VALUES (?, ?) ON CONFLICT DO UPDATE SET total = total + excluded.total",
            [(name, total.delta) for name, total in round.totals.items() if not total.gauge],
        )

    def _put_points(self, round: Round, day: int, fresh: list[tuple[str, Series]]) -> None:
        moment, quarter = round_ms(round.moment), int(round.moment) // QUARTER * QUARTER
        numbered = [(self._id(p.target, p.series, fresh), p.value, p.delta) for p in round.points]
        self._db.executemany("INSERT OR REPLACE INTO point VALUES (?, ?, ?, ?)", [(moment, *n) for n in numbered])
        for table, start in (("quarter", quarter), ("day", day)):
            self._db.executemany(_UPSERT.format(table=table), [(n, start, v, d, v) for n, v, d in numbered])

    def _put_memories(self, round: Round) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO memory VALUES (?, ?, ?, ?)",
            [(target, m.series, m.created, m.value) for target, changed in round.memories.items() for m in changed],
        )
        self._db.executemany("INSERT OR IGNORE INTO target VALUES (?, ?)", list(round.since.items()))

    def _id(self, target: str, series: Series, fresh: list[tuple[str, Series]]) -> int:
        key = (target, series)
        number = self._ids.get(key)
        if number is None:
            cursor = self._db.execute("INSERT INTO series (target, series) VALUES (?, ?)", key)
            number = self._ids[key] = int(cursor.lastrowid or 0)
            fresh.append(key)
        return number

    def purge(self, now: float, retention: float) -> None:
        """Forget points older than two days, and everything else older than `retention` seconds, but lifetimes."""
        oldest = now - retention
        try:
            with self._db:
                self._db.execute("DELETE FROM point WHERE moment < ?", (round_ms(now - RAW_KEPT),))
                self._db.execute("DELETE FROM scrape WHERE moment < ?", (round_ms(oldest),))
                self._db.execute("DELETE FROM quarter WHERE start < ?", (int(oldest),))
                self._db.execute("DELETE FROM tracked WHERE quarter < ?", (int(oldest) - 32 * 86400,))
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error

    # --- reading

    def rows(self, limit: int) -> list[Row]:
        """The newest rounds, oldest of them first."""
        found = self._db.execute(
            "SELECT moment, is_reset, totals FROM scrape ORDER BY moment DESC LIMIT ?", (limit,)
        ).fetchall()
        return [
            Row(moment / 1000, bool(reset), {name: (v, d) for name, (v, d) in json.loads(totals).items()})
            for moment, reset, totals in reversed(found)
        ]

    def window(self, since: float) -> dict[str, tuple[float, float]]:
        """(sum of deltas, highest value) of each tracked total since a quarter of an hour, in Unix seconds."""
        rows = self._db.execute(
            "SELECT name, sum(delta), max(highest) FROM tracked WHERE quarter >= ? GROUP BY name", (int(since),)
        )
        return {name: (delta, highest) for name, delta, highest in rows}

    def lifetimes(self) -> dict[str, float]:
        """What each tracked total has risen by since the first scrape."""
        return dict(self._db.execute("SELECT name, total FROM lifetime"))

    def memories(self) -> dict[str, tuple[float, list[Memory]]]:
        """Of each target, when it was first scraped and the memories its deltas go on from."""
        found: dict[str, tuple[float, list[Memory]]] = {
            name: (since, []) for name, since in self._db.execute("SELECT name, since FROM target")
        }
        for target, series, created, value in self._db.execute("SELECT target, series, created, value FROM memory"):
            if target in found:
                found[target][1].append(Memory(series, created, value))
        return found

    def named(self, names: Iterable[bytes]) -> list[tuple[int, str, Series]]:
        """(id, target, series) of every kept series whose samples have one of these names."""
        wanted = set(names)
        return [(n, target, s) for (target, s), n in self._ids.items() if s.partition(b"{")[0] in wanted]


def round_ms(moment: float) -> int:
    """Unix milliseconds."""
    return round(moment * 1000)
