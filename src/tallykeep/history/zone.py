"""Time zones by the names people give them."""

from __future__ import annotations

import logging
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_log = logging.getLogger(__name__)


def zone_named(name: str, setting: str) -> ZoneInfo:
    """The zone of that IANA name; UTC, with a warning that names the setting, where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        _log.warning(
            "there is no time zone %r: days, weeks and months begin in UTC; give %s an IANA name such as Europe/Berlin",
            name, setting,
        )  # fmt: skip
        return ZoneInfo("UTC")
