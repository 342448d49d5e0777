"""Periods of the calendar: where today, this week and this month began, in a zone.

Midnight is the zone's own: a day has 23, 24 or 25 hours, and where the clock skips midnight the day begins with
the first moment after it.
Source: IANA time zone database, by zoneinfo.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from zoneinfo import ZoneInfo


class Period(Enum):
    """A stretch of the calendar that ends now."""

    DAY = "daily"  # since midnight
    WEEK = "weekly"  # since Monday's midnight
    MONTH = "monthly"  # since the midnight of the 1st


def midnight(day: date, zone: ZoneInfo) -> float:
    """Unix seconds at which a day begins in a zone."""
    begins = datetime(day.year, day.month, day.day, tzinfo=zone)
    unix = begins.timestamp()
    if datetime.fromtimestamp(unix, zone).date() < day:  # the clock jumps over midnight: take the jump itself
        step = begins.replace(fold=1).utcoffset()
        assert step is not None
        unix = (datetime(day.year, day.month, day.day, tzinfo=UTC) - step).timestamp()
    return unix


def local_date(now: float, zone: ZoneInfo) -> date:
    """The date in a zone at a moment in Unix seconds."""
    return datetime.fromtimestamp(now, zone).date()


def begin(period: Period, now: float, zone: ZoneInfo) -> float:
    """Unix seconds at which the running period began."""
    today = local_date(now, zone)
    if period is Period.WEEK:
        today -= timedelta(days=today.weekday())
    elif period is Period.MONTH:
        today = today.replace(day=1)
    return midnight(today, zone)


def days(start: float, stop: float, zone: ZoneInfo) -> Iterator[tuple[float, float]]:
    """(begin, end) of every day of a zone that overlaps [start, stop), in Unix seconds."""
    day = local_date(start, zone)
    while (at := midnight(day, zone)) < stop:
        day += timedelta(days=1)
        yield at, midnight(day, zone)
