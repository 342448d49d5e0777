"""What a drill is asked for beyond the settings, and who is told how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

COLD = "cold"


@dataclass(frozen=True, slots=True)
class DrillRequest:
    """What differs from the settings."""

    tier: str = ""  # cold, 1 or 2
    key_file: Path | None = None
    keep: bool = False  # the folder, for whoever wants to look


class Watch(Protocol):
    """Who is told how far a drill has come. Called from threads too."""

    def stage(self, name: str, total: int = 0) -> None:
        """It begins with something of `total` bytes; 0: nobody knows."""
        ...

    def advance(self, amount: int) -> None:
        """So many bytes more."""
        ...


class Silent:
    """Nobody."""

    def stage(self, name: str, total: int = 0) -> None:
        return

    def advance(self, amount: int) -> None:
        return
