"""The tally: window sums and counters, kept by differences.

Time is cut into blocks that do not overlap: minutes that are still open (rows may yet come), sealed hours, and
whole days where the first reading found history. A window is a stretch from a whole minute until now; its sums
are those of the blocks inside it and, where its start cuts a block in two, of single minutes of that block: its
edge. Nothing is summed twice: a refresh adds what changed to the windows that hold it, so its cost follows the
traffic and not the history.

A counter is the sum, over all blocks, of the highest each cell has ever been: it rises once for a late row and
does not fall when rows are deleted. What has left the longest window for good is folded into its base.

Does no I/O but for the ledger it is given; one thread at a time. reading.py says when what is called.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tallykeep.systems.litellm.cells import ZERO, Axis, Cells, Check, Series, Sums, add, difference, peaks, total
from tallykeep.systems.litellm.ledger import Block, Ledger

MINUTE, HOUR, DAY = 60, 3600, 86400


@dataclass(slots=True)
class Window:
    """A stretch of `length` seconds that ends now and starts on a whole minute."""

    name: str
    length: int  # seconds
    start: int  # Unix seconds
    axes: frozenset[Axis] = frozenset(Axis)  # what it sums
    sums: Cells = field(default_factory=dict)
    touched: set[Series] = field(default_factory=set)  # cells that changed since they were last taken up
    edge: int | None = None  # start of the sealed block that `start` cuts in two, once its minutes are in
    minutes: dict[int, Cells] = field(default_factory=dict)  # of that block, those inside the window

    def add(self, delta: Mapping[Series, Sums]) -> None:
        """Add to the sums; a cell without rows is gone."""
        sums_of, touched, axes = self.sums, self.touched, self.axes
        for series, sums in delta.items():
            if series[0] not in axes:
                continue
            touched.add(series)
            before = sums_of.get(series)
            now = sums if before is None else before.plus(sums)
            if now[0] > 0:  # requests
                sums_of[series] = now
            else:
                sums_of.pop(series, None)

    def take(self, cells: Mapping[Series, Sums]) -> None:
        """Take from the sums."""
        self.add({series: ZERO.minus(sums) for series, sums in cells.items() if series.axis in self.axes})

    def lose_edge(self) -> None:
        """Forget the minutes of the edge: they are to be read again."""
        for cells in self.minutes.values():
            self.take(cells)
        self.edge, self.minutes = None, {}


def window_start(now: float, length: int) -> int:
    """The whole minute at which a window of `length` seconds that ends at `now` begins."""
    return int(now - length) // MINUTE * MINUTE


class Tally:
    """Windows and counters of one database, over its ledger.

    `windows` gives the length of each in seconds, `axes` what those sum that do not sum everything. Loading adds up
    every block of the ledger once.
    """

    def __init__(
        self,
        ledger: Ledger,
        windows: Mapping[str, int],
        now: float,
        axes: Mapping[str, frozenset[Axis]] | None = None,
    ) -> None:
        self._ledger = ledger
        of = axes or {}
        self.windows = {
            name: Window(name, length, window_start(now, length), of.get(name, frozenset(Axis)))
            for name, length in windows.items()
        }
        self._base = ledger.base()
        self.counters: Cells = dict(self._base)
        self.counted: set[Series] = set(self.counters)  # counters that rose since they were last taken up
        self._open: dict[int, Block] = {}
        self._sealed: dict[int, int] = {}  # start -> stop
        self._starts: list[int] = []  # of the sealed blocks, ascending
        self._checks: dict[int, list[Check]] = {}
        self._unsaved: dict[int, Block] = {}
        self._gone: set[int] = set()
        self._folded: dict[Series, Sums] = {}
        for block in ledger.blocks():
            self._enter(block)

    def _enter(self, block: Block) -> None:
        if block.stop - block.start == MINUTE:
            self._open[block.start] = block
        else:
            self._index(block)
        self._count(block.peaks)
        for window in self.windows.values():
            if block.start >= window.start:
                window.add(block.cells)

    def _index(self, block: Block) -> None:
        self._sealed[block.start] = block.stop
        self._checks[block.start] = block.checks
        self._starts = sorted(self._sealed)

    def _count(self, delta: Mapping[Series, Sums]) -> None:
        self.counted.update(delta)
        counters = self.counters
        for series, sums in delta.items():
            before = counters.get(series)
            counters[series] = sums if before is None else before.plus(sums)

    def _save(self, block: Block) -> None:
        self._unsaved[block.start] = block
        self._gone.discard(block.start)

    def _forget(self, start: int) -> None:
        self._unsaved.pop(start, None)
        self._gone.add(start)

    # --- what is held

    @property
    def sealed_until(self) -> int | None:
        """Unix seconds up to which blocks are sealed; None before the first."""
        return self._sealed[self._starts[-1]] if self._starts else None

    @property
    def sealed_from(self) -> int | None:
        """Unix seconds from which on blocks are sealed; None before the first."""
        return self._starts[0] if self._starts else None

    def sealed(self) -> list[tuple[int, int]]:
        """(start, stop) of the sealed blocks, oldest first."""
        return [(start, self._sealed[start]) for start in self._starts]

    def sealed_at(self, moment: int) -> tuple[int, int]:
        """(start, stop) of the sealed block that holds a moment. Blocks leave no gap between the first and the last."""
        start = self._starts[bisect_right(self._starts, moment) - 1]
        return start, self._sealed[start]

    def check(self, start: int, hour: int) -> Check:
        """The fingerprint of the `hour`-th hour of a sealed block, as it was last read."""
        return self._checks[start][hour]

    def block(self, start: int) -> Block:
        """A sealed block, from the ledger. Raises: KeyError."""
        return self._unsaved[start] if start in self._unsaved else self._ledger.block(start)

    def open_minutes(self) -> Mapping[int, Block]:
        """The minutes that are not sealed yet, by their start."""
        return self._open

    # --- what was read

    def seal(self, blocks: Iterable[Block]) -> None:
        """Put hours or days, freshly read, in the place of the open minutes they cover."""
        for block in blocks:
            covered = [m for m in self._open if block.start <= m < block.stop]
            seen = total(self._open[m].peaks for m in covered)
            block.peaks = peaks(seen, block.cells) if seen else block.cells
            self._count(difference(block.peaks, seen) if seen else block.cells)
            for window in self.windows.values():
                for minute in covered:
                    if minute >= window.start:
                        window.take(self._open[minute].cells)
                if block.start >= window.start:
                    window.add(block.cells)
            for minute in covered:
                del self._open[minute]
                self._forget(minute)
            self._index(block)
            self._save(block)

    def prepend(self, blocks: Iterable[Block]) -> None:
        """Put blocks before the oldest, for a window that has become longer.

        What of them was counted once stands in the base, and what was not is older than the counters: none of it
        counts now, but what a check finds there later does.
        """
        for block in blocks:
            self._fold({series: ZERO.minus(sums) for series, sums in block.peaks.items()})
            for window in self.windows.values():
                if block.start >= window.start:
                    window.add(block.cells)
            self._index(block)
            self._save(block)

    def reopen(self, since: int, minutes: Mapping[int, Block]) -> None:
        """Replace the open minutes from `since` on by what was read of them now."""
        for start in {m for m in self._open if m >= since} | minutes.keys():
            old = self._open.get(start) or Block(start, start + MINUTE, {}, {})
            cells = minutes[start].cells if start in minutes else {}
            if cells == old.cells and start in self._open:
                continue
            new = Block(start, start + MINUTE, cells, peaks(old.peaks, cells))
            self._count(difference(new.peaks, old.peaks))
            delta = difference(cells, old.cells)
            for window in self.windows.values():
                if start >= window.start:
                    window.add(delta)
            self._open[start] = new
            self._save(new)

    def replace(self, block: Block) -> None:
        """Put what was read of a sealed block now in the place of what was read of it before."""
        old = self.block(block.start)
        block.peaks = peaks(old.peaks, block.cells)
        self._count(difference(block.peaks, old.peaks))
        delta = difference(block.cells, old.cells)
        for window in self.windows.values():
            if block.start >= window.start:
                window.add(delta)
            elif window.edge == block.start:
                window.lose_edge()
        self._index(block)
        self._save(block)

    def split(self, start: int, hours: list[Block]) -> None:
        """Put the hours of a sealed day in its place."""
        day = self.block(start)
        fresh = total(hour.cells for hour in hours)
        self._fold(difference(peaks(day.peaks, fresh), fresh))
        self._count(difference(peaks(day.peaks, fresh), day.peaks))
        for window in self.windows.values():
            if day.start >= window.start:
                window.take(day.cells)
            for hour in hours:
                if hour.start >= window.start:
                    window.add(hour.cells)
        del self._sealed[start], self._checks[start]
        self._forget(start)
        for hour in hours:
            hour.peaks = hour.cells
            self._index(hour)
            self._save(hour)

    def _fold(self, cells: Mapping[Series, Sums]) -> None:
        for series, sums in cells.items():
            add(self._base, series, sums)
            self._folded[series] = self._base[series]

    # --- time

    def advance(self, now: float) -> None:
        """Move the starts of the windows on; what falls out of them is taken away."""
        for window in self.windows.values():
            start = window_start(now, window.length)
            if start > window.start:
                self._move(window, start)
        self._drop_old()

    def _move(self, window: Window, start: int) -> None:
        for minute in [m for m in window.minutes if m < start]:
            window.take(window.minutes.pop(minute))
        for minute, block in self._open.items():
            if window.start <= minute < start:
                window.take(block.cells)
        first = bisect_right(self._starts, window.start - 1)
        for at in range(first, bisect_right(self._starts, start - 1)):
            window.take(self.block(self._starts[at]).cells)
        if window.edge is not None and self._sealed.get(window.edge, 0) <= start:
            window.lose_edge()
        window.start = start

    def _drop_old(self) -> None:
        oldest = min((window.start for window in self.windows.values()), default=0) - DAY
        while self._starts and self._sealed[self._starts[0]] <= oldest:
            start = self._starts.pop(0)
            self._fold(self.block(start).peaks)
            del self._sealed[start], self._checks[start]
            self._forget(start)

    def missing_edge(self, window: Window) -> tuple[int, int] | None:
        """(start, stop) of the sealed block that the window's start cuts in two, if its minutes are not in."""
        at = bisect_right(self._starts, window.start) - 1
        if at < 0:
            return None
        start = self._starts[at]
        if start < window.start < self._sealed[start] and window.edge != start:
            return start, self._sealed[start]
        return None

    def cut(self, window: Window, start: int, minutes: Mapping[int, Block]) -> None:
        """Give a window the minutes of the block that its start cuts in two."""
        window.lose_edge()
        window.edge = start
        window.minutes = {minute: block.cells for minute, block in minutes.items() if minute >= window.start}
        for cells in window.minutes.values():
            window.add(cells)

    # --- keeping

    def commit(self, meta: Mapping[str, str] | None = None) -> None:
        """Write what changed since the last commit. What could not be written is kept for the next.

        Raises: Unavailable, Corrupt.
        """
        self._ledger.commit(self._unsaved.values(), self._gone, self._folded, meta)
        self._unsaved, self._gone, self._folded = {}, set(), {}
