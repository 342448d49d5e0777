"""The report of a validation, for programs and for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tallykeep.storage.store import Store
from tallykeep.systems.kafka.validating import Report
from tallykeep.units import format_bytes


def report_json(backup_id: str, store: Store, report: Report) -> dict[str, Any]:
    """The JSON."""
    return {
        "backup_id": backup_id,
        "store": store.name,
        "status": "unsound" if report.problems else "interrupted" if report.interrupted else "sound",
        "deep": report.deep,
        "sequence": report.sequence,
        "head": report.head,
        "runs": report.runs,
        "completed": report.completed,
        "topics": report.topics,
        "partitions": report.partitions,
        "segments": report.segments,
        "segments_read": report.proved,
        "records": report.records,
        "stored_bytes": report.stored,
        "problems": [problem._asdict() for problem in report.problems],
        "notes": report.notes,
    }


def report_lines(backup_id: str, store: Store, report: Report) -> Iterator[str]:
    """The lines."""
    yield f"{backup_id} in {store.name}"
    if report.sequence:
        yield f"  manifest  {report.sequence:,} records, {report.completed:,} of {report.runs:,} runs complete"
        yield (
            f"  segments  {report.segments:,} of {report.partitions:,} partitions, {report.topics:,} topics: "
            f"{report.records:,} records, {format_bytes(report.stored)}"
        )
        yield f"  looked at {_looked(report)}"
    yield from (f"note: {note}" for note in report.notes)
    yield from (f"{problem.code}: {problem.message}" for problem in report.problems)
    if report.problems:
        yield f"NOT SOUND: {len(report.problems)} problems"
    else:
        yield "not finished: interrupted" if report.interrupted else "sound"


def _looked(report: Report) -> str:
    if not report.deep:
        return "every record of the manifest, every snapshot, and whether each object is there and as large as it was"
    return f"every byte of {report.proved:,} segments and their indexes, every batch and every record in them"
