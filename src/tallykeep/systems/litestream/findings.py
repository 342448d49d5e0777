"""What has been learned of one replica beyond its listing, shared by those who learn it and those who judge.

The remote collector puts in each new listing; sweep and drill put in what they find; the verdict is judged from
all of it. A finding belongs to one state of one object (its key with etag, or with size and mtime), so it leaves
together with the object, and an object that is written anew is looked at anew. Lives on the event loop: no locks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from tallykeep.systems.litestream.coverage import Cover, Pages, cover
from tallykeep.systems.litestream.drill_result import DrillResult
from tallykeep.systems.litestream.inventory import Inventory, LtxFile
from tallykeep.systems.litestream.plan import Plan, make_plan
from tallykeep.systems.litestream.verifying import Checked

Identity = bytes  # 8 bytes: one state of one object


def identity(file: LtxFile) -> Identity:
    """Equal for two listings exactly while the object is the same: by etag, else by size and mtime."""
    state = file.etag or f"{file.size} {file.modified!r}"
    return blake2b(f"{file.key}\0{state}".encode(), digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the listed files beyond their names and sizes, by key. Empty: only the listing is."""

    corrupt: Mapping[str, str] = field(default_factory=dict)  # key -> reason
    pages: Mapping[str, Pages] = field(default_factory=dict)
    malformed: str = ""  # what the drill found wrong with the restored database

    @property
    def empty(self) -> bool:
        """Whether nothing is known."""
        return not (self.corrupt or self.pages or self.malformed)


class Count(NamedTuple):
    """Corrupt files of one level with one reason."""

    level: int
    reason: str
    files: int


class Findings:
    """The findings of one target."""

    def __init__(self) -> None:
        self.inventory: Inventory | None = None  # the latest listing
        self.plan: Plan | None = None  # of the newest TXID
        self.listed: dict[Identity, LtxFile] = {}
        self.verified: dict[Identity, float] = {}  # Unix seconds of the last time it was read and found whole
        self.corrupt: dict[Identity, str] = {}  # reason
        self.pages: dict[Identity, Pages] = {}  # of the plan's files
        self.drill: DrillResult | None = None  # the last one
        self.drill_success = 0.0  # Unix seconds of the end of the last one that was ok
        self._drilled_base: Identity | None = None

    def look(self, inventory: Inventory, plan: Plan | None = None) -> None:
        """Take in a new listing; what is no longer listed is forgotten."""
        self.inventory = inventory
        self.plan = plan or make_plan(inventory)
        self.listed = {identity(file): file for file in inventory}
        for findings in (self.verified, self.corrupt, self.pages):
            for gone in findings.keys() - self.listed.keys():
                findings.pop(gone)

    def record(self, checked: Checked, now: float) -> None:
        """Take in what reading one file has shown, at `now` in Unix seconds."""
        key = identity(checked.file)
        if checked.vanished or key not in self.listed:
            return
        self.verified.pop(key, None)
        self.corrupt.pop(key, None)
        if checked.pages is None:
            self.corrupt[key] = checked.reason
        else:
            self.verified[key] = now
            self.pages[key] = checked.pages

    def drilled(self, result: DrillResult) -> None:
        """Take in the result of a drill."""
        self.drill = result
        if result.ok:
            self.drill_success = result.finished
        self._drilled_base = self._base()

    def evidence(self) -> Evidence:
        """What holds for the files listed last."""
        listed = self.listed
        return Evidence(
            corrupt={listed[key].key: reason for key, reason in self.corrupt.items() if key in listed},
            pages={listed[key].key: pages for key, pages in self.pages.items() if key in listed},
            malformed=self._malformed(),
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
        return "sound" if files <= self.verified.keys() else "unknown"

    @property
    def unverified_files(self) -> int:
        """Listed files that have not been read yet."""
        return len(self.listed.keys() - self.verified.keys() - self.corrupt.keys())

    def corrupt_counts(self) -> Iterator[Count]:
        """Corrupt files by level and reason, those too small to be LTX files among them."""
        counts: dict[tuple[int, str], int] = {}
        for key, file in self.listed.items():
            reason = self.corrupt.get(key) or ("too_small" if file.too_small else "")
            if reason:
                counts[file.level, reason] = counts.get((file.level, reason), 0) + 1
        return (Count(level, reason, files) for (level, reason), files in sorted(counts.items()))

    def _base(self) -> Identity | None:
        return identity(self.plan.files[0]) if self.plan is not None and self.plan.files else None

    def _malformed(self) -> str:
        """What the last drill found, as long as a restore still starts from the same base: a new snapshot heals."""
        if self.drill is None or not self.drill.malformed or self._drilled_base != self._base():
            return ""
        return self.drill.malformed
