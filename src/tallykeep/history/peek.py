"""A look into a history file from another process: read-only, beside the one that writes it.

Sources: SQLite, URI filenames (mode=ro, immutable); WAL, read-only databases.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from zoneinfo import ZoneInfo

from tallykeep.errors import Corrupt, NotFound, Unavailable
from tallykeep.history import schema
from tallykeep.history.periods import Period, begin


class Peek(NamedTuple):
    """The tracked totals as the file has them."""

    moment: float | None  # Unix seconds of the newest round
    source: str  # what was scraped in it
    values: dict[str, float]  # as they stood in it
    windows: dict[Period, dict[str, float]]  # what each rose by; of a gauge the highest value
    lifetimes: dict[str, float]


def peek(path: Path, zone: ZoneInfo, now: float, gauges: Collection[str] = ()) -> Peek:
    """What the history at `path` says of the periods that run at `now`. Changes nothing.

    Raises: NotFound, Unavailable, Corrupt.
    """
    if not path.is_file():
        raise NotFound(f"there is no history file {path}: has tallykeep run here?")
    try:
        with closing(_opened(path)) as db, _whole(db):
            kind = schema.whose(db)
            if kind != "ours":
                raise Unavailable(f"{path} is {kind}, no history of this program")
            newest = db.execute("SELECT moment, totals, source FROM scrape ORDER BY moment DESC LIMIT 1").fetchone()
            moment, totals, source = newest or (None, "{}", "")
            windows = {period: _window(db, begin(period, now, zone), gauges) for period in Period}
            lifetimes = dict(db.execute("SELECT name, total FROM lifetime"))
    except sqlite3.Error as error:
        damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        raise (Corrupt if damaged else Unavailable)(f"{path} cannot be read: {error}") from error
    values = {name: value for name, (value, _) in json.loads(totals).items()}
    return Peek(None if moment is None else moment / 1000, source, values, windows, lifetimes)


def _opened(path: Path) -> sqlite3.Connection:
    """A read-only connection. Where the folder may not be written, and no log stands beside the file, as immutable."""
    name = f"file:{quote(str(path.absolute()))}?mode=ro"
    db = sqlite3.connect(name, uri=True, isolation_level=None)
    try:
        db.execute("SELECT 1 FROM sqlite_schema LIMIT 1")
    except sqlite3.OperationalError:
        db.close()
        wal = path.with_name(f"{path.name}-wal")
        if wal.exists() and wal.stat().st_size:
            raise
        return sqlite3.connect(f"{name}&immutable=1", uri=True, isolation_level=None)
    return db


@contextmanager
def _whole(db: sqlite3.Connection) -> Iterator[None]:
    """One view for all queries, whatever is written meanwhile."""
    db.execute("BEGIN")
    yield


def _window(db: sqlite3.Connection, since: float, gauges: Collection[str]) -> dict[str, float]:
    rows = db.execute(
        "SELECT name, sum(delta), max(highest) FROM tracked WHERE quarter >= ? GROUP BY name", (int(since),)
    )
    return {name: highest if name in gauges else delta for name, delta, highest in rows}
