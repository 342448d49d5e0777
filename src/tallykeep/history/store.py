"""The history file: what was scraped, for as long as it is kept, in one SQLite database.

    scrape    one row a round of scrapes: the tracked totals as they stood, and what each rose by
    point     every kept series at every scrape, for two days
    quarter   every kept series by quarter of an hour, in UTC
    day       the same by day of the zone
    tracked   the tracked totals by quarter of an hour: what the windows of day, week and month are summed from
    lifetime  what each tracked total has risen by since the first scrape: apart from retention, so it never falls
    memory    the last value of each counter's identities: what deltas go on from

All of one round is one transaction, rollups included, so a kill loses at most the running round and no figure is
ever half of one. No moment is taken twice: a round that meets one after a step of the clock moves on by
milliseconds. Methods block; one thread at a time. Not here: what a delta is (deltas.py), charts (series.py), what is
done about a damaged file (recovery.py).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

from tallykeep.errors import Corrupt, Unavailable
from tallykeep.history import schema
from tallykeep.history.deltas import Memory, Series
from tallykeep.history.periods import local_date, midnight
from tallykeep.history.rollups import rebuild_days, roll_up
from tallykeep.history.rounds import Round, Row, Total

BUSY = 5.0  # seconds to wait for another process that reads or backs up the file
_WAL_KEPT = 64 << 20  # bytes of write-ahead log that stay on disk

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class HistoryStore:
    """One history file, or with None for a path one in memory.

    Raises: Unavailable where it cannot be opened, read or written, or is another program's; Corrupt where it is
    damaged.
    """

    def __init__(self, path: Path | None, zone: ZoneInfo) -> None:
        self.path = path
        self.zone = zone
        self._ids: dict[tuple[str, Series], int] = {}
        with self.translated():
            self.db = sqlite3.connect(path or ":memory:", timeout=BUSY, isolation_level=None, check_same_thread=False)
            try:
                self._open()
            except BaseException:
                self.db.close()
                raise

    def _open(self) -> None:
        kind = schema.whose(self.db)
        if kind not in ("ours", "empty"):
            raise Unavailable(f"{self.path} is {kind}, no history of this program: set another path, or move it away")
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}")
        if kind == "empty":
            schema.create(self.db)
        for number, target, series in self.db.execute("SELECT id, target, series FROM series"):
            self._ids[target, series] = number
        self._set_zone()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                raise Corrupt(f"{self.path} is damaged: {error}") from error
            raise Unavailable(f"{self.path} cannot be used: {error}; free space or mend its permissions") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        with self.translated():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self.db.close()

    # --- writing

    def append(self, round: Round) -> None:
        """Keep a round, all of it or nothing. Its figures are finite."""
        known = len(self._ids)
        try:
            with self.transaction():
                moment = self._free_moment(round.moment)
                if round.totals:
                    self._put_totals(round, moment)
                self._put_points(round, moment)
                self._put_memories(round)
        except BaseException:
            for key in list(self._ids)[known:]:  # ids given in a transaction that never was
                del self._ids[key]
            raise

    def adopt(self, lifetimes: Mapping[str, float], tracked: Iterable[tuple[int, str, float, float]]) -> None:
        """Take over what is known of the past in a fresh file: lifetimes and (quarter, name, delta, highest)."""
        with self.transaction():
            self.db.executemany("INSERT OR REPLACE INTO lifetime VALUES (?, ?)", list(lifetimes.items()))
            self.db.executemany(
                "INSERT OR REPLACE INTO tracked VALUES (?, ?, ?, ?, ?)",
                [(name, quarter, highest, delta, highest) for quarter, name, delta, highest in tracked],
            )

    def _free_moment(self, moment: float) -> int:
        """Unix milliseconds that no round has yet, at or after a moment."""
        free = milliseconds(moment)
        taken = "SELECT EXISTS (SELECT 1 FROM scrape WHERE moment = ?) OR EXISTS (SELECT 1 FROM point WHERE moment = ?)"
        while self.db.execute(taken, (free, free)).fetchone()[0]:
            free += 1
        return free

    def _put_totals(self, round: Round, moment: int) -> None:
        totals = {name: [total.value, total.delta] for name, total in round.totals.items()}
        self.db.execute(
            "INSERT INTO scrape (moment, is_reset, totals, source) VALUES (?, ?, ?, ?)",
            (moment, int(round.is_reset), json.dumps(totals), round.source),
        )
        self.put_tracked((name, round.quarter, total) for name, total in round.totals.items())
        self.db.executemany(
            "INSERT INTO lifetime VALUES (?, ?) ON CONFLICT DO UPDATE SET total = total + excluded.total",
            [(name, total.delta) for name, total in round.totals.items() if not total.gauge],
        )

    def put_tracked(self, totals: Iterable[tuple[str, int, Total]]) -> None:
        """Count (name, quarter, total) in the quarters of tracked totals."""
        self.db.executemany(
            "INSERT INTO tracked VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET last = excluded.last, "
            "delta = delta + excluded.delta, highest = max(highest, excluded.highest)",
            [(name, quarter, t.value, 0.0 if t.gauge else t.delta, t.value) for name, quarter, t in totals],
        )

    def _put_points(self, round: Round, moment: int) -> None:
        if not round.points:
            return
        ids = self._ids
        rows = [
            (moment, ids.get((target, series)) or self.number_of(target, series, gauge=gauge), value, delta)
            for target, series, value, delta, gauge in round.points
        ]
        rows.sort()  # by id, as they lie in the file
        self.db.executemany("INSERT OR REPLACE INTO point VALUES (?, ?, ?, ?)", rows)
        day = int(midnight(local_date(round.moment, self.zone), self.zone))
        roll_up(self.db, moment, round.quarter, day)

    def _put_memories(self, round: Round) -> None:
        rows = [
            (self.number_of(target, m.series), *m[1:]) for target, changed in round.memories.items() for m in changed
        ]
        self.db.executemany("INSERT OR REPLACE INTO memory VALUES (?, ?, ?, ?)", rows)
        self.db.executemany("INSERT OR IGNORE INTO target VALUES (?, ?)", list(round.since.items()))

    def number_of(self, target: str, series: Series, *, gauge: bool = False) -> int:
        """The id of a series, given where it has none. In the running transaction."""
        number = self._ids.get((target, series))
        if number is None:
            insert = "INSERT INTO series (target, series, gauge) VALUES (?, ?, ?)"
            number = int(self.db.execute(insert, (target, series, int(gauge))).lastrowid or 0)
            self._ids[target, series] = number
        return number

    def _set_zone(self) -> None:
        """Make the rows of days anew where they were reckoned in another zone."""
        row = self.db.execute("SELECT value FROM meta WHERE key = 'zone'").fetchone()
        if row is not None and row[0] == self.zone.key:
            return
        with self.transaction():
            rebuild_days(self.db, self.zone)
            self.db.execute("INSERT OR REPLACE INTO meta VALUES ('zone', ?)", (self.zone.key,))

    # --- reading

    def rows(self, limit: int) -> list[Row]:
        """The newest rounds, oldest of them first, in the order of arrival."""
        with self.translated():
            found = self.db.execute(
                "SELECT moment, is_reset, totals FROM scrape ORDER BY id DESC LIMIT ?", (limit,)
            ).fetchall()
        return [
            Row(moment / 1000, bool(reset), {name: (v, d) for name, (v, d) in json.loads(totals).items()})
            for moment, reset, totals in reversed(found)
        ]

    def tracked(self, since: float) -> list[tuple[int, str, float, float]]:
        """(quarter, name, delta, highest) of every tracked total since a moment in Unix seconds."""
        with self.translated():
            return self.db.execute(
                "SELECT quarter, name, delta, highest FROM tracked WHERE quarter >= ?", (int(since),)
            ).fetchall()

    def lifetimes(self) -> dict[str, float]:
        """What each tracked total has risen by since the first scrape."""
        with self.translated():
            return dict(self.db.execute("SELECT name, total FROM lifetime"))

    def memories(self) -> dict[str, tuple[float, list[Memory]]]:
        """Of each target, when it was first scraped and the memories its deltas go on from."""
        with self.translated():
            found: dict[str, tuple[float, list[Memory]]] = {
                name: (since, []) for name, since in self.db.execute("SELECT name, since FROM target")
            }
            rows = self.db.execute(
                "SELECT target, s.series, created, value, seen FROM memory m JOIN series s ON s.id = m.series"
            )
            for target, *memory in rows:
                if target in found:
                    found[target][1].append(Memory(*memory))
        return found

    def forget_ids(self, gone: Iterable[int]) -> None:
        """Series with these ids are no longer in the file."""
        numbers = set(gone)
        for key in [key for key, number in self._ids.items() if number in numbers]:
            del self._ids[key]


def milliseconds(moment: float) -> int:
    """Unix milliseconds of a moment in Unix seconds."""
    return round(moment * 1000)
