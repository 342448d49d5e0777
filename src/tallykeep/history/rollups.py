"""Rollups: points added up by quarter of an hour in UTC, and by day of the zone.

Of a counter the increases are summed; of a gauge the last and the highest value stand. Runs inside the caller's
transaction. Raises: sqlite3.Error.
"""

from __future__ import annotations

import sqlite3
from zoneinfo import ZoneInfo

from tallykeep.history.periods import days
from tallykeep.history.rounds import QUARTER

_ADD = "ON CONFLICT DO UPDATE SET last = excluded.last, delta = delta + excluded.delta, " \
       "highest = max(highest, excluded.highest)"  # fmt: skip
_POINTS = "SELECT ?, series, value, delta, value FROM point WHERE moment = ? ORDER BY series"
_QUARTERS = "SELECT ?, series, last, delta, highest FROM quarter WHERE start >= ? AND start < ? ORDER BY start"


def roll_up(db: sqlite3.Connection, moment: int, quarter: int, day: int) -> None:
    """Count the points of a moment in the quarter and the day that begin at these Unix seconds."""
    db.execute(f"INSERT INTO quarter (start, series, last, delta, highest) {_POINTS} {_ADD}", (quarter, moment))
    db.execute(f"INSERT INTO day (start, series, last, delta, highest) {_POINTS} {_ADD}", (day, moment))


def rebuild_days(db: sqlite3.Connection, zone: ZoneInfo) -> None:
    """Make every row of days anew from the quarters."""
    db.execute("DELETE FROM day")
    first, last = db.execute("SELECT min(start), max(start) FROM quarter").fetchone()
    if first is None:
        return
    for begin, end in days(first, last + QUARTER, zone):
        add_up = f"INSERT INTO day (start, series, last, delta, highest) {_QUARTERS} {_ADD}"
        db.execute(add_up, (int(begin), int(begin), int(end)))
