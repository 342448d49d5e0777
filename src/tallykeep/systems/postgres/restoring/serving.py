"""`tallykeep postgres get-wal`: what restore_command runs, and the process that fetches ahead.

Whatever goes wrong ends with 255, a defect of this program and wrong settings too: PostgreSQL must never take it for
the end of WAL.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from tallykeep.clock import SystemClock
from tallykeep.errors import TallykeepError
from tallykeep.runtime.tracing import tracer
from tallykeep.systems.postgres.restoring.asking import Asking
from tallykeep.systems.postgres.restoring.choice_of_cluster import cluster_of, options_of, settings_of, tiers_of
from tallykeep.systems.postgres.restoring.getwal import Given, get_wal
from tallykeep.systems.postgres.restoring.recovery import SPOOL
from tallykeep.systems.postgres.restoring.request import PROGRAM
from tallykeep.systems.postgres.restoring.spool import Feeder, Spool
from tallykeep.systems.postgres.restoring.tiered_wal import TieredWal

FAILED = 255
_tracer = tracer("klio.wal")


def run_get_wal(args: argparse.Namespace) -> int:
    """`get-wal`. Never raises, but for Ctrl-C."""
    try:
        return asyncio.run(_run(args))
    except Exception as error:
        kind = "" if isinstance(error, TallykeepError | PermissionError) else f"unexpected {type(error).__name__}: "
        advice = "recovery is ended; it is not the end of WAL"
        print(f"tallykeep: {args.file}: {kind}{error} ({advice})", file=sys.stderr)  # noqa: T201
        return FAILED


async def _run(args: argparse.Namespace) -> int:
    asking, settings = Asking(), settings_of(args)
    cluster = cluster_of(args, settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(cluster.close)
        wal = TieredWal([tier.wal for tier in cluster.tiers if not tiers_of(args) or tier.number in tiers_of(args)])
        spool = Spool(Path(SPOOL))
        if args.feed:
            return await _feed(wal, spool, args.prefetch)
        await _traced(args, stack)
        with _tracer.span("get_wal", {"wal_name": args.file, "cluster_name": cluster.name}):
            given = await get_wal(wal, args.file, args.path, args.planned, asking)
    if given is None:
        return int(args.absent)
    if args.prefetch > 0:
        with suppress(OSError):  # the segment is there: what is not fetched ahead is fetched when it is asked for
            _go_on(args, [*options_of(args, settings), "--cluster", cluster.name], given, spool)
    return 0


async def _traced(args: argparse.Namespace, stack: AsyncExitStack) -> None:
    """Send spans where the settings say so. What is wrong with that is told, and ends no recovery."""
    try:
        await stack.enter_async_context(args.send_traces(args.load_config(args.config)))
    except TallykeepError as error:
        print(f"tallykeep: {args.file}: {error} (WAL is fetched without it)", file=sys.stderr)  # noqa: T201


async def _feed(wal: TieredWal, spool: Spool, ahead: int) -> int:
    with spool.feeding() as mine:
        if mine:
            await Feeder(wal, spool, SystemClock(), ahead).run()
    return 0


def _go_on(args: argparse.Namespace, options: Sequence[str], given: Given, spool: Spool) -> None:
    """Have the next segments fetched ahead: by the process that does so, or by a new one."""
    following = given.following
    if following is None or not Path(SPOOL).parent.is_dir():  # not in a data directory
        return
    spool.make()
    spool.go_on(following)
    if not spool.is_fed():
        argv = [*PROGRAM, "postgres", "get-wal", *options, *_same(args), "--feed", args.file, str(args.path)]
        nowhere = subprocess.DEVNULL
        subprocess.Popen(argv, start_new_session=True, stdin=nowhere, stdout=nowhere, stderr=nowhere)


def _same(args: argparse.Namespace) -> Sequence[str]:
    tiers = [word for tier in args.tier for word in ("--tier", tier)]
    return ["--prefetch", str(args.prefetch), *tiers]
