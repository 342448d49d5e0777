"""How far an archive is behind the primary, in bytes and in seconds: pure.

Seconds are reckoned from moments at which the primary was asked: the archive stands where the primary was at the last
of these whose position it holds. An idle primary does not move, so its archive is 0 seconds behind for ever. What was
before the first question has to be told: level.py knows.
"""

from __future__ import annotations

from collections import deque

_KEPT = 10_000  # moments; beyond that every other one is let go, and seconds are told too high, never too low


class Lag:
    """Fed with what the primary says and what the archive holds."""

    def __init__(self) -> None:
        self._moments: deque[tuple[float, int]] = deque()  # (when the primary was asked, where it was), not held yet
        self._held: float | None = None  # the last moment at which the archive held everything
        self.bytes = 0

    @property
    def asked(self) -> bool:
        """Whether it was ever fed."""
        return bool(self._moments) or self._held is not None

    def recall(self, moment: float) -> None:
        """The archive held everything at that moment, before it was asked for. Monotonic."""
        self._held = moment

    def look(self, now: float, primary: int, durable: int) -> float:
        """Seconds since the archive held all that the primary had; `bytes` is told anew, too. `now` is monotonic."""
        self.bytes = max(0, primary - durable)
        while self._moments and self._moments[-1][1] > primary:  # lost with a primary that is no more
            self._moments.pop()
        self._moments.append((now, primary))
        while self._moments and self._moments[0][1] <= durable:
            self._held = self._moments.popleft()[0]
        if len(self._moments) > _KEPT:
            self._moments = deque(list(self._moments)[::2])
        if not self._moments:
            return 0.0
        return now - (self._moments[0][0] if self._held is None else self._held)
