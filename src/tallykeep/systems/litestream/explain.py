"""Why a replica is what it is: the restore plan file by file, what was passed over, every gap, and what follows."""

from __future__ import annotations

from collections.abc import Iterator

from tallykeep.systems.litestream.inventory import Inventory, LtxFile
from tallykeep.systems.litestream.levels import level_name
from tallykeep.systems.litestream.ltx.txid import Txid
from tallykeep.systems.litestream.plan import Plan, Problem
from tallykeep.systems.litestream.rendering import coloured, plan_lines
from tallykeep.systems.litestream.report import Json, Reason, Report, explained
from tallykeep.units import format_bytes, format_timestamp


def explanation(report: Report, inventory: Inventory, plan: Plan) -> Iterator[str]:
    """For people."""
    yield f"{coloured(str(report.verdict))}: {report.target}"
    yield from (f"  {line}" for line in explained(report))
    yield ""
    yield from _levels(inventory)
    yield ""
    yield from _plan(plan)
    if report.gaps:
        yield ""
        yield "Gaps:"
        for gap in report.gaps:
            yield f"  {_gap(gap.level, gap.after, gap.before)}: {_consequence(gap.covered)}"
    yield ""
    yield from _conclusion(report)
    yield from (f"Note: {note}." for note in report.notes)


def as_json(report: Report, inventory: Inventory, plan: Plan) -> Json:
    """The report of a check, with the plan file by file and the levels."""
    return report.as_json() | {
        "plan": [_file(file) for file in plan.files] if plan.problem is not Problem.NO_BASE else [],
        "levels": [
            {"level": level, "files": total.files, "bytes": total.bytes} for level, total in inventory.totals.items()
        ],
    }


def _file(file: LtxFile) -> Json:
    return {
        "level": file.level,
        "key": file.key,
        "min_txid": str(file.name.min),
        "max_txid": str(file.name.max),
        "size": file.size,
        "modified": format_timestamp(file.modified),
    }


def _levels(inventory: Inventory) -> Iterator[str]:
    yield "On the replica:"
    for level in inventory.levels:
        files, total = inventory.level(level), inventory.totals[level]
        span = f"{files[0].name.min} to {max(file.name.max for file in files)}"
        yield f"  {level_name(level):<16}{total.files:>6} files {format_bytes(total.bytes):>10}  {span}"
    if not inventory.levels:
        yield "  no LTX files"


def _plan(plan: Plan) -> Iterator[str]:
    if plan.problem in (Problem.EMPTY, Problem.NO_BASE):
        yield "There is no restore plan: nothing starts at TXID 1, so there is nothing to build on."
        return
    yield "The restore plan: the newest snapshot, then always the file that reaches furthest without a gap."
    yield from plan_lines(plan.files)
    if plan.gap is not None:
        yield f"  then no file goes on after TXID {plan.gap.after}; the next one begins with {plan.gap.before}"


def _gap(level: int, after: Txid, before: Txid) -> str:
    missing = before - after - 1
    return f"{level_name(level)} lacks {missing} TXID{'s' * (missing != 1)} after {after}, before {before}"


def _consequence(covered: bool) -> str:
    return "other levels have them, no harm done" if covered else "no level has them, nothing beyond can be restored"


def _conclusion(report: Report) -> Iterator[str]:
    if not report.reasons and report.restorable_txid is not None:
        yield f"Litestream restores this replica to its newest TXID, {report.restorable_txid}."
    elif report.restorable_txid is not None and report.restorable_txid != report.newest_txid:
        yield f"`litestream restore` to the newest TXID {report.newest_txid} fails."
        yield f"`litestream restore -txid {report.restorable_txid}` works."
    elif report.restorable_txid is None and Reason.UNREACHABLE not in report.reasons:
        yield "Nothing can be restored from here. Let Litestream write a new snapshot: restart it, or reset its state."
