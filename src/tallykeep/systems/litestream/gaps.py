"""Where the chain of TXIDs is broken within a level, and whether it matters.

Litestream's own validation looks at each level by itself, so it warns of gaps that a restore never meets because
another level has those TXIDs. Here each gap says whether it is covered. One that is not makes the replica
unrestorable beyond it.

Source: Litestream 0.5.17, Replica.ValidateLevel (run beside it on damaged replicas).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tallykeep.systems.litestream.inventory import Inventory, LtxFile, Total
from tallykeep.systems.litestream.levels import SNAPSHOT
from tallykeep.systems.litestream.ltx.name import LtxName
from tallykeep.systems.litestream.ltx.txid import Txid


class Gap(NamedTuple):
    """TXIDs that one level lacks between two of its files."""

    level: int
    after: Txid  # the last TXID before it
    before: Txid  # the first TXID behind it
    covered: bool  # whether other levels hold all of it

    @property
    def missing(self) -> int:
        """How many TXIDs are missing."""
        return self.before - self.after - 1


class Overlap(NamedTuple):
    """Two files of one level that claim the same TXIDs."""

    level: int
    first: LtxName
    second: LtxName


class Faults(NamedTuple):
    """What is irregular in the names of one inventory."""

    gaps: Sequence[Gap]
    overlaps: Sequence[Overlap]
    duplicates: Total  # files whose very range stands at another level as well: space paid twice

    @property
    def uncovered(self) -> Sequence[Gap]:
        """The gaps that no other level covers."""
        return [gap for gap in self.gaps if not gap.covered]


class Coverage:
    """TXIDs held by any of some files, as disjoint runs that do not touch."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, files: Iterable[LtxFile]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for first, last in sorted((file.name.min, file.name.max) for file in files):
            if self._ends and first <= self._ends[-1] + 1:
                self._ends[-1] = max(self._ends[-1], last)
            else:
                self._starts.append(first)
                self._ends.append(last)

    def run_start(self, txid: int) -> int | None:
        """The first TXID of the run that holds `txid`; None where nothing holds it."""
        run = bisect_right(self._starts, txid) - 1
        return self._starts[run] if run >= 0 and txid <= self._ends[run] else None

    def holds(self, first: int, last: int) -> bool:
        """Whether every TXID from `first` to `last` is there."""
        start = self.run_start(last)
        return start is not None and start <= first


def find_faults(inventory: Inventory) -> Faults:
    """Gaps, overlaps and duplicates of all levels but the snapshots', which overlap by nature."""
    everything = Coverage(inventory)
    gaps: list[Gap] = []
    overlaps: list[Overlap] = []
    for level in inventory.levels:
        if level < SNAPSHOT:
            _scan(level, inventory.level(level), everything, gaps, overlaps)
    return Faults(gaps, overlaps, _duplicates(inventory))


def _scan(level: int, files: Sequence[LtxFile], everything: Coverage, gaps: list[Gap], overlaps: list[Overlap]) -> None:
    reach, widest = 0, None
    for file in files:
        first, last = file.name
        if widest is not None and first > reach + 1:
            gaps.append(Gap(level, Txid(reach), first, everything.holds(reach + 1, first - 1)))
        elif widest is not None and first <= reach:
            overlaps.append(Overlap(level, widest, file.name))
        if last > reach:
            reach, widest = last, file.name


def _duplicates(inventory: Inventory) -> Total:
    seen: set[LtxName] = set()
    files = size = 0
    for file in inventory:
        if file.name in seen:
            files += 1
            size += file.size
        seen.add(file.name)
    return Total(files, size)
