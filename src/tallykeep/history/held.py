"""Rounds that wait to be written, a bounded number of them.

Appended on the event loop, taken by the writer. Over the bound, two neighbours of one quarter of an hour are folded,
oldest first, which no rollup notices; where there are none, the two oldest.
"""

from __future__ import annotations

from threading import Lock

from tallykeep.history.rounds import Round, fold

POINTS = 250_000  # held at most in all rounds together, about 50 MB


class Held:
    """A queue that folds instead of growing."""

    def __init__(self, most: int) -> None:
        self.folded = 0  # rounds that became part of another
        self._most = max(2, most)
        self._rounds: list[Round] = []
        self._writing = False  # the first one is with the writer
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._rounds)

    def put(self, round: Round) -> None:
        """Add a round behind the others."""
        with self._lock:
            self._rounds.append(round)
            while len(self._rounds) > (3 if self._writing else 2) and self._too_many():
                self._fold()

    def first(self) -> Round | None:
        """The oldest round, which stays as it is until `written` or `kept`."""
        with self._lock:
            self._writing = bool(self._rounds)
            return self._rounds[0] if self._rounds else None

    def written(self) -> None:
        """The oldest round is in the file: forget it."""
        with self._lock:
            del self._rounds[0]
            self._writing = False

    def kept(self) -> None:
        """The oldest round could not be written: hold it further."""
        with self._lock:
            self._writing = False

    def all(self) -> list[Round]:
        """Every held round, oldest first."""
        with self._lock:
            return list(self._rounds)

    def _too_many(self) -> bool:
        return len(self._rounds) > self._most or sum(len(round.points) for round in self._rounds) > POINTS

    def _fold(self) -> None:
        begin = 1 if self._writing else 0
        quarters = [round.quarter for round in self._rounds]
        pairs = range(begin, len(self._rounds) - 1)
        at = next((n for n in pairs if quarters[n] == quarters[n + 1]), begin)
        self._rounds[at : at + 2] = [fold(self._rounds[at], self._rounds[at + 1])]
        self.folded += 1
