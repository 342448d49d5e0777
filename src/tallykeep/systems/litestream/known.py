"""What was known of a replica at one moment: one listing, its plan, and what reading and restoring have shown.

A copy, so that it can be looked at in a thread while findings come in: with 100,000 files any walk over them would
hold the event loop up. Identities are reckoned once a listing, for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from tallykeep.systems.litestream.coverage import Cover, Pages, cover
from tallykeep.systems.litestream.inventory import Inventory, LtxFile
from tallykeep.systems.litestream.plan import Plan, make_plan

Identity = bytes  # 8 bytes: one state of one object


def identity(file: LtxFile) -> Identity:
    """Equal for two listings exactly while the object is the same: by etag, else by size and mtime."""
    state = file.etag or f"{file.size} {file.modified!r}"
    return blake2b(f"{file.key}\0{state}".encode(), digest_size=8).digest()


class Listed(NamedTuple):
    """One listing, made ready for looking things up."""

    inventory: Inventory
    plan: Plan  # of the newest TXID
    files: Mapping[Identity, LtxFile]  # every file
    planned: Mapping[Identity, LtxFile]  # those of the plan, in its order

    @classmethod
    def of(cls, inventory: Inventory) -> Listed:
        """Takes 0.8 s for 100,000 files: off the event loop."""
        plan = make_plan(inventory)
        return cls(
            inventory, plan, {identity(file): file for file in inventory}, {identity(file): file for file in plan.files}
        )


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


class Known(NamedTuple):
    """The findings of one target at one moment."""

    listed: Listed
    read: Mapping[Identity, float]  # Unix seconds of the last time it was read to its end
    corrupt: Mapping[Identity, str]  # reason
    pages: Mapping[Identity, Pages]
    malformed: str
    missing_pages: int

    def evidence(self) -> Evidence:
        """What holds for the files listed."""
        files = self.listed.files
        return Evidence(
            corrupt={files[key].key: reason for key, reason in self.corrupt.items() if key in files},
            pages={files[key].key: held for key, held in self.pages.items() if key in files},
            malformed=self.malformed,
            missing_pages=self.missing_pages,
        )

    def cover(self) -> Cover | None:
        """The pages of the plan; None until they are known."""
        plan, planned = self.listed.plan, self.listed.planned
        if not self.pages.keys() >= planned.keys():
            return None
        return cover(plan.files, {file.key: self.pages[key] for key, file in planned.items()})

    @property
    def sweep_result(self) -> str:
        """sound, corrupt or unknown: whether every file of the plan was read and is whole."""
        plan, planned = self.listed.plan, self.listed.planned
        if not planned:
            return "unknown"
        if planned.keys() & self.corrupt.keys() or plan.too_small:
            return "corrupt"
        return "sound" if planned.keys() <= self.read.keys() else "unknown"

    @property
    def unverified_files(self) -> int:
        """Listed files that have not been read yet."""
        return len(self.listed.files.keys() - self.read.keys())

    def corrupt_counts(self) -> Iterator[Count]:
        """Corrupt files by level and reason, those too small to be LTX files among them."""
        counts: dict[tuple[int, str], int] = {}
        for key, file in self.listed.files.items():
            reason = self.corrupt.get(key) or ("too_small" if file.too_small else "")
            if reason:
                counts[file.level, reason] = counts.get((file.level, reason), 0) + 1
        return (Count(level, reason, files) for (level, reason), files in sorted(counts.items()))
