"""Is the program ready? Ready means: every listener is up and every collector has had its first attempt.

It says nothing of whether the attempts succeeded. A sidecar must not take its Pod out of service because S3 is
down; the safety of data is told by metrics and /status.
"""

from __future__ import annotations

from threading import Lock


class Health:
    """What a start still waits for. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: dict[str, None] = {}  # ordered
        self._seen: set[str] = set()

    def expect(self, part: str) -> None:
        """The program is not ready until `part` has been reported. A part that was reported stays so."""
        with self._lock:
            if part not in self._seen:
                self._waiting[part] = None

    def report(self, part: str) -> None:
        """`part` is there: a listener is up, or a first attempt has ended, well or not."""
        with self._lock:
            self._seen.add(part)
            self._waiting.pop(part, None)

    @property
    def waiting(self) -> tuple[str, ...]:
        """The parts still waited for, in the order in which they were expected."""
        with self._lock:
            return tuple(self._waiting)

    @property
    def ready(self) -> bool:
        """Has everything that was expected been reported?"""
        return not self.waiting
