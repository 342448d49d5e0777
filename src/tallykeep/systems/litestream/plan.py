"""Which files a restore would fetch, by Litestream's own rules, from one listing.

Start at the newest snapshot; then, of all files of the levels 8 to 0 that begin no later than one TXID after the
point reached, take the one that reaches furthest, and so on. Of equals the longer file is taken, then the higher
level. A restore of the newest state is refused when files remain that the chain does not reach; a restore to a
TXID or a moment is not, and leaves out every file that goes beyond it.

Litestream looks at names only, so a plan says nothing of contents. Files too small to be LTX files are in the plan
all the same, as they are in Litestream's, and are named by `too_small`.

Source: Litestream 0.5.17, CalcRestorePlan; held against `litestream restore -dry-run` by the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter

from tallykeep.systems.litestream.gaps import Coverage, Gap
from tallykeep.systems.litestream.inventory import Inventory, LtxFile
from tallykeep.systems.litestream.levels import COMPACTED, RAW, SNAPSHOT
from tallykeep.systems.litestream.ltx.txid import Txid

_CHAIN = (*COMPACTED, RAW)


class Problem(StrEnum):
    """Why a restore would be refused."""

    NONE = "none"
    EMPTY = "empty"  # no LTX file at all
    NO_BASE = "no_base"  # nothing that starts at TXID 1
    GAP = "gap"  # the chain ends before the newest file
    UNAVAILABLE = "unavailable"  # the asked TXID or moment cannot be met exactly


@dataclass(frozen=True, slots=True)
class Plan:
    """The files of a restore in the order they are applied, as far as the chain reaches."""

    files: tuple[LtxFile, ...]
    problem: Problem
    tip: Txid  # the newest TXID that any file name claims; 0 where there is none
    gap: Gap | None = None  # where the chain breaks

    @property
    def restorable_txid(self) -> Txid:
        """The newest TXID that can be reached without a gap, also where the tip cannot; 0 for none."""
        return Txid(0) if self.problem is Problem.NO_BASE or not self.files else self.files[-1].name.max

    @property
    def bytes(self) -> int:
        """What the restore would download."""
        return sum(file.size for file in self.files)

    @property
    def too_small(self) -> Sequence[LtxFile]:
        """Files of the plan that cannot be LTX files: the restore fails on them."""
        return [file for file in self.files if file.too_small]


def make_plan(
    inventory: Inventory,
    *,
    txid: int | None = None,
    before: float | None = None,
    created: Callable[[LtxFile], float] = attrgetter("modified"),
    without: Collection[str] = (),
) -> Plan:
    """The plan of a restore to the newest state, to exactly `txid`, or to what was written earlier than `before`.

    `created` gives a file's data time in Unix seconds. What a listing shows is data time in folders, but upload
    time on object stores, where the LTX header or the object's metadata has it. `without` leaves out files by
    key, as if they were not there: what is left to restore from when they are corrupt.
    """
    if txid is not None and before is not None:
        raise ValueError("a restore goes to a TXID or to a moment, not to both")

    def wanted(file: LtxFile) -> bool:
        if txid is not None and file.name.max > txid:
            return False
        if before is not None and created(file) >= before:
            return False
        return file.key not in without

    files = _snapshot(inventory, wanted)
    reached, rest = _extend(files, _candidates(inventory, without), wanted)
    tip = Txid(max((file.name.max for level in inventory.levels for file in inventory.level(level)), default=0))
    problem, gap = Problem.NONE, None
    if tip == 0:
        problem = Problem.EMPTY
    elif txid is not None or before is not None:
        if not files or (txid is not None and reached < txid):
            problem = Problem.UNAVAILABLE
    elif not files or files[0].name.min != 1:
        problem = Problem.NO_BASE
    elif rest is not None:
        problem = Problem.GAP
        gap = Gap(rest.level, reached, rest.name.min, covered=False)
    return Plan(tuple(files), problem, tip, gap)


def _snapshot(inventory: Inventory, wanted: Callable[[LtxFile], bool]) -> list[LtxFile]:
    return next(([file] for file in reversed(inventory.level(SNAPSHOT)) if wanted(file)), [])


def _candidates(inventory: Inventory, without: Collection[str]) -> list[LtxFile]:
    files = [file for level in _CHAIN for file in inventory.level(level) if file.key not in without]
    files.sort(key=lambda file: file.name.min)
    return files


def _extend(
    files: list[LtxFile], candidates: Sequence[LtxFile], wanted: Callable[[LtxFile], bool]
) -> tuple[Txid, LtxFile | None]:
    """Append what the chain takes; return where it ends and the first file that begins beyond that."""
    reached = files[-1].name.max if files else Txid(0)
    best: LtxFile | None = None
    for position, file in enumerate(candidates):
        if file.name.min > reached + 1:
            if best is None:
                return reached, file
            files.append(best)
            reached, best = best.name.max, None
            if file.name.min > reached + 1:
                return reached, candidates[position]
        if file.name.max > reached and (best is None or _rank(file) > _rank(best)) and wanted(file):
            best = file
    if best is not None:
        files.append(best)
        reached = best.name.max
    return reached, None


def _rank(file: LtxFile) -> tuple[int, int, int, float]:
    return (file.name.max, -file.name.min, file.level, -file.modified)


def find_newest(inventory: Inventory, plan: Plan) -> LtxFile | None:
    """The file whose header says where in the WAL the restorable state ends; None where nothing is restorable.

    That of level 0 where it is there: compactions do not name the place.
    """
    newest = plan.restorable_txid
    if newest == 0:
        return None
    raw = (file for file in reversed(inventory.level(RAW)) if file.name.max == newest)
    return next(raw, plan.files[-1])


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back a restore to a point in time can go."""

    bases: tuple[LtxFile, ...]  # from which an unbroken chain leads to the newest restorable TXID, oldest first

    @property
    def oldest(self) -> LtxFile | None:
        """The base that holds the oldest state."""
        return self.bases[0] if self.bases else None


def find_reach(inventory: Inventory, plan: Plan) -> Reach:
    """The bases (snapshots, and files of any level that start at TXID 1) that connect to `plan.restorable_txid`."""
    newest = plan.restorable_txid
    start = Coverage(file for level in _CHAIN for file in inventory.level(level)).run_start(newest)
    linked = newest if start is None else start - 1  # states from here on connect
    bases = [
        file
        for level in (SNAPSHOT, *_CHAIN)
        for file in inventory.level(level)
        if file.name.min == 1 and linked <= file.name.max <= newest
    ]
    return Reach(tuple(sorted(bases, key=lambda file: (file.name.max, -file.level))))
