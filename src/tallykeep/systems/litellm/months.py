"""Months of the calendar for reports: which one is meant, in whose time zone, and the days it is read by."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tallykeep.errors import ConfigError
from tallykeep.history.periods import days, midnight

LOCALTIME = Path("/etc/localtime")
_DATABASE = "zoneinfo/"


@dataclass(frozen=True, slots=True)
class Month:
    """A month in a time zone, as the half-open stretch [start, stop) of Unix seconds."""

    name: str  # 2026-01
    zone: ZoneInfo
    start: float
    stop: float

    @classmethod
    def of(cls, year: int, month: int, zone: ZoneInfo) -> Month:
        """That month, from its first midnight to that of the next."""
        first, following = date(year, month, 1), date(year + month // 12, month % 12 + 1, 1)
        return cls(f"{year:04}-{month:02}", zone, midnight(first, zone), midnight(following, zone))

    def days(self, until: float) -> list[tuple[float, float]]:
        """(begin, end) of each of its days that begins before `until`: 23, 24 or 25 hours long."""
        return list(days(self.start, min(self.stop, until), self.zone))


def parse_month(text: str) -> tuple[int, int]:
    """(year, month) of YYYY-MM. Raises: ValueError."""
    found = re.fullmatch(r"(\d{4})-(\d{2})", text.strip())
    if not found or not 1 <= int(found[2]) <= 12 or not 1970 <= int(found[1]) < 9999:
        raise ValueError(f"{text!r} is not a month (such as 2026-01)")
    return int(found[1]), int(found[2])


def find_zone(asked: str | None, environ: Mapping[str, str] = os.environ, localtime: Path = LOCALTIME) -> ZoneInfo:
    """The zone that was asked for, else that of TZ, else this machine's, else UTC.

    Raises: ConfigError for a zone that the time zone database does not have.
    """
    named = asked or environ.get("TZ", "").removeprefix(":") or _local(localtime)
    named = named.partition(_DATABASE)[2] or named  # TZ may be the path of a file of the database
    try:
        return ZoneInfo(named)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        source = "--timezone" if asked else "TZ"
        raise ConfigError(
            f"{source}: no time zone {named!r}; write a name of the IANA database such as Europe/Berlin, and see that "
            "the package tzdata is installed"
        ) from None


def _local(localtime: Path) -> str:
    """The name behind the link that /etc/localtime is."""
    try:
        target = str(localtime.resolve(strict=True))
    except OSError:
        return "UTC"
    return target.partition(_DATABASE)[2] or "UTC"
