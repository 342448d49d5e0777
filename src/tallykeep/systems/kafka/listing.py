"""Which backups a store holds, found without going through their segments, and what each comes to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tallykeep.clock import Clock
from tallykeep.errors import IntegrityError, NotFound
from tallykeep.storage.store import Store
from tallykeep.systems.kafka.held import Held, Incarnation
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.units import format_bytes, format_timestamp

_RECORD = re.compile(r"(?:(.+)/)?manifest/\d{20}")
_FOLDERS = ("group-snapshots/", "manifest/", "probe/", "restores/", "snapshots/", "topics/")
_BEHIND = "~"  # sorts behind everything that is in the names of topics, runs and records


async def find_backups(root: Store) -> list[str]:
    """Ids of the backups below `root`, in order: whatever has a manifest.

    What is in a backup's folders is stepped over, so the cost is a few listings for each. Raises: StoreErrors.
    """
    found: dict[str, None] = {}
    after: str | None = ""
    while after is not None:
        after = await _next(root, after, found)
    return sorted(found)


async def _next(root: Store, after: str, found: dict[str, None]) -> str | None:
    """Note the next backup behind the key `after`; from where to go on, or None at the end."""
    async for page in root.list("", after):
        for info in page:
            if record := _RECORD.fullmatch(info.key):
                found[record[1] or ""] = None
            for backup_id in found:
                for folder in _FOLDERS:
                    inside = f"{backup_id}/{folder}" if backup_id else folder
                    if info.key.startswith(inside):
                        return inside + _BEHIND
    return None


async def overview(store: Store, backup_id: str, clock: Clock) -> dict[str, Any]:
    """A backup in a line. Raises: StoreErrors."""
    try:
        backup = await BackupSet.open(store, clock)
    except IntegrityError as error:
        return {"backup_id": backup_id, "problem": str(error)}
    except NotFound:
        return {"backup_id": backup_id, "problem": "it has no first record: bring the manifest back from a copy."}
    return {
        "backup_id": backup_id,
        "last_commit": backup.records[-1].time,
        "topics": len({place.topic for place in backup.held}),
        "partitions": len(backup.held),
        **sums(backup.held.values()),
        "runs": len(backup.snapshots),
        "complete": bool(backup.snapshots) and backup.snapshots[-1].run in backup.completed,
    }


def sums(many: Iterable[Held]) -> dict[str, int]:
    """Records, segments, gaps and bytes."""
    held = list(many)
    segments = [entry for one in held for entry in one.segments]
    return {
        "records": sum(entry.records for entry in segments),
        "segments": len(segments),
        "bytes": sum(entry.uncompressed or entry.raw for entry in segments),
        "stored_bytes": sum(entry.stored for entry in segments),
        "gaps": sum(len(one.gaps) for one in held),
    }


def topics_of(backup: BackupSet) -> list[dict[str, Any]]:
    """The topics of a backup, earlier ones of the same name by themselves."""
    groups: dict[tuple[str, str], dict[Incarnation, Held]] = {}
    for place, held in backup.held.items():
        groups.setdefault((place.topic, place.topic_id), {})[place] = held
    return [_topic(backup, *key, parts) for key, parts in sorted(groups.items())]


def _topic(backup: BackupSet, topic: str, topic_id: str, parts: Mapping[Incarnation, Held]) -> dict[str, Any]:
    segments = [entry for held in parts.values() for entry in held.segments if entry.records]
    least = [entry.min_timestamp for entry in segments if entry.min_timestamp is not None]
    return {
        "topic": topic,
        "topic_id": topic_id,
        "newest": topic_id == backup.newest_incarnation(topic),
        "partitions": len(parts),
        **sums(parts.values()),
        "min_timestamp": min(least) if len(least) == len(segments) and least else None,
        "max_timestamp": max((entry.max_timestamp for entry in segments), default=None),
    }


def overview_lines(found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Backups for people."""
    rows = [("BACKUP", "LAST COMMIT", "TOPICS", "PARTITIONS", "RECORDS", "STORED", "")]
    for one in found:
        if "problem" in one:
            rows.append((one["backup_id"], "damaged", "", "", "", "", one["problem"]))
            continue
        rows.append((
            one["backup_id"], format_timestamp(one["last_commit"]), f"{one['topics']:,}", f"{one['partitions']:,}",
            f"{one['records']:,}", format_bytes(one["stored_bytes"]), "" if one["complete"] else "last run unfinished",
        ))  # fmt: skip
    yield from table(rows)


def topic_lines(found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Topics for people."""
    rows = [("TOPIC", "PARTITIONS", "RECORDS", "STORED", "SEGMENTS", "")]
    for one in found:
        remark = "" if one["newest"] else f"earlier topic, id {one['topic_id']}"
        gaps = f"{one['gaps']} gaps" if one["gaps"] else ""
        rows.append((
            one["topic"], f"{one['partitions']:,}", f"{one['records']:,}", format_bytes(one["stored_bytes"]),
            f"{one['segments']:,}", ", ".join(filter(None, (remark, gaps))),
        ))  # fmt: skip
    yield from table(rows)


def table(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Columns side by side."""
    known = list(rows)
    widths = [max(map(len, column)) for column in zip(*known, strict=True)]
    for row in known:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
