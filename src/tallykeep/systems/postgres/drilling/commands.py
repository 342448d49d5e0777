"""`tallykeep postgres drill`: its arguments, and what it prints.

Exit status: 0 ok, 1 failed, 3 inconclusive; of several clusters the worst.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tallykeep.errors import Conflict
from tallykeep.runtime.telling import printable, tell
from tallykeep.systems.postgres.drilling.drill import drill
from tallykeep.systems.postgres.drilling.request import DrillRequest
from tallykeep.systems.postgres.drilling.result import DrillResult
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.throwaway.ended import Outcome
from tallykeep.systems.postgres.throwaway.watch import STAGES, Shown
from tallykeep.systems.postgres.working import Work, run_work
from tallykeep.units import format_bytes, format_duration, format_timestamp

if TYPE_CHECKING:
    from tallykeep.systems.postgres.cluster import Cluster

_STATUS: dict[Outcome, int] = {"ok": 0, "inconclusive": 3, "failed": 1}
_STAGES = STAGES | {
    "key": "reading the key", "amcheck": "checking tables and indexes", "questions": "asking questions",
    "checksums": "checking pages",
}  # fmt: skip


def run_drill(args: argparse.Namespace) -> int:
    """`drill`."""

    async def work(work: Work) -> int:
        results = [await _drilled(work, cluster) for cluster in work.clusters]
        lines = [printable(line) for each in results for line in drill_lines(each)]
        tell(args, [result.as_json() for result in results], lines)
        outcomes = {result.outcome for result in results}
        return next(status for outcome, status in sorted(_STATUS.items(), key=_severity) if outcome in outcomes)

    return run_work(args, work)


def _severity(item: tuple[Outcome, int]) -> int:
    return {"failed": 0, "inconclusive": 1, "ok": 2}[item[0]]


async def _drilled(work: Work, cluster: Cluster) -> DrillResult:
    args = work.args
    request = DrillRequest(args.tier or "", args.key_file, args.keep)
    with Shown(cluster.name, _STAGES, silent=args.json or args.quiet) as shown:
        try:
            return await drill(cluster, work.settings, work.clock, request, shown)
        except Conflict as error:
            result = DrillResult(cluster.name, request.tier, started=work.clock.time(), finished=work.clock.time())
            result.open_question("scratch", str(error))
            return result


def drill_lines(result: DrillResult) -> Iterator[str]:
    """A result for people."""
    how = "cold, from tier 2 alone" if result.cold else f"from tier {result.tier}"
    yield f"{result.outcome}: drill of {result.cluster}, {how}"
    yield from (f"  {problem}" for problem in result.problems)
    yield from (f"  not looked at: {thing}" for thing in result.unchecked)
    yield from (f"  {name + ':':<17}{value}" for name, value in _figures(result))
    yield from (f"  note: {note}" for note in result.notes)


def _figures(result: DrillResult) -> Iterator[tuple[str, str]]:
    if result.recovered_lsn:
        yield (
            "recovery time",
            (
                f"{format_duration(result.recovery_time)} ({format_duration(result.restore_seconds)} for "
                f"{format_bytes(result.bytes)} in {result.files} files, {format_duration(result.recovery_seconds)} for "
                f"{result.wal_segments} WAL segments)"
            ),
        )
        yield "recovered to", _reached(result)
    if result.backup:
        yield "backup", f"{result.backup_name} ({result.backup}) of PostgreSQL {result.version // 10_000}"
    if result.key:
        yield "key", result.key
    if result.recovered_lsn:
        yield "pg_amcheck", result.amcheck
        pages = f", {result.pages} pages" if result.pages else ""
        yield "page checksums", f"{result.checksums}{pages}"
    for answer in result.answers:
        yield "question", f"{answer.name}: {answer.said}{'' if answer.right else ' (wrong)'}"
    if result.folder:
        yield "kept in", result.folder


def _reached(result: DrillResult) -> str:
    commit = f", last commit {format_timestamp(result.commit_time)}" if result.commit_time else ", no commit in WAL"
    held = LSN.parse(result.held_lsn) if result.held_lsn else LSN(0)
    all_of_it = "all that can be reached" if not result.behind_bytes else f"{held} is held"
    return f"{result.recovered_lsn} on timeline {result.timeline} ({all_of_it}){commit}"
