"""History: keeping a scrape of 5,000 series, and reading 90 days of 300 series at one a minute.

The summary (today, this week, this month of eight totals) is measured against what litellm-pulse does for every
request: SUM over the scrapes of each window, in a table of 129,600 rows with the columns it has. Charts have no peer:
litellm-pulse has none.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from benchmarks import support

from tallykeep.clock import SystemClock
from tallykeep.history.deltas import Memory
from tallykeep.history.periods import Period, begin
from tallykeep.history.rounds import QUARTER, Point, Round, Total
from tallykeep.history.series import Query, chart
from tallykeep.history.service import History
from tallykeep.history.store import HistoryStore

ZONE = ZoneInfo("Europe/Berlin")
DAYS, SERIES, WIDE = 90, 300, 5000
NAMES = ("requests", "failed_requests", "tokens", "input_tokens", "output_tokens", "reasoning_tokens", "cost")
GAUGE = "in_flight_requests"


def main() -> None:
    parser = support.parser(__doc__)
    parser.add_argument("--days", type=int, default=DAYS)
    arguments = parser.parse_args()
    report = support.Report(f"History: {arguments.days} days of {SERIES} series at one a minute")
    with tempfile.TemporaryDirectory() as folder:
        keep_wide(report, Path(folder) / "wide.db", changing=1.0)
        keep_wide(report, Path(folder) / "some.db", changing=0.2)
        asyncio.run(read_long(report, Path(folder), arguments))
    report.finish(arguments)


def keep_wide(report: support.Report, path: Path, changing: float) -> None:
    """CPU time of one scrape of 5,000 counters with everything that is written for it."""
    store = HistoryStore(path, ZONE)
    rounds = [wide_round(number, changing) for number in range(60)]
    taken = []
    for round in rounds:
        start = time.process_time()
        store.append(round)
        taken.append((time.process_time() - start) * 1000)
    store.close()
    what = f"keep a scrape of {WIDE} counters, {changing:.0%} changed (CPU)"
    report.figure(what, taken[1:], unit="ms", at_most=30)


def wide_round(number: int, changing: float) -> Round:
    moment = 1.79e9 + 60 * number
    seeded = random.Random(number)
    changed = [seeded.random() < changing for _ in range(WIDE)]
    points = [Point("t", name_of(n), number, float(changed[n])) for n in range(WIDE)]
    memories = [Memory(name_of(n), 1.7e9, number, moment) for n in range(WIDE) if changed[n]]
    return Round(moment, totals_of(number), False, "t", points, {"t": memories}, {"t": 1.79e9})


def name_of(number: int) -> bytes:
    return b'litellm_spend_metric_total{api_key_alias="key-%d",model="m%d",user="%0200d"}' % (
        number,
        number % 9,
        number,
    )


def totals_of(number: int) -> dict[str, Total]:
    return {**{name: Total(number, 1.0) for name in NAMES}, GAUGE: Total(number % 7, 0.0, gauge=True)}


async def read_long(report: support.Report, folder: Path, arguments: argparse.Namespace) -> None:
    days, now = arguments.days, time.time() // 60 * 60
    start = now - 86400 * days
    fill(folder / "ours.db", start, now)
    peer = fill_peer(folder / "peer.db", start, now)
    opening = time.perf_counter()
    gauges = frozenset({GAUGE})
    names = {name: name for name in (*NAMES, GAUGE)}
    history = await History.open(folder / "ours.db", zone=ZONE, clock=SystemClock(), names=names, gauges=gauges)
    opened = time.perf_counter() - opening
    assert history.error is None, history.error
    assert_same(history, peer, now)
    ours = [per_call(lambda: (history.windows(now), history.lifetimes()), 2000) for _ in range(arguments.rounds)]
    theirs = [per_call(lambda: summary(peer, now), 5) for _ in range(arguments.rounds)]
    report.compare("summary", ours, theirs, against="SUM over scrapes", unit="ms", goal=50)
    report.figure("open the file", [opened * 1000], unit="ms")
    await history.close()
    store = HistoryStore(folder / "ours.db", ZONE)
    for what, name, step, by in (
        (f"{days}-day chart, one total, by day", "cost", 86400, ()),
        (f"{days}-day chart, one of {SERIES} series, by day", "spend_0_total", 86400, ()),
        (f"{days}-day chart, {SERIES // 10} series by model, by day", "spend_1_total", 86400, ("model",)),
        ("7-day chart, one series, by hour", "spend_0_total", 3600, ()),
        ("7-day chart, 30 series by model, by hour", "spend_1_total", 3600, ("model",)),
    ):
        query = Query(name, now - (days if step == 86400 else 7) * 86400, now, step, by)
        taken = support.seconds(partial(chart, store, query, now, gauges), arguments.rounds)
        report.figure(what, [one * 1000 for one in taken], unit="ms")
    store.close()
    size = (folder / "ours.db").stat().st_size
    report.figure("size of the file", [size / 1e6], unit="MB")


def fill(path: Path, start: float, now: float) -> None:
    """What 90 days of rounds leave: rows of scrapes and tracked quarters, quarters and days of series, two days of
    points. Written in bulk: the same rows, in minutes less.
    """
    store = HistoryStore(path, ZONE)
    series = [(f"spend_{min(n, 1) if n < 31 else n}_total", f"m{n}") for n in range(SERIES)]
    quarters = range(int(start // QUARTER) * QUARTER, int(now), QUARTER)
    with store.transaction():
        ids = [store.number_of("t", f'{name}{{model="{model}"}}'.encode()) for name, model in series]
        for quarter in quarters:
            rows = [(quarter, number, 1.0, 15.0, 1.0) for number in ids]
            store.db.executemany("INSERT INTO quarter VALUES (?, ?, ?, ?, ?)", rows)
        moments = range(int(start) * 1000, int(now) * 1000, 60_000)
        totals = "{" + ", ".join(f'"{name}": [{1.0}, 1.0]' for name in (*NAMES, GAUGE)) + "}"
        scrapes = ((moment, totals) for moment in moments)
        store.db.executemany("INSERT INTO scrape (moment, is_reset, totals, source) VALUES (?, 0, ?, 't')", scrapes)
        for moment in range(int(now - 2 * 86400) * 1000, int(now) * 1000, 60_000):
            points = [(moment, number, 1.0, 1.0) for number in ids]
            store.db.executemany("INSERT INTO point VALUES (?, ?, ?, ?)", points)
    with store.transaction():
        for name, delta in (*((name, 15.0) for name in NAMES), (GAUGE, 0.0)):
            tracked = ((name, quarter, 1.0, delta, 1.0) for quarter in quarters)
            store.db.executemany("INSERT INTO tracked VALUES (?, ?, ?, ?, ?)", tracked)
        store.db.execute("DELETE FROM meta")
    store.close()
    HistoryStore(path, ZONE).close()  # makes the rows of days


def fill_peer(path: Path, start: float, now: float) -> sqlite3.Connection:
    """A table as litellm-pulse makes it."""
    db = sqlite3.connect(path)
    names = (*NAMES, GAUGE)
    columns = [f"{kind}_{name} REAL DEFAULT 0" for kind in ("raw", "delta") for name in names]
    db.execute(
        f"CREATE TABLE scrapes (id INTEGER PRIMARY KEY, ts INTEGER NOT NULL, is_reset INTEGER, {', '.join(columns)})"
    )
    db.execute("CREATE INDEX idx ON scrapes (ts)")
    marks = ", ".join("?" * (2 + 2 * len(names)))
    rows = ((ts, 0, *[1.0] * len(names), *[1.0] * len(NAMES), 0.0) for ts in range(int(start), int(now), 60))
    fields = ", ".join(f"{kind}_{name}" for kind in ("raw", "delta") for name in names)
    db.executemany(f"INSERT INTO scrapes (ts, is_reset, {fields}) VALUES ({marks})", rows)
    db.commit()
    return db


def summary(db: sqlite3.Connection, now: float) -> list[tuple[float, ...]]:
    """Three sums over scrapes, as litellm-pulse makes for each request (0.3 sums all of the table as well)."""
    sums = ", ".join(f"coalesce(sum(delta_{name}), 0)" for name in (*NAMES, GAUGE))
    since = [int(begin(period, now, ZONE)) for period in Period] + [0]
    return [db.execute(f"SELECT {sums} FROM scrapes WHERE ts >= ?", (start,)).fetchone() for start in since]


def assert_same(history: History, peer: sqlite3.Connection, now: float) -> None:
    found = [history.windows(now)["cost"][period.value] for period in Period]
    expected = [row[NAMES.index("cost")] for row in summary(peer, now)[:3]]
    assert all(abs(a - b) <= 15 for a, b in zip(found, expected, strict=True)), (found, expected)


def per_call(function: Callable[[], object], times: int) -> float:
    """Median milliseconds of a call."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


if __name__ == "__main__":
    main()
