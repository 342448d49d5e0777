"""Why a throw-away server could not be had, and what that says of the backup: that it is wanting, or nothing."""

from __future__ import annotations

from typing import Literal

Outcome = Literal["ok", "failed", "inconclusive"]


class Ended(Exception):
    """It cannot go on: failed, where the backup is at fault, or inconclusive; and why."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome: Outcome = outcome
