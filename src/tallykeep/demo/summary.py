"""What the demo was to show, and what it showed: one line each, and the exit status that follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tallykeep.units import format_duration

FAILED = 1
INTERRUPTED = 130


@dataclass(slots=True)
class Outcome:
    """One thing that was expected. `after` is the seconds it took; None while it has not happened."""

    what: str
    after: float | None = None
    detail: str = ""

    @property
    def happened(self) -> bool:
        """Whether it did."""
        return self.after is not None

    def line(self) -> str:
        """For the summary: a mark, what, how long it took."""
        if self.after is None:
            return f"  MISSING  {self.what}" + (f": {self.detail}" if self.detail else "")
        took = f"{self.what}, after {format_duration(self.after)}"
        return f"  ok       {took}" + (f" ({self.detail})" if self.detail else "")


@dataclass(slots=True)
class Summary:
    """Everything expected, in order, and what went wrong besides."""

    outcomes: list[Outcome] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)  # for people; nothing follows from them

    def expect(self, what: str, detail: str = "") -> Outcome:
        """Add something that is to happen."""
        self.outcomes.append(Outcome(what, detail=detail))
        return self.outcomes[-1]

    @property
    def complete(self) -> bool:
        """Whether all of it happened and nothing went wrong."""
        return bool(self.outcomes) and not self.troubles and all(outcome.happened for outcome in self.outcomes)

    def exit_status(self, *, interrupted: bool) -> int:
        """0 when complete. An interrupted demo that had not got to its end is neither good nor bad: 130."""
        if self.complete:
            return 0
        return INTERRUPTED if interrupted and not self.troubles else FAILED

    def lines(self) -> Iterator[str]:
        """The summary as it is printed."""
        yield "Summary"
        yield from (outcome.line() for outcome in self.outcomes)
        yield from (f"  TROUBLE  {trouble}" for trouble in self.troubles)
        yield from (f"  figures  {line}" for line in self.figures)
