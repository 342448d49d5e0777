"""Budget cycles as LiteLLM writes and keeps them: "30d", "1mo", and the moment of the next reset.

LiteLLM resets at fixed points where it can: "30d" and "1mo" on the first of a month, "7d" on Mondays, "1d" at
midnight. A cycle that ends at the midnight of a first therefore began on the first before it, 28 to 31 days ago;
every other cycle began one duration before its reset.
Source: litellm, litellm_core_utils/duration_parser.py.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import datetime, timedelta

_NOTATION = re.compile(r"(\d+)(mo|[smhdw])")
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def cycle_start(duration: str, reset: datetime) -> datetime:
    """When the cycle that ends at `reset` began. Raises: ValueError for what LiteLLM itself does not read."""
    count, unit = _parsed(duration)
    monthly = (count, unit) == (30, "d") and reset == datetime(reset.year, reset.month, 1)  # noqa: DTZ001  # UTC
    if unit == "mo" or monthly:
        return _months_before(reset, count if unit == "mo" else 1)
    try:
        return reset - count * _UNITS[unit]
    except OverflowError:
        raise ValueError(f"{duration!r} reaches back further than the calendar does") from None


def _parsed(duration: str) -> tuple[int, str]:
    found = _NOTATION.fullmatch(duration.strip())
    if found is None:
        raise ValueError(f"{duration!r} is not a duration of LiteLLM's (such as 30s, 15m, 12h, 7d, 2w, 1mo)")
    return int(found[1]), found[2]


def _months_before(moment: datetime, months: int) -> datetime:
    count = moment.year * 12 + moment.month - 1 - months
    year, month = divmod(count, 12)
    if year < 1:
        raise ValueError(f"{months} months reach back further than the calendar does")
    return moment.replace(year=year, month=month + 1, day=min(moment.day, monthrange(year, month + 1)[1]))
