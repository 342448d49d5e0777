"""Reports for people: the verdict first, one reason a line, then the figures. Colours on a terminal only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from tallykeep.systems.litestream.drill_result import DrillResult
from tallykeep.systems.litestream.inventory import LtxFile
from tallykeep.systems.litestream.levels import level_name
from tallykeep.systems.litestream.report import LocalSide, Report, Verdict, explained
from tallykeep.units import format_bytes, format_duration, format_timestamp

_COLOURS = {"restorable": 32, "ok": 32, "unrestorable": 31, "failed": 31, "unknown": 33, "inconclusive": 33}
_MOST_LINES = 20
_PROOFS = {
    "listing": "names and sizes only; --deep reads every file, --drill restores as well",
    "checksums": "every listed file was read and verified",
    "drill": "every listed file was read and verified, and the database was restored and examined",
}


def coloured(word: str) -> str:
    """A verdict in its colour where standard output is a terminal and NO_COLOR is not set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return word
    return f"\x1b[1;{_COLOURS.get(word, 0)}m{word}\x1b[0m"


def report_lines(report: Report) -> Iterator[str]:
    """A report of `check`."""
    yield f"{coloured(str(report.verdict))}: {report.target}"
    yield from (f"  {line}" for line in explained(report))
    yield from (f"  note: {note}" for note in report.notes)
    yield from (f"  {name + ':':<18}{value}" for name, value in _figures(report))


def _figures(report: Report) -> Iterator[tuple[str, str]]:
    if report.verdict is Verdict.UNKNOWN and not report.files:
        return
    txid = "none"
    if report.restorable_txid is not None:
        behind = f" of {report.newest_txid}" if report.newest_txid != report.restorable_txid else ""
        txid = f"{report.restorable_txid}{behind}"
    yield "restorable TXID", txid
    yield "restore plan", f"{report.plan_files} files, {format_bytes(report.plan_bytes)}"
    yield "replica", f"{report.files} files, {format_bytes(report.bytes)}"
    if report.snapshot_txid is not None and report.snapshot_time is not None:
        yield "newest snapshot", f"TXID {report.snapshot_txid}, {format_timestamp(report.snapshot_time)}"
    if report.pitr_oldest_time is not None:
        yield "restore back to", format_timestamp(report.pitr_oldest_time)
    yield from _damage(report)
    if report.local is not None:
        yield from _local(report.local)
    if report.verified_files:
        yield "verified", f"{report.verified_files} files, {format_bytes(report.verified_bytes)}"
    if report.drill is not None:
        yield "drill", _drill_line(report.drill)
    yield "proof", f"{report.proof} ({_PROOFS[str(report.proof)]})"


def _damage(report: Report) -> Iterator[tuple[str, str]]:
    for file in report.corrupt_files[:_MOST_LINES]:
        yield "corrupt", f"{file.key}: {file.reason}{', in the restore plan' if file.in_plan else ''}"
    if (more := len(report.corrupt_files) - _MOST_LINES) > 0:
        yield "corrupt", f"and {more} more (--json has them all)"
    for gap in report.gaps[:_MOST_LINES]:
        covered = "covered by other levels" if gap.covered else "in no level"
        yield "gap", f"{level_name(gap.level)} after {gap.after}, before {gap.before}: {covered}"


def _local(local: LocalSide) -> Iterator[tuple[str, str]]:
    yield "behind by", "unknown" if local.lag_txids is None else f"{local.lag_txids} TXIDs"
    if local.rpo_commits is not None:
        yield "would lose now", f"{local.rpo_commits} commits"
    elif local.rpo_at_least is not None:
        yield "would lose now", f"at least {local.rpo_at_least} commits ({local.rpo_reason})"
    else:
        yield "would lose now", f"unknown ({local.rpo_reason})"


def _drill_line(drill: dict[str, object]) -> str:
    duration = format_duration(float(str(drill["duration"])))
    return f"{drill['result']}, TXID {drill['txid']}, {format_bytes(float(str(drill['image_bytes'])))}, {duration}"


def drill_lines(target: str, result: DrillResult) -> Iterator[str]:
    """A result of `drill`."""
    yield f"{coloured(result.result)}: drill of {target}"
    if result.message:
        yield f"  {result.stage}: {result.message}"
    yield from (f"  problem: {problem}" for problem in result.problems)
    yield from (f"  not examined: {thing}" for thing in result.unchecked)
    yield from (f"  corrupt: {key}: {reason}" for key, reason in result.corrupt.items())
    if result.txid is not None:
        yield f"  {'restored:':<18}TXID {result.txid}, {format_bytes(result.image_bytes)}"
        yield f"  {'fetched:':<18}{result.files} files, {format_bytes(result.bytes)}"
    if result.integrity:
        yield f"  {'examined with:':<18}{'integrity_check' if result.integrity == 'full' else 'quick_check'}"
    if result.live is not None:
        live = result.live
        told = live.reason or f"{live.compared} pages compared, {live.mismatched} differ"
        yield f"  {'live database:':<18}{live.match} ({told})"
    yield f"  {'took:':<18}{format_duration(result.duration)}"


def plan_lines(files: tuple[LtxFile, ...]) -> Iterator[str]:
    """The files of a plan in the order in which they are applied."""
    for number, file in enumerate(files, 1):
        yield (
            f"  {number:>4}  {level_name(file.level):<16}{file.name.min} to {file.name.max}"
            f"  {format_bytes(file.size):>10}  {format_timestamp(file.modified)}"
        )
