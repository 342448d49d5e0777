"""What every benchmark shares: timing, medians, one table of ratios, and the same as JSON with --json.

A benchmark runs ours and the named peer in one process tree on the same data, feeds both lists of measurements
to a `Report`, and ends with `report.finish(arguments)`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options every benchmark has: --json and --rounds."""
    made = argparse.ArgumentParser(description=(description or "").strip().splitlines()[0])
    made.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    made.add_argument("--rounds", type=int, default=3, help="how often each side is measured (default 3)")
    return made


def seconds(function: Callable[[], object], rounds: int = 3) -> list[float]:
    """Wall seconds of each of `rounds` calls."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return taken


def cpu_seconds(function: Callable[[], object], rounds: int = 3) -> list[float]:
    """CPU seconds (user and system, this process with all its threads) of each of `rounds` calls."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return taken


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. `ratio` says how many times better ours is; `goal` is the ratio aimed at."""

    what: str
    unit: str
    ours: float  # median
    peer: float | None  # median; None for a figure without a peer
    against: str
    ratio: float | None
    goal: str
    met: bool | None
    samples: int


@dataclass
class Report:
    """Collects rows and prints them once."""

    title: str
    rows: list[Row] = field(default_factory=list)

    def compare(
        self,
        what: str,
        ours: Sequence[float],
        peer: Sequence[float],
        *,
        against: str,
        unit: str = "s",
        goal: float | None = None,
        more_is_better: bool = False,
    ) -> Row:
        """Add ours against a peer. `goal` is the least ratio aimed at: 8.0 means eight times better."""
        own, other = statistics.median(ours), statistics.median(peer)
        above, below = (own, other) if more_is_better else (other, own)
        ratio = above / below if below else float("inf")
        aim = "" if goal is None else f">= {goal:g}x"
        met = None if goal is None else ratio >= goal
        row = Row(what, unit, own, other, against, ratio, aim, met, min(len(ours), len(peer)))
        self.rows.append(row)
        return row

    def figure(self, what: str, values: Sequence[float], *, unit: str, at_most: float | None = None) -> Row:
        """Add a figure that has no peer, with the most it should be."""
        own = statistics.median(values)
        aim = "" if at_most is None else f"<= {at_most:g} {unit}"
        met = None if at_most is None else own <= at_most
        row = Row(what, unit, own, None, "", None, aim, met, len(values))
        self.rows.append(row)
        return row

    def finish(self, arguments: argparse.Namespace) -> None:
        """Print the table, or with --json the object."""
        print(self.as_json() if arguments.json else self.as_table())

    def as_json(self) -> str:
        """One object: title, machine, rows."""
        rows = [{name: getattr(row, name) for name in Row.__slots__} for row in self.rows]
        return json.dumps({"title": self.title, "machine": machine(), "rows": rows}, indent=2)

    def as_table(self) -> str:
        """A Markdown table, ready for docs/performance.md."""
        lines = [f"### {self.title}", "", "| what | ours | peer | ratio | goal | rounds |", "|---|---|---|---|---|---|"]
        for row in self.rows:
            peer = "" if row.peer is None else f"{_short(row.peer)} {row.unit} ({row.against})"
            ratio = "" if row.ratio is None else f"{_short(row.ratio)}x"
            goal = row.goal + ("" if row.met is None else " met" if row.met else " MISSED")
            lines.append(f"| {row.what} | {_short(row.ours)} {row.unit} | {peer} | {ratio} | {goal} | {row.samples} |")
        return "\n".join([*lines, "", machine()])


def machine() -> str:
    """What the figures were measured on, with the load at the end of the run."""
    load = os.getloadavg()[0]
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{system}, Python {platform.python_version()}, load {load:.1f}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
