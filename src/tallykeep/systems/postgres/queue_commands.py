"""`tallykeep postgres queue`: what waits to go to tier 2, and what was given up."""

from __future__ import annotations

import argparse

from tallykeep.runtime.telling import tell
from tallykeep.systems.postgres.offload.dead_letters import list_failed, queue_states, retry
from tallykeep.systems.postgres.offload.jetstream import Failed
from tallykeep.systems.postgres.working import Work, run_work
from tallykeep.units import format_bytes, format_timestamp


def run_status(args: argparse.Namespace) -> int:
    """`queue status`."""

    async def work(work: Work) -> int:
        states = await queue_states(work.settings)
        tell(args, [state._asdict() for state in states], [
            f"{state.stream:24}  {state.messages:>8} messages  {format_bytes(state.bytes):>10}" for state in states
        ])  # fmt: skip
        return 0

    return run_work(args, work)


def run_list_failed(args: argparse.Namespace) -> int:
    """`queue list-failed`: 1 where there is anything."""

    async def work(work: Work) -> int:
        failed = await list_failed(work.settings)
        tell(args, [_as_json(each) for each in failed], map(_line, failed) if failed else ["nothing has failed"])
        return int(bool(failed))

    return run_work(args, work)


def run_retry(args: argparse.Namespace) -> int:
    """`queue retry`."""

    async def work(work: Work) -> int:
        queued = await retry(work.settings, args.ids)
        lines = [f"queued again: {each.item}" for each in queued] or ["nothing has failed"]
        tell(args, [_as_json(each) for each in queued], lines)
        return 0

    return run_work(args, work)


def _as_json(failed: Failed) -> dict[str, object]:
    item = failed.item
    return {
        "id": failed.id, "kind": item.kind, "cluster": item.cluster, "name": item.name, "problem": failed.problem,
        "attempts": failed.attempts, "time": failed.time,
    }  # fmt: skip


def _line(failed: Failed) -> str:
    return (
        f"{failed.id:12}  {format_timestamp(round(failed.time))}  {failed.item}, {failed.attempts} attempts: "
        f"{failed.problem}"
    )
