"""What every kept counter rose by since a day began: one query, for breakdowns that no label names.

From rows of days, which are few: three hundred series over a month are ten thousand rows. Blocks; on the writer's
thread.
"""

from __future__ import annotations

from tallykeep.history.deltas import Series
from tallykeep.history.store import HistoryStore

Rise = tuple[str, Series, float]  # target, series, sum of deltas


def rises(store: HistoryStore, since: float) -> list[Rise]:
    """Of every counter that rose since a moment at which a day of the zone began. Raises: Unavailable, Corrupt."""
    with store.translated():
        return store.db.execute(
            "SELECT target, s.series, sum(delta) FROM day JOIN series s ON s.id = day.series "
            "WHERE start >= ? AND gauge = 0 GROUP BY day.series HAVING sum(delta) > 0",
            (int(since),),
        ).fetchall()
