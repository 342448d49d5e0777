"""What has been learned of one replica beyond its listing, shared by those who learn it and those who judge.

The remote collector puts in each new listing; sweep and drill put in what they find; the verdict is judged from
all of it. A finding belongs to one state of one object (its key with etag, or with size and mtime), so it leaves
together with the object, and an object that is written anew is looked at anew. Lives on the event loop: no locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple, TypeVar

from tallykeep.systems.litestream.coverage import Cover, Pages, cover
from tallykeep.systems.litestream.drill_result import DrillResult
from tallykeep.systems.litestream.inventory import Inventory, LtxFile
from tallykeep.systems.litestream.plan import Plan, make_plan
from tallykeep.systems.litestream.verifying import Checked

V = TypeVar("V")
Identity = bytes  # 8 bytes: one state of one object


def identity(file: LtxFile) -> Identity:
    """Equal for two listings exactly while the object is the same: by etag, else by size and mtime."""
    state = file.etag or f"{file.size} {file.modified!r}"
    return blake2b(f"{file.key}\0{state}".encode(), digest_size=8).digest()


def by_identity(inventory: Inventory) -> dict[Identity, LtxFile]:
    """Every listed file under its identity."""
    return {identity(file): file for file in inventory}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the listed files beyond their names and sizes, by key. Empty: only the listing is."""

    corrupt: Mapping[str, str] = field(default_factory=dict)  # key -> reason
    pages: Mapping[str, Pages] = field(default_factory=dict)
    malformed: str = ""  # what the drill found wrong with the restored database
    missing_pages: int = 0  # of the last plan that was read to its end, while restores start from the same base

    @property
    def empty(self) -> bool:
        """Whether nothing is known."""
        return not (self.corrupt or self.pages or self.malformed or self.missing_pages)


class Count(NamedTuple):
    """Corrupt files of one level with one reason."""

    level: int
    reason: str
    files: int


class Findings:
    """The findings of one target."""

    def __init__(self, *, all_pages: bool = False) -> None:
        """`all_pages`: keep the pages of every file, not just of those in the plan."""
        self._all_pages = all_pages
        self.inventory: Inventory | None = None  # the latest listing
        self.plan: Plan | None = None  # of the newest TXID
        self.listed: dict[Identity, LtxFile] = {}
        self.read: dict[Identity, float] = {}  # Unix seconds of the last time it was read to its end
        self.corrupt: dict[Identity, str] = {}  # reason, of those read that are not sound
        self.pages: dict[Identity, Pages] = {}  # of sound files
        self.looked = asyncio.Event()  # a listing came; whoever acts on it clears this
        self._awaited: set[Identity] = set()  # of the plan, not read yet
        self._read_up = asyncio.Event()  # nothing is awaited
        self._lacking = ("", 0)  # the last plan that was read to its end: key of its base, missing pages
        self.drill: DrillResult | None = None  # the last one
        self.drill_success = 0.0  # Unix seconds of the end of the last one that was ok
        self.unsound: DrillResult | None = None  # the last one that found the database malformed, if none was ok since

    def look(
        self, inventory: Inventory, plan: Plan | None = None, listed: dict[Identity, LtxFile] | None = None
    ) -> None:
        """Take in a new listing; what is no longer listed is forgotten.

        `listed` are its files, `by_identity`; reckoned here where it is not given: 0.4 s for 100,000.
        """
        self.inventory = inventory
        self.plan = plan or make_plan(inventory)
        self.listed = by_identity(inventory) if listed is None else listed
        _keep(self.read, self.listed.keys())
        _keep(self.corrupt, self.listed.keys())
        _keep(self.pages, self.listed.keys() if self._all_pages else {identity(file) for file in self.plan.files})
        self._awaited = {identity(file) for file in self.plan.files} - self.read.keys()
        self._read_up.clear()
        self._settle()
        self.looked.set()

    def record(self, checked: Checked, now: float) -> None:
        """Take in what reading one file has shown, at `now` in Unix seconds."""
        key = identity(checked.file)
        if checked.vanished or key not in self.listed:
            return
        self.read[key] = now
        self.corrupt.pop(key, None)
        if checked.pages is None:
            self.corrupt[key] = checked.reason
        elif self._all_pages or checked.file in self._planned:
            self.pages[key] = checked.pages
        self._awaited.discard(key)
        self._settle()

    async def read_up(self, seconds: float) -> None:
        """Return once every file of the plan has been read, but no later than in `seconds`.

        A busy replica has new files at each listing: whoever tells what the sweep has found lets it read them first.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._read_up.wait()

    def _settle(self) -> None:
        if not self._read_up.is_set() and not self._awaited:
            covered = self.cover
            if covered is not None:
                self._lacking = (self._planned[0].key, len(covered.missing))
            self._read_up.set()

    @property
    def _planned(self) -> Sequence[LtxFile]:
        return () if self.plan is None else self.plan.files

    def drilled(self, result: DrillResult) -> None:
        """Take in the result of a drill, and what it has learned of files and pages."""
        self.drill = result
        if result.ok:
            self.drill_success = result.finished
        if result.ok or result.malformed:
            self.unsound = None if result.ok else result
        if result.ok or result.missing_pages:
            self._lacking = (result.base, result.missing_pages)
        for key, file in self.listed.items() if result.corrupt else ():
            if file.key in result.corrupt:
                self.read[key] = result.finished
                self.corrupt[key] = result.corrupt[file.key]

    def evidence(self) -> Evidence:
        """What holds for the files listed last."""
        listed, corrupt, pages = self.listed, dict(self.corrupt), dict(self.pages)
        return Evidence(
            corrupt={listed[key].key: reason for key, reason in corrupt.items() if key in listed},
            pages={listed[key].key: held for key, held in pages.items() if key in listed},
            malformed=self._malformed(),
            missing_pages=self._lacking[1] if self._planned and self._planned[0].key == self._lacking[0] else 0,
        )

    @property
    def cover(self) -> Cover | None:
        """The pages of the current plan; None until they are known."""
        return None if self.plan is None else cover(self.plan.files, self.evidence().pages)

    @property
    def sweep_result(self) -> str:
        """sound, corrupt or unknown: whether every file of the current plan was read and is whole."""
        if self.plan is None or not self.plan.files:
            return "unknown"
        files = {identity(file) for file in self.plan.files}
        if files & self.corrupt.keys() or self.plan.too_small:
            return "corrupt"
        return "sound" if files <= self.read.keys() else "unknown"

    @property
    def unverified_files(self) -> int:
        """Listed files that have not been read yet."""
        return len(self.listed.keys() - self.read.keys())

    def corrupt_counts(self) -> Iterator[Count]:
        """Corrupt files by level and reason, those too small to be LTX files among them."""
        counts: dict[tuple[int, str], int] = {}
        for key, file in self.listed.items():
            reason = self.corrupt.get(key) or ("too_small" if file.too_small else "")
            if reason:
                counts[file.level, reason] = counts.get((file.level, reason), 0) + 1
        return (Count(level, reason, files) for (level, reason), files in sorted(counts.items()))

    def _malformed(self) -> str:
        """What a drill found, as long as restores start from the same base: a new snapshot heals."""
        unsound = self.unsound
        return unsound.malformed if unsound and self._planned and self._planned[0].key == unsound.base else ""


def _keep(findings: dict[Identity, V], keys: Set[Identity]) -> None:
    for gone in findings.keys() - keys:
        findings.pop(gone, None)
