"""What the commands of `tallykeep litestream` do, once their arguments are read."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from tallykeep.errors import SourceError
from tallykeep.runtime.progress import Meter, progress
from tallykeep.storage.retry import RetryStore
from tallykeep.storage.store import Store
from tallykeep.systems.litestream import explain, rendering
from tallykeep.systems.litestream.check import Check
from tallykeep.systems.litestream.drill import run_drill
from tallykeep.systems.litestream.drill_request import DrillRequest
from tallykeep.systems.litestream.drill_result import DrillResult, Question
from tallykeep.systems.litestream.ltx.txid import Txid
from tallykeep.systems.litestream.pick import pick_target
from tallykeep.systems.litestream.report import Proof, Report
from tallykeep.systems.litestream.restore import Progress
from tallykeep.systems.litestream.restoring import Goal, Restoring
from tallykeep.systems.litestream.targets import Target
from tallykeep.systems.litestream.verdict import unreachable

_TIMEOUT = 20.0  # seconds for one request
_PATIENCE = 10.0  # seconds in which a request is made again
_DRILL_STATUS = {"ok": 0, "failed": 1, "inconclusive": 3}


def run_check(args: argparse.Namespace) -> int:
    """`check`."""
    proof = Proof.DRILL if args.drill else Proof.CHECKSUMS if args.deep else Proof.LISTING
    report = asyncio.run(_checked(pick_target(args), args, proof))
    _tell(args, report.as_json(), rendering.report_lines(report))
    return report.exit_status


async def _checked(target: Target, args: argparse.Namespace, proof: Proof) -> Report:
    try:
        store = opened(target)
    except SourceError as error:
        return unreachable(target.name, proof, str(error))

    async def drill(txid: Txid | None) -> DrillResult:
        return await _drilled(target, args, txid, full=True)

    with progress("verifying", silent=args.json or proof is Proof.LISTING) as meter:
        check = Check(target, store, drill=drill, advance=_Advance(meter))
        try:
            return await check.run(proof)
        finally:
            await store.close()


class _Advance:
    """Totals so far, passed on as steps."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._done = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        self._meter.expect(total)
        self._meter.advance(done - self._done)
        self._done = done


def opened(target: Target) -> Store:
    """The replica, asked again for a few seconds where it does not answer. Raises: SourceError, ConfigError."""
    return RetryStore(target.open(_TIMEOUT), deadline=_PATIENCE)


def run_explain(args: argparse.Namespace) -> int:
    """`explain`."""
    return asyncio.run(_explained(pick_target(args), args))


async def _explained(target: Target, args: argparse.Namespace) -> int:
    try:
        store = opened(target)
    except SourceError as error:
        report = unreachable(target.name, Proof.LISTING, str(error))
        _tell(args, report.as_json(), rendering.report_lines(report))
        return report.exit_status
    try:
        check = Check(target, store)
        report = await check.run(Proof.LISTING)
    finally:
        await store.close()
    inventory, plan = check.findings.inventory, check.findings.plan
    if inventory is None or plan is None:
        _tell(args, report.as_json(), rendering.report_lines(report))
    else:
        _tell(args, explain.as_json(report, inventory, plan), explain.explanation(report, inventory, plan))
    return report.exit_status


def run_drill_command(args: argparse.Namespace) -> int:
    """`drill`."""
    target = pick_target(args)
    result = asyncio.run(_drilled(target, args, args.txid, full=not args.quick))
    _tell(args, {"target": target.name} | result.as_json(), rendering.drill_lines(target.name, result))
    return _DRILL_STATUS[result.result]


async def _drilled(target: Target, args: argparse.Namespace, txid: Txid | None, *, full: bool) -> DrillResult:
    questions = tuple(Question(sql, sql) for sql in getattr(args, "assertions", None) or ())
    scratch = Path(args.scratch or tempfile.gettempdir()) / f"tallykeep-drill-{uuid4().hex}"
    request = DrillRequest(target, scratch, txid, full, questions)
    with progress("restoring", silent=args.json) as meter:
        return await run_drill(request, args.timeout, _Fetched(meter))


class _Fetched:
    """Bytes fetched, passed on as steps."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._bytes = 0

    def __call__(self, done: Progress) -> None:
        self._meter.advance(done.bytes - self._bytes)
        self._bytes = done.bytes


def run_restore(args: argparse.Namespace) -> int:
    """`restore`."""
    return asyncio.run(_restored(pick_target(args), args))


async def _restored(target: Target, args: argparse.Namespace) -> int:
    store = opened(target)
    try:
        restoring = Restoring(store, Goal(args.txid, args.timestamp), args.integrity_check)
        if args.dry_run:
            plan = await restoring.plan()
            reached = {"txid": str(plan.restorable_txid), "files": len(plan.files), "bytes": plan.bytes}
            _tell(args, reached | {"plan": [file.key for file in plan.files]}, rendering.plan_lines(plan.files))
            return 0
        with progress("restoring", silent=args.json) as meter:
            restored, unchecked, notes = await restoring.restore(args.output, _Fetched(meter), meter.expect)
    finally:
        await store.close()
    told = restored._asdict() | {"output": str(args.output), "txid": str(restored.txid), "bytes": restored.bytes}
    lines = [f"restored {args.output} to TXID {restored.txid}: {restored.files} files, {restored.bytes} bytes"]
    lines += [f"  not examined: {thing}" for thing in unchecked]
    lines += [f"  note: {note}" for note in notes]
    more = {"integrity": args.integrity_check, "unchecked": list(unchecked), "notes": list(notes)}
    _tell(args, told | more, lines)
    return 0


def _tell(args: argparse.Namespace, told: dict[str, object], lines: Iterable[str]) -> None:
    if args.json:
        sys.stdout.write(json.dumps(told, indent=None if not sys.stdout.isatty() else 2) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines)
