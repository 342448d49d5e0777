"""`tallykeep postgres restore`: options into a request, the result onto the screen."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

from tallykeep.clock import SystemClock
from tallykeep.runtime.progress import progress
from tallykeep.runtime.signals import stop_requested
from tallykeep.runtime.telling import tell
from tallykeep.systems.postgres.restoring.choice_of_cluster import cluster_of, options_of, settings_of, tiers_of
from tallykeep.systems.postgres.restoring.environment import passed_on, withheld
from tallykeep.systems.postgres.restoring.readable import unreadable
from tallykeep.systems.postgres.restoring.request import PROGRAM, RestoreRequest, told
from tallykeep.systems.postgres.restoring.restore import Plan, Restored, plan, restore
from tallykeep.systems.postgres.settings import PostgresSettings
from tallykeep.systems.postgres.working import INTERRUPTED, ended_before
from tallykeep.units import format_bytes, format_duration


def run_restore(args: argparse.Namespace) -> int:
    """`restore`. Raises: TallykeepError."""
    return asyncio.run(_run(args))


async def _run(args: argparse.Namespace) -> int:
    settings, clock = settings_of(args), SystemClock()
    cluster = cluster_of(args, settings)
    try:
        planned = await plan(cluster, request_of(args, settings), clock)
        planned = replace(planned, notes=[*planned.notes, *_remarks(args, cluster.folder)])
        if args.dry_run:
            tell(args, plan_json(planned), [*plan_lines(planned), "nothing was written: --dry-run"])
            return 0
        if not args.json:
            sys.stderr.writelines(f"{line}\n" for line in plan_lines(planned))
        with progress("restoring", total=planned.entry.raw, silent=args.json or args.quiet) as meter:
            work = asyncio.create_task(restore(cluster, planned, clock, _passed_on(meter.advance)))
            if not await ended_before(stop_requested(), work):
                return INTERRUPTED
        tell(args, restored_json(work.result()), restored_lines(work.result()))
        return 0
    finally:
        await cluster.close()


def _passed_on(advance: Callable[[float], None]) -> Callable[[int], None]:
    """Progress from threads, to the loop's."""
    loop = asyncio.get_running_loop()

    def call(amount: int) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody looks any more
            loop.call_soon_threadsafe(advance, amount)

    return call


def asked(args: argparse.Namespace, target: Path) -> RestoreRequest:
    """Which backup, how far, and from where. Raises: ConfigError."""
    return RestoreRequest(
        target, args.backup, args.time, args.lsn, args.name, args.immediate, args.timeline, tiers_of(args)
    )  # fmt: skip


def request_of(args: argparse.Namespace, settings: PostgresSettings) -> RestoreRequest:
    """What the options ask for. Raises: ConfigError."""
    return replace(
        asked(args, args.to.absolute()), tablespaces=dict(args.tablespace), action=args.target_action,
        standby=args.standby, owner=args.owner, get_wal=options_of(args, settings), program=program_of(args, settings),
    )  # fmt: skip


def _remarks(args: argparse.Namespace, folder: Path) -> Sequence[str]:
    """What the server's environment must bring along, and its user be allowed; `folder` is tier 1 of the cluster."""
    found = []
    if names := withheld(os.environ):
        found.append(
            f"get-wal takes {' and '.join(names)} from the environment of PostgreSQL, which must have them: they are "
            "secrets and written nowhere; better put them into files, and name those in tallykeep.yaml"
        )
    if os.geteuid() == 0 and not args.owner:
        found.append("the files belong to root, who may not run PostgreSQL: give --owner USER")
    if args.owner and not args.program and (closed := unreadable(_read_by_get_wal(args, folder), args.owner)):
        found.append(
            f"get-wal runs as {args.owner}, who may not read {' and '.join(map(str, closed))}: recovery ends with an "
            "error until that user may, or runs tallykeep otherwise: --program"
        )
    return found


def _read_by_get_wal(args: argparse.Namespace, folder: Path) -> Iterator[Path]:
    """The program, the settings, the key, and a file of WAL in tier 1 for all of them."""
    yield Path(sys.executable)
    variables = (os.environ.get("TALLYKEEP_CONFIG"), os.environ.get("TALLYKEEP_POSTGRES_KEY_FILE"))
    yield from (Path(each) for each in (args.config, args.key_file, *variables) if each)
    if not args.tier2 and "1" in (tiers_of(args) or "1"):
        yield from islice(folder.glob("wal/*/*"), 1)


def program_of(args: argparse.Namespace, settings: PostgresSettings) -> Sequence[str]:
    """How PostgreSQL runs tallykeep, with the variables that this process was given."""
    return ["/usr/bin/env", *passed_on(os.environ, settings), *(shlex.split(args.program) or PROGRAM)]


def plan_lines(planned: Plan) -> list[str]:
    """A plan, for people."""
    entry, request = planned.entry, planned.request
    last = f", the newest commit in it of {told(planned.last_commit)}" if planned.last_commit is not None else ""
    lines = [
        f"backup {entry.name} ({entry.id[:12]}) of {told(entry.finished)}, from tier {planned.tier}: {planned.reason}",
        f"{entry.files} files and {format_bytes(entry.raw)} into {request.target}",
        f"recovers to {request.goal} along timeline {planned.timeline}; WAL from tier "
        f"{' and '.join(planned.wal_tiers) or 'none'} reaches from {planned.reach.start} to {planned.reach.end}{last}",
    ]
    return [*lines, *(f"note: {note}" for note in planned.notes)]


def plan_json(planned: Plan) -> dict[str, object]:
    """A plan, for programs."""
    entry, request = planned.entry, planned.request
    return {
        "backup": entry.id, "name": entry.name, "tier": planned.tier, "reason": planned.reason,
        "to": str(request.target), "files": entry.files, "bytes": entry.raw, "goal": request.goal,
        "timeline": planned.timeline,
        "wal_tiers": list(planned.wal_tiers), "wal_start": str(planned.reach.start), "wal_end": str(planned.reach.end),
        "last_commit": planned.last_commit, "notes": list(planned.notes),
    }  # fmt: skip


def restored_lines(done: Restored) -> list[str]:
    """What was done, for people."""
    told_before = set(done.plan.notes)
    rate = format_bytes(done.bytes / max(done.seconds, 1e-3))
    lines = [
        f"restored {done.files} files, {format_bytes(done.bytes)}, in {format_duration(done.seconds)} ({rate}/s)",
        *(f"note: {note}" for note in done.notes if note not in told_before),
    ]
    goal = done.plan.request.goal
    return [*lines, f"start it as the user that runs PostgreSQL, and it recovers to {goal}:", f"  {done.start}"]


def restored_json(done: Restored) -> dict[str, object]:
    """The same for programs."""
    more = {"files": done.files, "bytes": done.bytes, "seconds": round(done.seconds, 3), "notes": list(done.notes)}
    return plan_json(done.plan) | more | {"start": done.start}
