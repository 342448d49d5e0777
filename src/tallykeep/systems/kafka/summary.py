"""What a backup or a restore prints at its end: the block that users of kafka-backup know, and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tallykeep.units import format_bytes

if TYPE_CHECKING:
    from tallykeep.systems.kafka.backup_request import BackupResult
    from tallykeep.systems.kafka.restore import RestoreResult

_RULE = "\u2500" * 32


def backup_lines(result: BackupResult) -> Iterator[str]:
    """The block for people."""
    yield "Backup completed successfully" if result.complete else _unfinished("Backup", interrupted=result.interrupted)
    yield _RULE
    yield f"Records:    {result.records:,}"
    yield f"Duration:   {duration(result.seconds)}"
    yield f"Throughput: {rate(result.records, result.seconds)} records/sec"
    ratio = f" ({result.bytes / result.stored:.1f}x ratio)" if result.stored else ""
    yield f"Compressed: {format_bytes(result.stored)}{ratio}"
    yield f"Topics:     {result.topics:,} ({result.partitions:,} partitions, {result.segments:,} segments)"
    for gap in result.gaps:
        offsets = f"offsets {gap.start} to {gap.end - 1}"
        yield f"Gap:        {gap.topic}-{gap.partition}: {offsets} were deleted before this run"
    for topic in result.new_incarnations:
        yield f"New:        {topic} was deleted and made again since the last run; both are kept"
    for place, why in result.unfinished.items():
        yield f"Unfinished: {place}: {why}"


def backup_json(backup_id: str, result: BackupResult) -> dict[str, Any]:
    """The same for programs."""
    return {
        "backup_id": backup_id,
        "run": result.run,
        "status": "success" if result.complete else "interrupted" if result.interrupted else "failure",
        "topics": result.topics,
        "partitions": result.partitions,
        "records": result.records,
        "bytes": result.bytes,
        "stored_bytes": result.stored,
        "segments": result.segments,
        "seconds": round(result.seconds, 3),
        "gaps": [
            {"topic": gap.topic, "partition": gap.partition, "start": gap.start, "end": gap.end, "reason": gap.reason}
            for gap in result.gaps
        ],
        "new_incarnations": list(result.new_incarnations),
        "unfinished": {str(place): why for place, why in result.unfinished.items()},
    }


def restore_lines(result: RestoreResult) -> Iterator[str]:
    """The block for people."""
    yield _unfinished("Restore", interrupted=True) if result.interrupted else "Restore completed successfully"
    yield _RULE
    yield f"Records:    {result.records:,}"
    if result.sent != result.records:
        yield f"Sent now:   {result.sent:,}"
    yield f"Duration:   {duration(result.seconds)}"
    yield f"Throughput: {rate(result.sent, result.seconds)} records/sec"
    yield f"Bytes:      {format_bytes(result.bytes)}"
    yield f"Topics:     {result.topics:,} ({result.partitions:,} partitions)"
    if result.verified is not None:
        yield f"Verified:   {result.verified:,} records read back and found equal"
    if result.offset_map is not None:
        yield f"Offset map: {result.offset_map}"
    for note in result.notes:
        yield f"Note:       {note}"


def restore_json(backup_id: str, result: RestoreResult) -> dict[str, Any]:
    """The same for programs."""
    return {
        "backup_id": backup_id,
        "restore_id": result.run,
        "status": "interrupted" if result.interrupted else "success",
        "topics": result.topics,
        "partitions": result.partitions,
        "records": result.records,
        "sent": result.sent,
        "bytes": result.bytes,
        "verified": result.verified,
        "seconds": round(result.seconds, 3),
        "offset_map": str(result.offset_map) if result.offset_map else None,
        "notes": list(result.notes),
    }


def duration(seconds: float) -> str:
    """As in "5m 32s"; of less than a minute with tenths."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}h {minutes}m {seconds}s" if hours else f"{minutes}m {seconds}s"


def rate(amount: float, seconds: float) -> str:
    """Amount a second, in whole ones."""
    return f"{amount / seconds:,.0f}" if seconds > 0 else "0"


def _unfinished(what: str, *, interrupted: bool) -> str:
    if interrupted:
        return f"{what} interrupted: what is done is kept, and the same command goes on from there"
    return f"{what} not complete: what is done is kept, and the same command goes on from there"
