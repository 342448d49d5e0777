"""Periods of the calendar: where today, this week and this month began, in a zone.

Midnight is the zone's own: a day has 23, 24 or 25 hours, and where the clock skips midnight the day begins with
the first moment after it.
Source: IANA time zone database, by zoneinfo.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from enum import Enum
from zoneinfo import ZoneInfo


class Period(Enum):
    """A stretch of the calendar that ends now."""

    DAY = "daily"  # since midnight
    WEEK = "weekly"  # since Monday's midnight
    MONTH = "monthly"  # since the midnight of the 1st


def midnight(day: date, zone: ZoneInfo) -> float:
    """Unix seconds at which a day begins in a zone.

    Where the clock skips midnight, Python reckons the hour before the change on: that is the change itself. Where
    midnight comes twice, the first one counts.
    """
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


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
        end = midnight(day, zone)
        if end > at:  # Samoa went from the 29th of December 2011 to the 31st
            yield at, end
