"""How long to wait before the next try of something that keeps failing."""

from __future__ import annotations

from random import Random


class Backoff:
    """Delays that double from `first` to `most` seconds, each shortened at random by up to a half.

    The random part keeps many programs, stopped by one outage, from coming back in step.
    """

    def __init__(self, first: float = 1.0, most: float = 60.0, random: Random | None = None) -> None:
        self._first = first
        self._most = most
        self._random = random or Random()  # noqa: S311 - spreads load, keeps no secret
        self._next = first

    def delay(self) -> float:
        """Seconds to wait now; the next answer is about twice as long."""
        longest, self._next = self._next, min(self._next * 2, self._most)
        return longest * (1 - self._random.random() / 2)

    def reset(self) -> None:
        """It worked: begin with `first` again."""
        self._next = self._first
