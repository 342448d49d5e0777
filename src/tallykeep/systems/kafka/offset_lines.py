"""Plans and outcomes of offsets, for people, for programs, and as a script for Kafka's own tool."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from tallykeep.systems.kafka.group_offsets import GroupOutcome, GroupPlan, Move, OffsetPlan, problems
from tallykeep.systems.kafka.snapshot import Snapshot
from tallykeep.units import format_timestamp


def plan_lines(plan: OffsetPlan) -> Iterator[str]:
    """`offsets plan`."""
    yield f"Where {len(plan.groups)} groups go on after restore {plan.restore or '?'}"
    for group in plan.groups:
        yield ""
        yield f"{group.group}: {len(group.moves)} partitions"
        yield from map(_move_line, group.moves)
        yield from _left(group)
    yield from (f"{name}: it is not among the groups that were saved" for name in plan.missing)
    yield ""
    yield "Nothing was changed. `tallykeep kafka offsets apply` sets them."


def plan_json(plan: OffsetPlan) -> dict[str, Any]:
    """The same for programs."""
    return {
        "restore": plan.restore,
        "target_cluster": plan.target_cluster,
        "missing": list(plan.missing),
        "groups": [
            {"group": group.group, "partitions": list(map(_move_json, group.moves)),
             "not_restored": list(map(str, group.left))}
            for group in plan.groups
        ],
    }  # fmt: skip


def outcome_lines(plan: OffsetPlan, outcomes: Sequence[GroupOutcome], *, dry_run: bool) -> Iterator[str]:
    """`offsets apply`."""
    plans = {group.group: group for group in plan.groups}
    for outcome in outcomes:
        planned = plans.get(outcome.group)
        yield _outcome_line(outcome, len(planned.moves) if planned else 0, dry_run=dry_run)
        yield from (f"  {problem}" for problem in problems(outcome))
        yield from map(_move_line, planned.moves if dry_run and planned else ())
    failed = sum(not outcome.ok for outcome in outcomes)
    yield f"{len(outcomes) - failed} of {len(outcomes)} groups {'could be set' if dry_run else 'are set'}."
    if failed and not dry_run:
        yield "Apply again when the cause is gone: it sets the same offsets again in the groups that are set."


def outcome_json(plan: OffsetPlan, outcomes: Sequence[GroupOutcome], *, dry_run: bool) -> dict[str, Any]:
    """The same for programs."""
    ok = all(outcome.ok for outcome in outcomes)
    plans = {group.group: group for group in plan.groups}
    return {
        "status": "success" if ok else "failure",
        "restore": plan.restore,
        "dry_run": dry_run,
        "error": None if ok else {"code": "OFFSET_RESET_FAILED"},
        "groups": [
            {"group": outcome.group, "ok": outcome.ok, "set": len(outcome.done), "problems": problems(outcome),
             "before": [[*place, offset] for place, offset in sorted(outcome.before.items())],
             "partitions": list(map(_move_json, plans[outcome.group].moves)) if outcome.group in plans else []}
            for outcome in outcomes
        ],
    }  # fmt: skip


def _outcome_line(outcome: GroupOutcome, planned: int, *, dry_run: bool) -> str:
    if not outcome.ok:
        return f"{outcome.group}: FAILED, {len(outcome.done)} of {planned} partitions set"
    if dry_run:
        return f"{outcome.group}: {planned} partitions would be set"
    return f"{outcome.group}: {len(outcome.done)} partitions set, and read back"


def script_lines(plan: OffsetPlan, bootstrap: str) -> Iterator[str]:
    """A shell script that does with kafka-consumer-groups.sh what `offsets apply` does, but for the reading back."""
    yield "#!/bin/sh"
    yield f"# Offsets of consumer groups after restore {plan.restore or '?'}. Groups must have no members."
    yield "set -eu"
    yield 'tool="${KAFKA_CONSUMER_GROUPS:-kafka-consumer-groups.sh}"'
    yield 'offsets="$(mktemp)"'
    yield "trap 'rm -f \"$offsets\"' EXIT"
    for group in plan.groups:
        if group.moves:
            yield ""
            yield "cat >\"$offsets\" <<'END'"
            yield from (f"{move.target.topic},{move.target.partition},{move.target_offset}" for move in group.moves)
            yield "END"
            yield (f'"$tool" --bootstrap-server {shlex.quote(bootstrap)} --group {shlex.quote(group.group)} '
                   '--reset-offsets --from-file "$offsets" --execute ${KAFKA_COMMAND_CONFIG:+--command-config '
                   '"$KAFKA_COMMAND_CONFIG"}')  # fmt: skip


def snapshot_lines(saved: Snapshot, where: str) -> Iterator[str]:
    """`offsets snapshot`."""
    yield f"Offsets of {len(saved.groups)} groups at {format_timestamp(saved.time)} are in {where}"
    yield from (f"  {group.name}: {len(group.offsets)} partitions, {group.state}" for group in saved.groups)


def snapshot_json(saved: Snapshot, where: str) -> dict[str, Any]:
    """The same for programs."""
    groups = [{"group": group.name, "state": group.state, "partitions": len(group.offsets)} for group in saved.groups]
    return {"where": where, "time": saved.time, "cluster_id": saved.cluster_id, "groups": groups}


def _move_line(move: Move) -> str:
    place = f"{move.source}" if move.source == move.target else f"{move.source} -> {move.target}"
    return f"  {place}: {move.source_offset:,} -> {move.target_offset:,}"


def _move_json(move: Move) -> dict[str, Any]:
    return {
        "source": {"topic": move.source.topic, "partition": move.source.partition, "offset": move.source_offset},
        "target": {"topic": move.target.topic, "partition": move.target.partition, "offset": move.target_offset},
    }


def _left(group: GroupPlan) -> Iterator[str]:
    if group.left:
        more = ", ..." if len(group.left) > 5 else ""
        yield f"  not restored, so without a place to go on: {', '.join(map(str, group.left[:5]))}{more}"
