"""What was done to protect a cluster: backups, verifications, drills, retention, by whichever process did it.

    journal.json     in the cluster's folder, written whole; the figures of every process are read from it

So a backup by command shows on the server's page, and counts go on over restarts. Small, and never needed to restore
anything: where it is lost, counts begin anew. Every call blocks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from tallykeep.systems.postgres.locks import in_turn
from tallykeep.systems.postgres.part import write_file

T = TypeVar("T")

JOURNAL = "journal.json"
_LOCK = "journal.lock"


@dataclass(frozen=True, slots=True)
class Backups:
    """Base backups. Times are Unix seconds; 0: never."""

    latest_start: float = 0.0
    latest_completion: float = 0.0
    latest_failure: float = 0.0
    latest_duration: float = 0.0  # seconds
    successes: int = 0
    failures: int = 0
    verifications: int = 0  # attempts at a backup just taken
    verification_failures: int = 0
    problem: str = ""  # of the latest, if it failed
    outcomes: dict[str, int] = field(default_factory=dict)  # how many ended ok, failed, interrupted
    categories: dict[str, int] = field(default_factory=dict)  # how many failed, by their errors' codes
    stages: dict[str, float] = field(default_factory=dict)  # seconds that each took of the latest that ended


@dataclass(frozen=True, slots=True)
class Verified:
    """Byte-reading verifications of one tier."""

    successes: int = 0
    failures: int = 0  # corruption was found
    latest: float = 0.0  # Unix seconds
    sound: bool = False
    problem: str = ""  # the first that the latest found


@dataclass(frozen=True, slots=True)
class Retained:
    """Retention of one tier."""

    latest: float = 0.0  # Unix seconds of the last run that came to its end
    refused: bool = False  # the last run would have let go of more than half
    backups: int = 0  # let go of
    freed: int = 0  # bytes


@dataclass(frozen=True, slots=True)
class Entries:
    """The whole journal."""

    backups: Backups = field(default_factory=Backups)
    verified: dict[str, Verified] = field(default_factory=dict)  # by tier
    drill: dict[str, Any] = field(default_factory=dict)  # the latest result, as `drill --json` tells it
    drills: dict[str, int] = field(default_factory=dict)  # how many ended ok, failed, inconclusive
    retention: dict[str, Retained] = field(default_factory=dict)  # by tier


class Journal:
    """Read and written by any number of processes."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the cluster's."""
        self._folder = folder

    def read(self) -> Entries:
        """As it stands; empty where there is none, or it cannot be read."""
        try:
            found = json.loads((self._folder / JOURNAL).read_text())
            verified = {tier: _read(Verified, each) for tier, each in found["verified"].items()}
            retention = {tier: _read(Retained, each) for tier, each in found.get("retention", {}).items()}
            drill, drills = dict(found["drill"]), dict(found["drills"])
            return Entries(_read(Backups, found["backups"]), verified, drill, drills, retention)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Entries()

    def change(self, to: Callable[[Entries], Entries]) -> Entries:
        """Put what `to` makes of it in its place. Raises: Unavailable; ConfigError where there is no archive."""
        with in_turn(self._folder / _LOCK):
            entries = to(self.read())
            write_file(self._folder / JOURNAL, json.dumps(asdict(entries)).encode())
            return entries

    def backups(self, **changes: Any) -> None:
        """Set fields of `backups`."""
        self.change(lambda entries: replace(entries, backups=replace(entries.backups, **changes)))

    def verified(self, tier: str, time: float, problem: str, *, everything: bool = True) -> None:
        """A verification of a tier, or of some of its backups, has ended; `problem` is "" where all was sound.

        Of some: that these are sound takes nothing back of what was found of others, and no time is told of all.
        """

        def to(entries: Entries) -> Entries:
            before = entries.verified.get(tier, Verified())
            found = replace(
                before, successes=before.successes + (not problem), failures=before.failures + bool(problem)
            )
            if everything or problem:
                latest = time if everything else before.latest or time
                found = replace(found, latest=latest, sound=not problem, problem=problem)
            return replace(entries, verified={**entries.verified, tier: found})

        self.change(to)

    def drilled(self, result: dict[str, Any]) -> None:
        """A drill has ended; `result["outcome"]` is ok, failed or inconclusive."""

        def to(entries: Entries) -> Entries:
            outcome = str(result["outcome"])
            counts = {**entries.drills, outcome: entries.drills.get(outcome, 0) + 1}
            return replace(entries, drill=result, drills=counts)

        self.change(to)

    def retained(self, tier: str, time: float, backups: int, freed: int) -> None:
        """Retention has come to its end: so many backups were let go of, so many bytes deleted."""
        self._retention(tier, lambda before: Retained(time, False, before.backups + backups, before.freed + freed))

    def retention_refused(self, tier: str) -> None:
        """Retention would have let go of more than half, and did nothing."""
        self._retention(tier, lambda before: replace(before, refused=True))

    def _retention(self, tier: str, to: Callable[[Retained], Retained]) -> None:
        def changed(entries: Entries) -> Entries:
            found = to(entries.retention.get(tier, Retained()))
            return replace(entries, retention={**entries.retention, tier: found})

        self.change(changed)


def _read(kind: type[T], found: Mapping[str, Any]) -> T:
    """What is known of it: a newer tallykeep, gone back from, may have written more."""
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in found.items() if name in known})
