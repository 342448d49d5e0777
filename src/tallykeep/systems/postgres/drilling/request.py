"""What a drill is asked for beyond the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

COLD = "cold"


@dataclass(frozen=True, slots=True)
class DrillRequest:
    """What differs from the settings."""

    tier: str = ""  # cold, 1 or 2
    key_file: Path | None = None
    keep: bool = False  # the folder, for whoever wants to look
