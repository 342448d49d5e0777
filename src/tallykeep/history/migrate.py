"""A database of litellm-pulse becomes a history of ours, so that an upgrade keeps what was counted.

    scrapes          (ts, is_reset, raw_<name>, delta_<name>): one row a scrape; since 0.2
    model_snapshots  (ts, model, metric, raw, delta): one row a scrape, model and metric; since 0.3

The file is copied to `<name>.bak` first. The new one is written aside and renamed over the old one: a kill at any
moment leaves the old file or the new one. Figures are taken as they stand: what litellm-pulse counted wrongly (the
first scrape's whole total as a delta, restarts it took for none) cannot be told from what it counted rightly.
Source: litellm-pulse 0.2.0 and 0.3.0, the tables they make.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from zoneinfo import ZoneInfo

from tallykeep.errors import Corrupt, Unavailable
from tallykeep.exposition.parse import series_of
from tallykeep.history import schema
from tallykeep.history.rollups import rebuild_days
from tallykeep.history.rounds import QUARTER, Total, quarter_of
from tallykeep.history.store import HistoryStore

TARGET = "litellm-pulse"  # of the series that come from model_snapshots
GAUGE = "in_flight_requests"  # the one tracked total of litellm-pulse that is no counter
_PAGES = 1000  # copied at a time

_log = logging.getLogger(__name__)


def migrate_if_needed(path: Path, zone: ZoneInfo, names: Mapping[str, str]) -> Path | None:
    """Where a copy of the old file lies, if `path` was a database of litellm-pulse; else None, with nothing done.

    `names` says under which name a page shows each tracked total.

    Raises: Unavailable, with the old file untouched, where it cannot be done now; Corrupt.
    """
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            if schema.whose(old) != "litellm-pulse":
                return None
            backup = _back_up(old, path)
            count = _write_aside(old, path, zone, names)
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            if old.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
                raise Unavailable(f"{path} is in use by litellm-pulse: stop it, then it is taken over")
        _put_in_place(path)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise Corrupt(f"{path} is damaged: {error}") from error
        raise Unavailable(f"{path} of litellm-pulse cannot be taken over now: {error}") from error
    except OSError as error:
        raise Unavailable(f"{path} of litellm-pulse cannot be taken over now: {error.strerror}") from error
    _log.warning("%s of litellm-pulse is taken over: %d scrapes; the old file is %s", path, count, backup)
    return backup


def _back_up(old: sqlite3.Connection, path: Path) -> Path:
    """A whole copy with what is in the write-ahead log, on disk before anything else happens."""
    backup, number = path.with_name(path.name + ".bak"), 1
    while backup.exists():
        number += 1
        backup = path.with_name(f"{path.name}.bak-{number}")
    aside = backup.with_name(backup.name + ".new")
    aside.unlink(missing_ok=True)
    with closing(sqlite3.connect(aside)) as copy:
        old.backup(copy, pages=_PAGES)
    _flush(aside)
    aside.rename(backup)
    _flush(path.parent)
    return backup


def _write_aside(old: sqlite3.Connection, path: Path, zone: ZoneInfo, names: Mapping[str, str]) -> int:
    aside = _aside(path)
    for end in ("", "-wal", "-shm", "-journal"):
        aside.with_name(aside.name + end).unlink(missing_ok=True)
    store = HistoryStore(aside, zone)
    with closing(store):
        with store.transaction():
            count = _copy_scrapes(old, store)
            _copy_models(old, store, names)
            rebuild_days(store.db, zone)
        store.db.execute("PRAGMA journal_mode = DELETE")
    _flush(aside)
    return count


def _copy_scrapes(old: sqlite3.Connection, store: HistoryStore) -> int:
    names = [row[1].removeprefix("delta_") for row in old.execute("PRAGMA table_info(scrapes)")]
    names = [name for name in names if name not in ("id", "ts", "is_reset") and not name.startswith("raw_")]
    columns = ", ".join(f"raw_{name}, delta_{name}" for name in names)
    count, last = 0, 0
    rows = old.execute(f"SELECT ts, is_reset, {columns} FROM scrapes ORDER BY ts, id")  # noqa: S608 - its own columns
    for ts, is_reset, *figures in rows:
        totals = dict(_totals(names, figures))
        last = max(int(ts) * 1000, last + 1)
        shown = {name: [total.value, total.delta] for name, total in totals.items()}
        store.db.execute(
            "INSERT INTO scrape (moment, is_reset, totals, source) VALUES (?, ?, ?, ?)",
            (last, int(bool(is_reset)), json.dumps(shown), TARGET),
        )
        store.put_tracked((name, quarter_of(ts), total) for name, total in totals.items())
        count += 1
    store.db.execute(
        "INSERT INTO lifetime SELECT name, max(0, sum(delta)) FROM tracked WHERE name <> ? GROUP BY name", (GAUGE,)
    )
    return count


def _totals(names: list[str], figures: list[float | None]) -> Iterator[tuple[str, Total]]:
    for number, name in enumerate(names):
        value, delta = figures[2 * number : 2 * number + 2]
        if value is not None:  # a column that a later version added
            yield name, Total(value, delta or 0.0, name == GAUGE)


def _copy_models(old: sqlite3.Connection, store: HistoryStore, names: Mapping[str, str]) -> None:
    if not old.execute("SELECT 1 FROM sqlite_schema WHERE name = 'model_snapshots'").fetchone():
        return
    ids: dict[tuple[str, str], int] = {}
    rows = old.execute(
        "SELECT model, metric, ts / :q * :q AS quarter, max(ts), raw, total, highest FROM ("
        "  SELECT model, metric, ts, raw, sum(delta) OVER w AS total, max(raw) OVER w AS highest FROM model_snapshots"
        "  WINDOW w AS (PARTITION BY model, metric, ts / :q)"
        ") GROUP BY model, metric, quarter",
        {"q": QUARTER},
    )
    for model, metric, quarter, _, raw, delta, highest in rows:
        number = ids.get((model, metric))
        if number is None:
            series = series_of(names.get(metric, metric), {"model": model})
            number = ids[model, metric] = store.number_of(TARGET, series)
        store.db.execute(
            "INSERT OR REPLACE INTO quarter VALUES (?, ?, ?, ?, ?)", (quarter, number, raw, delta, highest)
        )


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".migrating")


def _put_in_place(path: Path) -> None:
    for end in ("-wal", "-shm"):  # of the old file, whose last change is in it
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).unlink()
    _aside(path).rename(path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
