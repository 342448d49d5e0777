"""Which families of the program's own page are kept: the section `history` of tallykeep.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from tallykeep.config.model import setting, several
from tallykeep.config.parse import TEXT, duration


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """What is kept of the families of every system, how often and for how long."""

    keep: tuple[str, ...] = several(
        parse=TEXT,
        help="Families of /metrics whose history is kept, by name, whatever system they belong to. `/api/v1/series` "
        "reads them.",
    )
    interval: float = setting(
        "60",
        parse=duration(low=1),
        help="Time between two points of a kept family.",
    )
    retention: float = setting(
        "90d",
        parse=duration(low=86400),
        help="How long quarters of an hour and days are kept; single points are kept for two days.",
    )
    timezone: str = setting(
        "UTC",
        help="IANA name of the zone in which days begin.",
    )
