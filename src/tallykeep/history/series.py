"""Charts: one family's history in steps, summed by labels.

Steps under a quarter of an hour come from single points, those of whole days from rows of days (in the zone, so a
step has 23, 24 or 25 hours), all others from quarters. A counter shows what it rose by in each step, a gauge its last
value. Where nothing was recorded there is a gap, never a zero. Blocks; on the writer's thread.
"""

from __future__ import annotations

import math
import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tallykeep.exposition.parse import labels_of, name_of
from tallykeep.history.periods import days
from tallykeep.history.purge import RAW_KEPT
from tallykeep.history.rounds import QUARTER
from tallykeep.history.store import HistoryStore, milliseconds

DAY = 86400
MOST_STEPS = 11_000
_SHARE = 4  # from a quarter of all series on, whole moments are read instead of looking series up

_PREPARE = """
CREATE TEMP TABLE IF NOT EXISTS axis (x INTEGER PRIMARY KEY, step INTEGER NOT NULL);
CREATE TEMP TABLE IF NOT EXISTS wanted (id INTEGER PRIMARY KEY, line INTEGER NOT NULL);
DELETE FROM axis;
DELETE FROM wanted;
"""
_MOMENTS = """
WITH RECURSIVE moments (x) AS (
    SELECT min(moment) FROM point WHERE moment >= :first
    UNION ALL SELECT (SELECT min(moment) FROM point WHERE moment > x) FROM moments WHERE x < :stop
)
SELECT x FROM moments WHERE x < :stop
"""


@dataclass(frozen=True, slots=True)
class Query:
    """What a chart is asked for."""

    name: str  # of samples, as on a page; or a tracked total
    start: float  # Unix seconds
    stop: float  # Unix seconds, not included
    step: float  # seconds
    by: tuple[str, ...] = ()  # labels that tell lines apart; "target" is where a series was scraped


class Line(NamedTuple):
    """One line of a chart."""

    labels: dict[str, str]
    values: list[float | None]  # one a step; None: nothing recorded


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, ready for JSON."""

    name: str
    step: int  # seconds; may be longer than was asked for
    times: list[int]  # Unix seconds at which each step begins
    lines: list[Line]


class _Steps(NamedTuple):
    table: str
    key: str
    value: str  # column of the last value
    step: int
    begins: list[int]  # Unix seconds of each step, and of the end of the last


def chart(store: HistoryStore, query: Query, now: float, gauges: frozenset[str] = frozenset()) -> Chart:
    """The chart of a family, or of a tracked total (`gauges`: those of them that are).

    Raises: ValueError for a query that makes no sense; Unavailable, Corrupt.
    """
    with store.translated():
        known = _groups(store.db, query)
        tracked = not known and bool(store.db.execute("SELECT 1 FROM tracked WHERE name = ?", (query.name,)).fetchone())
        steps = _steps(store, query, now, raw=not tracked)
        if tracked:
            lines = [Line({}, _total(store.db, query.name, steps, query.name in gauges))]
        else:
            lines = _lines(store.db, known, steps)
    return Chart(query.name, steps.step, steps.begins[:-1], lines)


def _steps(store: HistoryStore, query: Query, now: float, *, raw: bool) -> _Steps:
    if not query.start < query.stop or not query.step > 0:
        raise ValueError("a chart ends after it starts, and its step is longer than nothing")
    if query.step >= DAY:
        return _days(store, query)
    if raw and query.step < QUARTER and query.start >= now - RAW_KEPT:
        return _Steps("point", "moment", "value", *_even(query, max(1, math.ceil(query.step))))
    return _Steps("quarter", "start", "last", *_even(query, math.ceil(query.step / QUARTER) * QUARTER))


def _even(query: Query, step: int) -> tuple[int, list[int]]:
    first = int(query.start // step) * step
    count = math.ceil((query.stop - first) / step)
    _check(count)
    return step, [first + step * number for number in range(count + 1)]


def _days(store: HistoryStore, query: Query) -> _Steps:
    count = max(1, round(query.step / DAY))
    _check((query.stop - query.start) / DAY / count)
    found = list(days(query.start, query.stop, store.zone))
    begins = [int(begin) for begin, _ in found[::count]]
    return _Steps("day", "start", "last", count * DAY, [*begins, int(found[-1][1])])


def _check(steps: float) -> None:
    if steps > MOST_STEPS:
        raise ValueError(f"{steps:.0f} steps are more than {MOST_STEPS}: ask for less time or a longer step")


class _Group(NamedTuple):
    labels: dict[str, str]
    gauge: bool
    ids: list[int]


def _groups(db: sqlite3.Connection, query: Query) -> list[_Group]:
    """The series of a family by the labels that were asked for."""
    groups: dict[tuple[bool, tuple[str, ...]], _Group] = {}
    for number, target, series, gauge in db.execute("SELECT id, target, series, gauge FROM series"):
        if name_of(series) != query.name:
            continue
        labels = {"target": target, **labels_of(series)} if query.by else {}
        key = tuple(labels.get(label, "") for label in query.by)
        made = _Group(dict(zip(query.by, key, strict=True)), bool(gauge), [])
        groups.setdefault((bool(gauge), key), made).ids.append(number)
    return sorted(groups.values(), key=lambda group: tuple(group.labels.values()))


def _lines(db: sqlite3.Connection, groups: Sequence[_Group], steps: _Steps) -> list[Line]:
    lines = [Line(group.labels, [None] * (len(steps.begins) - 1)) for group in groups]
    if not groups:
        return lines
    db.executescript(_PREPARE)
    db.executemany("INSERT INTO axis VALUES (?, ?)", _axis(db, steps))
    for gauge in {group.gauge for group in groups}:
        wanted = [(n, line) for line, group in enumerate(groups) if group.gauge is gauge for n in group.ids]
        db.execute("DELETE FROM wanted")
        db.executemany("INSERT INTO wanted VALUES (?, ?)", wanted)
        for step, line, value in db.execute(_statement(db, steps, len(wanted), gauge=gauge)):
            lines[line].values[step] = value
    return [line for line in lines if any(value is not None for value in line.values)]


def _statement(db: sqlite3.Connection, steps: _Steps, wanted: int, *, gauge: bool) -> str:
    """One sum a step and line. The tables are joined in the order written: SQLite would scan every row between."""
    (known,) = db.execute("SELECT count(*) FROM series").fetchone()
    table, key, value = steps.table, steps.key, steps.value
    one, all_of = f"CROSS JOIN {table} t ON t.{key} = x AND t.series = id", f"CROSS JOIN {table} t ON t.{key} = x"
    rows = f"axis {all_of} CROSS JOIN wanted ON id = t.series"
    if wanted * _SHARE < known:
        rows = f"axis CROSS JOIN wanted {one}"
    if not gauge:
        return f"SELECT step, line, sum(t.delta) FROM {rows} GROUP BY step, line"  # noqa: S608 - names of this module
    last = f"SELECT step, line, max(x), t.{value} AS last FROM {rows} GROUP BY step, t.series"  # noqa: S608
    return f"SELECT step, line, sum(last) FROM ({last}) GROUP BY step, line"  # noqa: S608


def _axis(db: sqlite3.Connection, steps: _Steps) -> Iterable[tuple[int, int]]:
    """(key in the table, number of its step)."""
    begins, first, stop = steps.begins, steps.begins[0], steps.begins[-1]
    if steps.table == "point":
        edges = {"first": milliseconds(first), "stop": milliseconds(stop)}
        return [(x, (x // 1000 - first) // steps.step) for (x,) in db.execute(_MOMENTS, edges)]
    if steps.table == "quarter":
        return [(x, (x - first) // steps.step) for x in range(first, stop, QUARTER)]
    starts = db.execute("SELECT DISTINCT start FROM day WHERE start >= ? AND start < ?", (first, stop))
    return [(x, bisect_right(begins, x) - 1) for (x,) in starts]


def _total(db: sqlite3.Connection, name: str, steps: _Steps, gauge: bool) -> list[float | None]:
    values: list[float | None] = [None] * (len(steps.begins) - 1)
    rows = db.execute(
        "SELECT quarter, last, delta FROM tracked WHERE name = ? AND quarter >= ? AND quarter < ? ORDER BY quarter",
        (name, steps.begins[0], steps.begins[-1]),
    )
    for quarter, last, delta in rows:
        at = bisect_right(steps.begins, quarter) - 1
        values[at] = last if gauge else (values[at] or 0.0) + delta
    return values
