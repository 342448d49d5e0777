"""`tallykeep postgres open`: what it prints, and when it ends.

Standard output belongs to COMMAND where there is one: what was opened is then told on standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from tallykeep.clock import SystemClock
from tallykeep.errors import ConfigError
from tallykeep.runtime.signals import stop_requested
from tallykeep.runtime.telling import printable, remark, tell
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.opened import program
from tallykeep.systems.postgres.opened.opening import Opened, opened
from tallykeep.systems.postgres.restoring.choice_of_cluster import cluster_of, settings_of
from tallykeep.systems.postgres.restoring.request import told
from tallykeep.systems.postgres.restoring.restore import Plan
from tallykeep.systems.postgres.restoring.running import asked, plan_json, plan_lines
from tallykeep.systems.postgres.settings import PostgresSettings
from tallykeep.systems.postgres.throwaway.judging import raised
from tallykeep.systems.postgres.throwaway.watch import STAGES, Shown
from tallykeep.systems.postgres.working import INTERRUPTED, ended_before
from tallykeep.units import format_duration

_LOOK = 0.5  # seconds between two looks at the server


def run_open(args: argparse.Namespace) -> int:
    """`open`. Raises: TallykeepError."""
    program.check(args.program)
    _check_port(args.port)
    return asyncio.run(_run(args))


async def _run(args: argparse.Namespace) -> int:
    settings, stop = _settings(args), _stop_requested()
    cluster = cluster_of(args, settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(cluster.close)
        with Shown(cluster.name, STAGES, silent=args.json or args.quiet) as shown:
            server = opened(
                cluster, settings, asked(args, Path()), SystemClock(), shown, port=args.port,
                planned=lambda plan: _tell_plan(args, plan),
            )  # fmt: skip
            opening = asyncio.create_task(stack.enter_async_context(server))
            if not await ended_before(stop, opening):
                return INTERRUPTED
        found = opening.result()
        tell(args, opened_json(found), opened_lines(found), sys.stderr if args.program else None)
        return await _stay(args, found, stop)


def _settings(args: argparse.Namespace) -> PostgresSettings:
    """Raises: ConfigError."""
    settings = settings_of(args)
    return settings if args.scratch is None else replace(settings, drill=replace(settings.drill, scratch=args.scratch))


def _stop_requested() -> asyncio.Event:
    """What stops everybody, and a terminal that is closed."""
    stop = stop_requested()
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stop.set)
    return stop


def _check_port(port: int | None) -> None:
    """Raises: ConfigError where it is taken, before anything is restored."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port or 0))
        except OSError as error:
            raise ConfigError(f"--port {port}: {error.strerror}; give another, or 0 for any that is free") from None


async def _stay(args: argparse.Namespace, found: Opened, stop: asyncio.Event) -> int:
    """Until it is told to end; the exit status. Raises: RestoreError where the server ends."""
    if args.program:
        status = await program.run(args.program, found.door.environment(os.environ))
        if not found.server.alive:
            remark(f"{found.cluster}: the server had ended: {printable(str(await in_thread(found.server.last_words)))}")
        return status
    if not (args.json or args.quiet):
        remark(f"{found.cluster}: open until Ctrl-C; then all of it is gone")
    stopping = asyncio.ensure_future(stop.wait())
    while not (await asyncio.wait((stopping,), timeout=_LOOK))[0]:
        if not found.server.alive:
            stopping.cancel()
            raise raised(await in_thread(found.server.last_words))
    return 0


def _tell_plan(args: argparse.Namespace, plan: Plan) -> None:
    if not args.json:
        sys.stderr.writelines(f"{line}\n" for line in plan_lines(plan))


def opened_lines(found: Opened) -> Iterator[str]:
    """What was opened, for people."""
    plan, recovered = found.plan, found.recovered
    commit = f"last commit {told(recovered.committed)}" if recovered.committed else "no commit in WAL"
    yield f"{found.cluster}: open after {format_duration(found.seconds)}"
    yield f"  at:      {recovered.lsn} on timeline {recovered.timeline}, {commit}"
    yield f"  backup:  {plan.entry} of PostgreSQL {plan.entry.version // 10_000}, from tier {plan.tier}"
    yield f"  dsn:     {found.door.dsn}"
    yield from (f"  note: {note}" for note in found.notes)


def opened_json(found: Opened) -> dict[str, object]:
    """The same for programs."""
    recovered = found.recovered
    return plan_json(found.plan) | found.door._asdict() | {
        "cluster": found.cluster, "version": found.plan.entry.version, "dsn": found.door.dsn,
        "recovered_timeline": recovered.timeline, "recovered_lsn": str(recovered.lsn),
        "commit_time": recovered.committed, "commit_time_utc": told(recovered.committed) if recovered.committed else "",
        "seconds": round(found.seconds, 3), "notes": [*found.plan.notes, *found.notes],
    }  # fmt: skip
