"""What has been learned of one replica beyond its listing, shared by those who learn it and those who judge.

The remote collector puts in each new listing; sweep and drill put in what they find; the verdict is judged from
all of it. A finding belongs to one state of one object (its key with etag, or with size and mtime), so it leaves
together with the object, and an object that is written anew is looked at anew. Lives on the event loop: no locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Set
from contextlib import suppress
from typing import TypeVar

from tallykeep.systems.litestream.coverage import Cover, Pages
from tallykeep.systems.litestream.drill_result import DrillResult
from tallykeep.systems.litestream.inventory import Inventory, LtxFile
from tallykeep.systems.litestream.known import Evidence, Identity, Known, Listed, identity
from tallykeep.systems.litestream.plan import Plan
from tallykeep.systems.litestream.verifying import Checked

V = TypeVar("V")


class Findings:
    """The findings of one target."""

    def __init__(self, *, all_pages: bool = False) -> None:
        """`all_pages`: keep the pages of every file, not just of those in the plan."""
        self._all_pages = all_pages
        self.seen: Listed | None = None  # the latest listing
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

    @property
    def inventory(self) -> Inventory | None:
        """The latest listing."""
        return None if self.seen is None else self.seen.inventory

    @property
    def plan(self) -> Plan | None:
        """That of the newest TXID."""
        return None if self.seen is None else self.seen.plan

    @property
    def listed(self) -> Mapping[Identity, LtxFile]:
        """The files listed last."""
        return {} if self.seen is None else self.seen.files

    def look(self, listed: Listed) -> None:
        """Take in a new listing; what is no longer listed is forgotten."""
        self.seen = listed
        _keep(self.read, listed.files.keys())
        _keep(self.corrupt, listed.files.keys())
        _keep(self.pages, listed.files.keys() if self._all_pages else listed.planned.keys())
        self._awaited = listed.planned.keys() - self.read.keys()
        self._read_up.clear()
        self._settle()
        self.looked.set()

    def record(self, checked: Checked, now: float) -> None:
        """Take in what reading one file has shown, at `now` in Unix seconds."""
        key = identity(checked.file)
        if checked.vanished or self.seen is None or key not in self.seen.files:
            return
        self.read[key] = now
        self.corrupt.pop(key, None)
        if checked.pages is None:
            self.corrupt[key] = checked.reason
        elif self._all_pages or key in self.seen.planned:
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
                self._lacking = (self._base, len(covered.missing))
            self._read_up.set()

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

    def known(self) -> Known | None:
        """All of it as it is now, to be looked at in a thread; None before the first listing."""
        if self.seen is None:
            return None
        missing = self._lacking[1] if self._base and self._base == self._lacking[0] else 0
        return Known(self.seen, dict(self.read), dict(self.corrupt), dict(self.pages), self._malformed(), missing)

    def evidence(self) -> Evidence:
        """What holds for the files listed last."""
        known = self.known()
        return Evidence() if known is None else known.evidence()

    @property
    def cover(self) -> Cover | None:
        """The pages of the current plan; None until they are known."""
        known = self.known()
        return None if known is None else known.cover()

    @property
    def sweep_result(self) -> str:
        """sound, corrupt or unknown, of the current plan."""
        known = self.known()
        return "unknown" if known is None else known.sweep_result

    @property
    def unverified_files(self) -> int:
        """Listed files that have not been read yet."""
        known = self.known()
        return 0 if known is None else known.unverified_files

    @property
    def _base(self) -> str:
        """The key of the file that restores start from; "" for none."""
        return self.seen.plan.files[0].key if self.seen is not None and self.seen.plan.files else ""

    def _malformed(self) -> str:
        """What a drill found, as long as restores start from the same base: a new snapshot heals."""
        unsound = self.unsound
        return unsound.malformed if unsound and self._base and self._base == unsound.base else ""


def _keep(findings: dict[Identity, V], keys: Set[Identity]) -> None:
    for gone in findings.keys() - keys:
        findings.pop(gone, None)
