"""When scheduled work is due: cron expressions in a time zone. The one module that wraps cronsim.

Source: crontab(5); cronsim follows Debian's cron through changes of daylight saving time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError


def check(expression: str) -> str:
    """The expression, if it can ever be due. Raises: ValueError."""
    try:
        next(CronSim(expression, datetime(2024, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration):
        raise ValueError(expression) from None
    return expression


def following(expression: str, moment: float, zone: str) -> float:
    """When it is due next after `moment`, both in Unix seconds."""
    begin = datetime.fromtimestamp(moment, ZoneInfo(zone))
    return next(CronSim(expression, begin)).timestamp()
