"""Rounds for tests of the history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from tallykeep.history.rounds import Point, Round, Total
from tallykeep.history.store import HistoryStore

UTC = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
TARGET = "http://litellm:4000/metrics/"


def at(text: str, zone: ZoneInfo = UTC) -> float:
    """Unix seconds of a local time such as 2026-03-29 01:30."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def round_of(moment: float, cost: float = 1.0, *, flight: float = 0.0, points: Sequence[Point] = ()) -> Round:
    """A round in which the cost rose by `cost`, and `flight` requests were running."""
    totals = {"cost": Total(100.0, cost), "in_flight_requests": Total(flight, 0.0, gauge=True)}
    return Round(moment, totals, source=TARGET, points=points)


def spend(model: str, delta: float, value: float = 10.0) -> Point:
    """A point of a counter."""
    return Point(TARGET, f'spend_total{{model="{model}"}}'.encode(), value, delta)


def running(model: str, value: float) -> Point:
    """A point of a gauge."""
    return Point(TARGET, f'running{{model="{model}"}}'.encode(), value, 0.0, gauge=True)


def total_in(store: HistoryStore, table: str) -> float:
    """The sum of all deltas in a table."""
    return float(store.db.execute(f"SELECT coalesce(sum(delta), 0) FROM {table}").fetchone()[0])
