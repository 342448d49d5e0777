"""One restore drill: plan, fetch, decode, apply, hold against the live database, examine, ask.

It is inconclusive, not failed, whenever the replica has not been shown to be at fault: files that Litestream
deleted twice while they were fetched, no room, no answer, or something of the application's that SQLite would
need to look at everything. Runs in the worker's process, never in the daemon's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from tallykeep.clock import Clock, SystemClock
from tallykeep.errors import NotFound, RestoreError, StoreError
from tallykeep.storage.store import Store
from tallykeep.systems.litestream.drill_request import DrillRequest
from tallykeep.systems.litestream.drill_result import DrillResult
from tallykeep.systems.litestream.image import CannotWrite
from tallykeep.systems.litestream.integrity import Soundness, examine
from tallykeep.systems.litestream.inventory import Inventory
from tallykeep.systems.litestream.live import Restored, Side, compare
from tallykeep.systems.litestream.plan import Plan, Problem, make_plan
from tallykeep.systems.litestream.restore import CorruptFile, MissingPages, Progress, RestoredImage, apply
from tallykeep.systems.litestream.verifying import is_unchanged, opener

IMAGE = "image.db"

_REFUSED = {
    Problem.EMPTY: "the replica holds no LTX file",
    Problem.NO_BASE: "the replica has no base: no snapshot, and no file that starts at TXID 1",
    Problem.UNAVAILABLE: "the TXID cannot be restored: no chain of files ends exactly there",
}


OnProgress = Callable[[Progress], None]


class Vanished(Exception):
    """A file of the plan is gone, or is no longer the one that was listed."""


async def perform(
    store: Store, request: DrillRequest, on_progress: OnProgress = lambda progress: None, clock: Clock | None = None
) -> DrillResult:
    """Drill once, and once more where a file vanishes meanwhile. Leaves nothing in the scratch folder."""
    clock = clock or SystemClock()
    started, since = clock.time(), clock.monotonic()
    try:
        request.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            result = await _attempt(store, request, on_progress)
        except Vanished:
            result = await _attempt(store, request, on_progress)
    except Vanished as error:
        result = DrillResult("inconclusive", "fetch", f"{error} vanished while it was read, for the second time")
    except StoreError as error:
        result = DrillResult("inconclusive", "fetch", str(error))
    except OSError as error:
        result = DrillResult("inconclusive", "space", f"{request.scratch} cannot be used: {error.strerror}")
    finally:
        _clear(request)
    return replace(result, started=started, finished=clock.time(), duration=clock.monotonic() - since)


async def list_inventory(store: Store) -> Inventory:
    """One listing. Raises: StoreError."""
    inventory = Inventory()
    async for page in store.list():
        inventory.add(page)
    return inventory


async def _attempt(store: Store, request: DrillRequest, on_progress: OnProgress) -> DrillResult:
    plan = make_plan(await list_inventory(store), txid=request.txid)
    if plan.problem is not Problem.NONE:
        return DrillResult("failed", "plan", _refused(plan), files=len(plan.files))
    _clear(request)
    restored = await _restore(store, request, plan, on_progress)
    if isinstance(restored, DrillResult):
        return restored
    done = DrillResult(
        "ok", txid=restored.txid, base=plan.files[0].key, files=restored.files, bytes=restored.fetched,
        image_bytes=restored.bytes,
    )  # fmt: skip
    return _examined(_compared(done, restored, request), request)


async def _restore(
    store: Store, request: DrillRequest, plan: Plan, on_progress: OnProgress
) -> RestoredImage | DrillResult:
    """The image, or the drill's end. Raises: Vanished, StoreError."""
    by_key = {file.key: file for file in plan.files}
    told = DrillResult("failed", base=plan.files[0].key, files=len(plan.files))
    try:
        return await apply(plan.files, opener(store), request.scratch / IMAGE, on_progress, durable=False)
    except NotFound as error:
        raise Vanished(str(error)) from error
    except CorruptFile as error:
        if not await is_unchanged(store, by_key[error.key]):
            raise Vanished(error.key) from error
        corrupt: dict[str, str] = {error.key: error.error.reason}
        return replace(told, stage="decode", message=str(error), corrupt=corrupt)
    except MissingPages as error:
        return replace(told, stage="pages", message=str(error), missing_pages=len(error.pages))
    except CannotWrite as error:
        return replace(told, result="inconclusive", stage="space", message=str(error))
    except RestoreError as error:
        return replace(told, stage="decode", message=str(error))


def _refused(plan: Plan) -> str:
    if plan.problem is Problem.GAP and plan.gap is not None:
        return (
            f"TXIDs after {plan.gap.after} and before {plan.gap.before} are in no file: Litestream refuses to restore"
        )
    return _REFUSED[plan.problem]


def _compared(done: DrillResult, restored: RestoredImage, request: DrillRequest) -> DrillResult:
    """Before SQLite looks: the longer one waits, the more pages have changed."""
    database, ltx = request.target.database, request.target.local
    if database is None or ltx is None or request.txid is not None:
        return done
    image = Restored(request.scratch / IMAGE, restored.txid, restored.page_size, restored.commit)
    return replace(done, live=compare(image, Side(database, ltx)))


def _examined(done: DrillResult, request: DrillRequest) -> DrillResult:
    done = replace(done, integrity="full" if request.full else "quick")
    try:
        found = examine(request.scratch / IMAGE, full=request.full, assertions=request.questions)
    except sqlite3.Error as error:
        return replace(done, result="inconclusive", stage="integrity", message=f"SQLite could not look: {error}")
    return _judged(replace(done, problems=found.problems + found.refuted, unchecked=found.unchecked), found)


def _judged(done: DrillResult, found: Soundness) -> DrillResult:
    if found.problems:
        return replace(done, result="failed", stage="integrity", message=f"SQLite: {found.problems[0]}")
    if done.live is not None and done.live.match == "differs":
        message = f"{done.live.mismatched} of {done.live.compared} pages differ from the live database"
        return replace(done, result="failed", stage="compare", message=message)
    if found.refuted:
        return replace(done, result="failed", stage="assertions", message=found.refuted[0])
    if found.unchecked:
        return replace(done, result="inconclusive", stage="integrity", message=found.unchecked[0])
    return done


def _clear(request: DrillRequest) -> None:
    for path in request.scratch.glob(f"{IMAGE}*"):
        with suppress(FileNotFoundError):
            path.unlink()
