"""The end of what is older than retention.

Forgetting goes in steps of bounded size, each a transaction of its own, so that a round never waits long for it. The
file does not shrink: what is free in it is used again.
"""

from __future__ import annotations

import sqlite3

from tallykeep.history.store import HistoryStore, milliseconds
from tallykeep.history.windows import KEPT

RAW_KEPT = 2 * 86400  # seconds of single points
MEMORY_KEPT = 30 * 86400  # seconds an identity is remembered that no page shows any more, at least
STEP = 20_000  # rows forgotten in one transaction, about 30 ms


def purge_some(store: HistoryStore, now: float, retention: float) -> bool:
    """Forget one step of what is old: points after two days, the rest after `retention` seconds, lifetimes never.

    Returns whether there is more. Raises: Unavailable, Corrupt.
    """
    oldest = now - retention
    for table, key, before in (
        ("point", "moment", milliseconds(max(oldest, now - RAW_KEPT))),
        ("scrape", "moment", milliseconds(oldest)),
        ("quarter", "start", int(oldest)),
        ("day", "start", int(oldest) - 86400),
        ("tracked", "quarter", int(min(oldest, now - KEPT))),
        ("memory", "seen", min(oldest, now - MEMORY_KEPT)),
    ):
        with store.transaction():
            if _forget(store.db, table, key, before):
                return True
    _forget_series(store)
    return False


def _forget(db: sqlite3.Connection, table: str, key: str, before: float) -> bool:
    """Delete about STEP of the oldest rows. Whether some are left."""
    edge = db.execute(
        f"SELECT {key} FROM {table} WHERE {key} < ? ORDER BY {key} LIMIT 1 OFFSET {STEP}",  # noqa: S608 - names of this module
        (before,),
    ).fetchone()
    if edge is None:
        db.execute(f"DELETE FROM {table} WHERE {key} < ?", (before,))  # noqa: S608
        return False
    db.execute(f"DELETE FROM {table} WHERE {key} <= ?", edge)  # noqa: S608
    return True


def _forget_series(store: HistoryStore) -> None:
    """Delete series of which nothing is kept. Every point and quarter of a series has its day."""
    with store.transaction():
        gone = store.db.execute(
            "DELETE FROM series WHERE id NOT IN (SELECT series FROM day UNION SELECT series FROM memory) RETURNING id"
        ).fetchall()
    store.forget_ids(number for (number,) in gone)
