"""What comes of a verification."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

REST = ""  # instead of a backup's id: what belongs to the tier as a whole, or to no backup
_TOLD = 100  # problems of one verdict that are told one by one


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one backup in one tier, or on the REST of the tier, which is told only where something is wrong with it."""

    backup: str  # its id
    tier: str
    sound: bool
    problems: tuple[str, ...] = ()
    bytes: int = 0  # of its files
    pages: int = 0  # whose checksums were compared
    seconds: float = 0.0  # of the whole run, in which packs are read for all backups
    name: str = ""
    torn: int = 0  # pages written to while they were copied, which WAL makes whole
    page_checksums: bool = False  # whether its cluster has them: without, pages were not checked


@dataclass(slots=True)
class Problems:
    """What is wrong. Bounded: of thousands the first are told, and how many there are."""

    told: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, problem: str) -> None:
        """Once for each."""
        if problem in self.told:
            return
        self.count += 1
        if len(self.told) < _TOLD:
            self.told.append(problem)

    def extend(self, problems: Iterable[str]) -> None:
        for problem in problems:
            self.add(problem)

    def all(self) -> tuple[str, ...]:
        """What to tell."""
        more = self.count - len(self.told)
        return (*self.told, f"and {more} more") if more else tuple(self.told)
