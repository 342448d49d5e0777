"""When a tier last held all that its primary had, kept over restarts as the time of an empty file.

    level-1, level-2     in the cluster's folder, touched every 30 seconds at most while the tier is level

Without it a server that was away for an hour would say that it is seconds behind. Where nobody looked the time is too
early and never too late. Every call blocks.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tallykeep.clock import Clock
from tallykeep.storage.handing_over import hand_over

_EVERY = 30.0  # seconds between two touches


class Level:
    """Of one tier of one cluster."""

    def __init__(self, folder: Path, tier: str, clock: Clock) -> None:
        self._path = folder / f"level-{tier}"
        self._clock = clock
        self._touched = float("-inf")

    def age(self) -> float | None:
        """Seconds since it was level; None where it never was, as far as is known."""
        try:
            return max(0.0, self._clock.time() - self._path.stat().st_mtime)
        except OSError:
            return None

    def reached(self) -> None:
        """It is level now. A disk that does not take it is no reason to say nothing."""
        now = self._clock.monotonic()
        if now - self._touched < _EVERY:
            return
        with suppress(OSError):
            self._path.touch()
            hand_over(self._path, self._path.parent)
            os.utime(self._path, (self._clock.time(), self._clock.time()))
            self._touched = now
