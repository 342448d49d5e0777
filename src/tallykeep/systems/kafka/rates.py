"""How fast something grows: over the last ten seconds, by what was told in them."""

from __future__ import annotations

from collections import deque

SPAN = 10.0  # seconds


class Rate:
    """Amount a second. Not for several threads."""

    def __init__(self, start: float) -> None:
        """`start`: the clock's monotonic time now."""
        self._points: deque[tuple[float, float]] = deque([(start, 0.0)])
        self.total = 0.0

    def add(self, now: float, amount: float) -> None:
        """`amount` more, at `now`."""
        self.total += amount
        self._points.append((now, self.total))

    def at(self, now: float) -> float:
        """The rate at `now`; 0 where nothing was told yet."""
        while len(self._points) > 1 and self._points[1][0] <= now - SPAN:
            self._points.popleft()
        began, before = self._points[0]
        seconds = min(SPAN, now - began)
        return (self.total - before) / seconds if seconds > 0 else 0.0
