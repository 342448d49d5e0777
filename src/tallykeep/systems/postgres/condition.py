"""What there is to say of a cluster and of each of its tiers, for people and for programs: what `status` prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tallykeep.systems.postgres import slot
from tallykeep.systems.postgres.coverage import Gap, Range
from tallykeep.systems.postgres.journal import Entries
from tallykeep.systems.postgres.listing import Listed
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.working import NO_ANSWER
from tallykeep.units import format_bytes, format_duration, format_timestamp


@dataclass(frozen=True, slots=True)
class TierStatus:
    """How far a tier reaches."""

    number: str
    end: LSN | None = None  # of what it holds of the newest timeline; None: nothing
    timeline: int = 0
    behind: int | None = None  # bytes that the primary has and it has not; None: unknown
    newest_end: float | None = None  # when the newest transaction that it holds ended; None: none found near the end
    ranges: tuple[Range, ...] = ()
    gaps: tuple[Gap, ...] = ()
    newest: Listed | None = None  # backup
    backups: int | None = None  # None: unknown
    damaged: tuple[Listed, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "tier": self.number, "timeline": self.timeline or None, "end": None if self.end is None else str(self.end),
            "rpo_bytes": self.behind, "newest_transaction": self.newest_end, "backups": self.backups,
            "ranges": [{"start": str(found.start), "end": str(found.end)} for found in self.ranges],
            "gaps": [{"timeline": gap.timeline, "start": str(gap.start), "end": str(gap.end)} for gap in self.gaps],
            "newest_backup": None if self.newest is None else self.newest.as_json(),
        }  # fmt: skip

    def lines(self, now: float) -> Iterator[str]:
        """For people."""
        lost = "unknown" if self.behind is None else format_bytes(self.behind)
        end = f"{self.end or 'nowhere'}"
        if self.newest_end is not None:
            end += f", with transactions to {format_timestamp(round(self.newest_end))} ({_ago(now, self.newest_end)})"
        yield f"  tier {self.number}: WAL to {end}; would be lost with the primary now: {lost}"
        for found in self.ranges:
            yield f"    recoverable from {found.start} to {found.end}"
        for gap in self.gaps:
            yield f"    missing from {gap.start} to {gap.end} on timeline {gap.timeline}"
        if self.newest is not None:
            yield f"    {self.backups} backup{'' if self.backups == 1 else 's'}, the newest:"
            yield f"  {self.newest.line()}"


@dataclass(slots=True)
class Status:
    """What there is to say of a cluster."""

    cluster: str
    server: bool = False  # whether one runs on this machine
    streaming: bool | None = None  # whether WAL is sent through our slot; None: unknown
    primary: slot.ServerState | None = None  # what answers, and where it is; None: unknown
    retained: int | None = None  # bytes of WAL that the slot keeps on the primary
    safe: int | None = None  # bytes that may be written until the slot is lost
    backing_up: bool = False
    journal: Entries = field(default_factory=Entries)
    tiers: list[TierStatus] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # what is wrong
    unknown: list[str] = field(default_factory=list)  # what could not be found out

    @property
    def exit_status(self) -> int:
        """0: all is well."""
        return 1 if self.problems else NO_ANSWER if self.unknown else 0

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        backups, drill = self.journal.backups, self.journal.drill
        verified = {
            tier: {"time": found.latest, "sound": found.sound, "problem": found.problem or None}
            for tier, found in self.journal.verified.items()
            if found.latest
        }
        return {
            "cluster": self.cluster, "ok": not (self.problems or self.unknown), "problems": self.problems,
            "unknown": self.unknown, "server": self.server, "streaming": self.streaming,
            "primary_lsn": None if self.primary is None else str(self.primary.lsn),
            "slot_retained_bytes": self.retained, "slot_safe_bytes": self.safe,
            "tiers": [tier.as_json() for tier in self.tiers],
            "backup": {"running": self.backing_up, "latest_completion": backups.latest_completion or None,
                       "latest_failure": backups.latest_failure or None, "problem": backups.problem or None},
            "verified": verified, "drill": drill or None,
        }  # fmt: skip

    def lines(self, now: float) -> Iterator[str]:
        """For people."""
        state = {True: "streaming", False: "NOT streaming", None: "streaming: unknown"}[self.streaming]
        server = "a server runs here" if self.server else "no server runs here"
        yield f"{self.cluster}: {state}; {server}; {self._position()}"
        for tier in self.tiers:
            yield from tier.lines(now)
        yield from self._past(now)
        for problem in self.problems:
            yield f"  WRONG: {problem}"
        for problem in self.unknown:
            yield f"  UNKNOWN: {problem}"
        if not (self.problems or self.unknown):
            yield "  all is well"

    def _position(self) -> str:
        if self.primary is None:
            return "the primary is at an unknown position"
        return f"the {'standby' if self.primary.standby else 'primary'} is at {self.primary.lsn}"

    def _past(self, now: float) -> Iterator[str]:
        if self.backing_up:
            yield "  a base backup is being taken"
        for tier, found in self.journal.verified.items():
            if not found.latest:
                continue
            verdict = "sound" if found.sound else f"DAMAGED: {found.problem}"
            yield f"  tier {tier} verified {_ago(now, found.latest)}: {verdict}"
        drill = self.journal.drill
        if drill:
            held = float(drill.get("finished") or drill.get("time") or 0)
            yield f"  last drill {_ago(now, held)}: {drill['outcome']}"


def _ago(now: float, moment: float) -> str:
    return f"{format_duration(max(0.0, round(now - moment)))} ago" if moment else "never"
