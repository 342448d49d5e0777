"""What a restore is asked for: pure.

At most one target: a time, an LSN, a restore point, or the first moment at which the backup is consistent. Without
one, everything that is held is recovered.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tallykeep.errors import ConfigError
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.units import format_timestamp

LATEST = "latest"
PROGRAM = (sys.executable, "-P", "-m", "tallykeep")  # -P: never modules of the data directory
ACTIONS = ("promote", "pause", "shutdown")


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """What to restore, where to, and how far. Raises: ConfigError for what contradicts itself."""

    target: Path  # a new or empty directory
    backup: str = ""  # id or name; empty: the best for what is asked
    time: float | None = None  # Unix seconds; commits at that moment are in
    lsn: LSN | None = None
    name: str = ""  # of a restore point (pg_create_restore_point)
    immediate: bool = False  # as soon as the backup is consistent
    timeline: str = LATEST  # or a number
    tiers: Sequence[str] = ()  # in their order; empty: all there are, tier 1 first
    tablespaces: Mapping[int, Path] = field(default_factory=dict)  # new places, by oid
    action: str = "promote"  # what the server does at its target
    standby: bool = False  # it stays in recovery and asks for more WAL for ever
    owner: str = ""  # user that owns the files, where root restores
    get_wal: Sequence[str] = ()  # options of `tallykeep postgres get-wal`: --config FILE and the like
    program: Sequence[str] = PROGRAM  # how PostgreSQL's user runs tallykeep

    def __post_init__(self) -> None:
        problems = []
        if sum(self._asked) > 1:
            problems.append("give one target at most: a time, an LSN, a name, or immediate")
        if self.timeline != LATEST and not (self.timeline.isascii() and self.timeline.isdigit() and int(self.timeline)):
            problems.append(f"timeline: {self.timeline!r} is neither {LATEST} nor a number from 1")
        if self.action not in ACTIONS:
            problems.append(f"target action: {self.action!r} is none of {', '.join(ACTIONS)}")
        if self.standby and self.aimed:
            problems.append("a standby recovers without end: it takes no target")
        if problems:
            raise ConfigError(*problems)

    @property
    def _asked(self) -> Sequence[bool]:
        return (self.time is not None, self.lsn is not None, bool(self.name), self.immediate)

    @property
    def aimed(self) -> bool:
        """Whether recovery ends at a target, and not with WAL."""
        return any(self._asked)

    @property
    def goal(self) -> str:
        """Where recovery ends, for people."""
        if self.time is not None:
            return f"time {told(self.time)}"
        if self.lsn is not None:
            return f"LSN {self.lsn}"
        if self.name:
            return f"restore point {self.name!r}"
        return "the end of the backup" if self.immediate else "the newest point"


def told(moment: float) -> str:
    """A time for people, as PostgreSQL reads it too: to the microsecond where that says more."""
    to_millisecond = format_timestamp(moment)
    micro = round(moment % 1 * 1e6)
    return to_millisecond if micro % 1000 == 0 else f"{to_millisecond[:-5]}.{micro:06d}Z"
