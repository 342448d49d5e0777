"""How a drill ended: plain values, kept in the journal as JSON and read back for figures.

    ok            restored, recovered to the newest point, and everything that was asked for was examined: all is sound
    failed        a restore would not give back what was promised
    inconclusive  the drill could not be carried through, and nothing was shown to be wrong with the backup

Scripts read `drill --json`, so fields are only ever added.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from tallykeep.systems.postgres.throwaway.ended import Outcome
from tallykeep.units import format_timestamp

OUTCOMES: tuple[Outcome, ...] = ("ok", "failed", "inconclusive")
NOT_CHECKED = "not checked"


class Answer(NamedTuple):
    """What the restored cluster said to a question."""

    name: str
    right: bool
    said: str


@dataclass(slots=True)
class DrillResult:
    """Filled while the drill goes on, and not changed any more once it has ended. Times are Unix seconds; 0: never."""

    cluster: str
    tier: str  # "1" or "2"
    cold: bool = False  # tier 2 alone, with the key read anew
    key: str = ""  # where the key came from; empty: nothing is encrypted
    outcome: Outcome = "ok"
    stage: str = ""  # where it went wrong first
    problems: list[str] = field(default_factory=list)  # wrong with what was restored
    unchecked: list[str] = field(default_factory=list)  # what could not be looked at
    notes: list[str] = field(default_factory=list)
    backup: str = ""  # id
    backup_name: str = ""
    version: int = 0  # server_version_num of the backup
    started: float = 0.0
    finished: float = 0.0
    restore_seconds: float = 0.0  # files of the base backup
    recovery_seconds: float = 0.0  # from the start of PostgreSQL to the end of recovery
    check_seconds: float = 0.0
    files: int = 0
    bytes: int = 0  # of the restored base backup
    wal_segments: int = 0  # served to the recovery
    timeline: int = 0  # that recovery ended on
    recovered_lsn: str = ""
    held_lsn: str = ""  # the end of what the tier says can be recovered
    behind_bytes: int = 0  # of WAL that is held and was not recovered; a record that is cut by the end does not count
    commit_time: float = 0.0  # of the last transaction that was recovered
    checksums: str = NOT_CHECKED  # sound, corrupt, off or not checked
    pages: int = 0  # whose checksums were proved
    amcheck: str = NOT_CHECKED  # sound, corrupt, off or not checked
    answers: list[Answer] = field(default_factory=list)
    folder: str = ""  # of what was kept
    last_success: float = 0.0  # when a drill of the cluster last ended ok, this one included

    @property
    def ok(self) -> bool:
        return self.outcome == "ok"

    @property
    def recovery_time(self) -> float:
        """Seconds from nothing to a server that takes queries."""
        return self.restore_seconds + self.recovery_seconds

    @property
    def why(self) -> str:
        """The first thing that speaks against it; empty where nothing does."""
        return next(iter([*self.problems, *self.unchecked]), "")

    def problem(self, stage: str, message: str) -> None:
        """Something is wrong with the backup."""
        self.stage = self.stage if self.problems else stage
        self.problems.append(message)
        self.outcome = "failed"

    def open_question(self, stage: str, message: str) -> None:
        """Something could not be looked at."""
        self.stage = self.stage or stage
        self.unchecked.append(message)
        if not self.problems:
            self.outcome = "inconclusive"

    def end(self, stage: str, outcome: Outcome, message: str) -> None:
        """It goes no further."""
        (self.problem if outcome == "failed" else self.open_question)(stage, message)

    def as_json(self) -> dict[str, Any]:
        """Every field; times besides as people read them."""
        told = asdict(self)
        told["answers"] = [answer._asdict() for answer in self.answers]
        told["problem"] = self.why
        told["recovery_time_seconds"] = round(self.recovery_time, 3)
        for name in ("started", "finished", "commit_time"):
            told[f"{name}_utc"] = format_timestamp(told[name]) if told[name] else ""
        return told
