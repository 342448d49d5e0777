"""What was done to protect a cluster: backups, verifications, drills, by whichever process did it.

    journal.json     in the cluster's folder, written whole; the figures of every process are read from it

So a backup by command shows on the server's page, and counts go on over restarts. Small, and never needed to restore
anything: where it is lost, counts begin anew. Every call blocks.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tallykeep.systems.postgres.part import write_file

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


@dataclass(frozen=True, slots=True)
class Verified:
    """Byte-reading verifications of one tier."""

    successes: int = 0
    failures: int = 0  # corruption was found
    latest: float = 0.0  # Unix seconds
    sound: bool = False
    problem: str = ""  # the first that the latest found


@dataclass(frozen=True, slots=True)
class Entries:
    """The whole journal."""

    backups: Backups = field(default_factory=Backups)
    verified: dict[str, Verified] = field(default_factory=dict)  # by tier
    drill: dict[str, Any] = field(default_factory=dict)  # the latest result, as `drill --json` tells it
    drills: dict[str, int] = field(default_factory=dict)  # how many ended ok, failed, inconclusive


class Journal:
    """Read and written by any number of processes."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the cluster's."""
        self._folder = folder

    def read(self) -> Entries:
        """As it stands; empty where there is none, or it cannot be read."""
        try:
            found = json.loads((self._folder / JOURNAL).read_text())
            verified = {tier: Verified(**each) for tier, each in found["verified"].items()}
            return Entries(Backups(**found["backups"]), verified, dict(found["drill"]), dict(found["drills"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Entries()

    def change(self, to: Callable[[Entries], Entries]) -> Entries:
        """Put what `to` makes of it in its place. Raises: Unavailable."""
        file = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            entries = to(self.read())
            write_file(self._folder / JOURNAL, json.dumps(asdict(entries)).encode())
            return entries
        finally:
            os.close(file)

    def backups(self, **changes: Any) -> None:
        """Set fields of `backups`."""
        self.change(lambda entries: replace(entries, backups=replace(entries.backups, **changes)))

    def verified(self, tier: str, time: float, problem: str) -> None:
        """A verification of a tier has ended; `problem` is "" where all was sound."""

        def to(entries: Entries) -> Entries:
            before = entries.verified.get(tier, Verified())
            found = Verified(
                before.successes + (not problem), before.failures + bool(problem), time, not problem, problem
            )
            return replace(entries, verified={**entries.verified, tier: found})

        self.change(to)

    def drilled(self, result: dict[str, Any]) -> None:
        """A drill has ended; `result["outcome"]` is ok, failed or inconclusive."""

        def to(entries: Entries) -> Entries:
            outcome = str(result["outcome"])
            counts = {**entries.drills, outcome: entries.drills.get(outcome, 0) + 1}
            return replace(entries, drill=result, drills=counts)

        self.change(to)
