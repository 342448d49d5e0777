"""A plan of retention for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tallykeep.systems.postgres.retention.planning import RetentionPlan
from tallykeep.systems.postgres.retention.policy import Decision
from tallykeep.systems.postgres.retention.wal import NeedlessWal
from tallykeep.units import format_bytes, format_timestamp

KEEP, LET_GO, RECALL, LEAVING, DELETE = "keep", "let go", "take back", "leaving", "delete"


def plan_lines(plan: RetentionPlan, *, dry: bool) -> Iterator[str]:
    """For people: each backup with what becomes of it and why, and what is deleted."""
    gone = len(plan.forget)
    yield f"{plan.cluster}, tier {plan.tier}: {_count(plan.held, 'backup')}, {gone or 'none'} of them let go now"
    for decision in plan.decisions:
        yield _line(plan, decision)
    objects = plan.objects
    yield f"  base backups: {_count(len(objects.keys), 'object')}, {format_bytes(objects.freed)} deleted"
    if objects.dead:
        yield f"  {format_bytes(objects.dead)} that no backup needs stay, in packs that hold other chunks as well"
    if plan.orphans.seen:
        found, due = len(plan.orphans.seen), len(plan.orphans.due)
        yield f"  beside the manifest: {_count(found, 'object')} that a writer left; {due or 'none'} deleted now"
    yield f"  {_wal_line(plan.wal)}"
    if dry:
        yield "  nothing was changed: --dry-run" + ("; this needs --yes: more than half goes" * plan.needs_yes)


def plan_json(plan: RetentionPlan, *, dry: bool) -> dict[str, Any]:
    """The same for programs."""
    floor = plan.wal.floor
    return {
        "cluster": plan.cluster, "tier": plan.tier, "time": plan.time, "dry_run": dry, "needs_yes": plan.needs_yes,
        "held": plan.held, "backups": [_decision_json(plan, decision) for decision in plan.decisions],
        "objects": {"deleted": len(plan.objects.keys), "bytes": plan.objects.freed, "dead_bytes": plan.objects.dead},
        "orphans": {"seen": len(plan.orphans.seen), "deleted": len(plan.orphans.due), "bytes": plan.orphans.bytes},
        "wal": {"before": None if floor is None else str(floor.lsn), "segments": len(plan.wal.segments),
                "bytes": plan.wal.bytes},
    }  # fmt: skip


def fate(plan: RetentionPlan, decision: Decision) -> str:
    """What becomes of a backup, as a word."""
    id = decision.backup.id
    if decision.keep:
        return RECALL if id in plan.recall else KEEP
    if any(entry.id == id for entry in plan.expired):
        return DELETE
    return LET_GO if id in plan.forget else LEAVING


def _line(plan: RetentionPlan, decision: Decision) -> str:
    backup, word = decision.backup, fate(plan, decision)
    why = "; ".join(decision.reasons)
    if word in (LET_GO, LEAVING):
        why += f"; its bytes stay until {format_timestamp(round(plan.leaving[backup.id]))}"
    return f"  {word:9}  {backup.id[:12]}  {backup.name:20}  {format_timestamp(round(backup.finished))}  {why}"


def _decision_json(plan: RetentionPlan, decision: Decision) -> dict[str, Any]:
    backup = decision.backup
    return {
        "id": backup.id, "name": backup.name, "finished": backup.finished, "verified": backup.sound,
        "fate": fate(plan, decision), "reasons": list(decision.reasons), "bytes_until": plan.leaving.get(backup.id),
    }  # fmt: skip


def _wal_line(wal: NeedlessWal) -> str:
    if wal.floor is None:
        return "WAL: there is no backup, so all of it stays"
    return f"WAL before {wal.floor.lsn}: {_count(len(wal.segments), 'segment')}, {format_bytes(wal.bytes)} deleted"


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'s' * (number != 1)}"
