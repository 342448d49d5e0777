"""`tallykeep litestream restore`: a plan to the newest state, a TXID or a moment, and the file it gives."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tallykeep.errors import NotFound, RestoreError
from tallykeep.storage.store import Store
from tallykeep.systems.litestream.drilling import list_inventory
from tallykeep.systems.litestream.integrity import Soundness, examine
from tallykeep.systems.litestream.inventory import Inventory, LtxFile
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.header import HEADER_SIZE, Header
from tallykeep.systems.litestream.ltx.txid import Txid
from tallykeep.systems.litestream.plan import Plan, Problem, make_plan
from tallykeep.systems.litestream.restore import Progress, RestoredImage, apply
from tallykeep.systems.litestream.verdict import NEWER_V3
from tallykeep.systems.litestream.verifying import opener
from tallykeep.threads import in_thread
from tallykeep.units import format_timestamp

_ATTEMPTS = 3  # plans made, when files vanish while they are fetched
_AT_ONCE = 16  # headers read


class Goal(NamedTuple):
    """Where to restore to; neither: the newest state."""

    txid: Txid | None = None
    before: float | None = None  # Unix seconds: what was written earlier than this


class Restored(NamedTuple):
    """What a restore has given."""

    image: RestoredImage
    unchecked: tuple[str, ...]  # what SQLite could not look at here, and why
    notes: tuple[str, ...]  # what else there is to know


class Restoring:
    """One restore of one replica."""

    def __init__(self, store: Store, goal: Goal, integrity: str = "quick") -> None:
        """`integrity`: whether SQLite examines the database before it gets its name: none, quick or full."""
        self._store = store
        self._goal = goal
        self._integrity = integrity
        self._found = Soundness()
        self._notes: tuple[str, ...] = ()

    async def plan(self) -> Plan:
        """The plan by a fresh listing. Raises: RestoreError saying why there is none; StoreError."""
        inventory = await list_inventory(self._store)
        before = self._goal.before
        self._notes = (NEWER_V3,) if self._goal == Goal() and inventory.v3_is_newer else ()
        if before is None:
            plan = make_plan(inventory, txid=self._goal.txid)
        else:
            moments = await self._moments(inventory)
            plan = make_plan(inventory, before=before, created=lambda file: moments[file.key])
        if plan.problem is not Problem.NONE:
            raise RestoreError(self._refusal(plan))
        return plan

    async def restore(
        self, output: Path, on_progress: Callable[[Progress], None], expect: Callable[[float], None]
    ) -> Restored:
        """Write `output`, which must not be there, whole or not at all. `expect` is told of the bytes to come.

        Raises: RestoreError, for a database that SQLite calls malformed too; StoreError.
        """
        for attempt in range(_ATTEMPTS):
            plan = await self.plan()
            expect(plan.bytes)
            try:
                image = await apply(plan.files, opener(self._store), output, on_progress, examine=self._examine)
                return Restored(image, self._found.unchecked, self._notes)
            except NotFound:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def _examine(self, image: Path) -> None:
        if self._integrity == "none":
            return
        anyway = "restore it all the same with --integrity-check none"
        try:
            self._found = await in_thread(examine, image, full=self._integrity == "full")
        except sqlite3.Error as error:
            raise RestoreError(f"SQLite could not look at the restored database ({error}): {anyway}") from error
        if self._found.problems:
            raise RestoreError(f"the restored database is not sound ({self._found.problems[0]}): {anyway}")

    async def _moments(self, inventory: Inventory) -> dict[str, float]:
        """Data time of every file, as its header has it; what a listing shows where that cannot be read."""
        turns = asyncio.Semaphore(_AT_ONCE)

        async def moment(file: LtxFile) -> float:
            async with turns:
                try:
                    return Header.decode(await self._store.read_range(file.key, 0, HEADER_SIZE)).timestamp
                except (LtxError, NotFound):
                    return file.modified

        files = list(inventory)
        return dict(zip((file.key for file in files), await asyncio.gather(*map(moment, files)), strict=True))

    def _refusal(self, plan: Plan) -> str:
        reached = f"; --txid {plan.restorable_txid} can be restored" if plan.restorable_txid else ""
        if plan.problem is Problem.GAP and plan.gap is not None:
            return f"TXIDs between {plan.gap.after} and {plan.gap.before} are in no file{reached}"
        if plan.problem is Problem.UNAVAILABLE and self._goal.txid is not None:
            return f"TXID {self._goal.txid} cannot be restored: no chain of files ends exactly there{reached}"
        if plan.problem is Problem.UNAVAILABLE and self._goal.before is not None:
            return f"nothing on the replica was written before {format_timestamp(self._goal.before)}"
        if plan.problem is Problem.EMPTY:
            return "the replica holds no LTX file"
        return "the replica has no base: no snapshot, and no file that starts at TXID 1"
