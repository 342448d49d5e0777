"""What a backup holds, in full: runs, topics with their partitions and settings, and consumer groups.

From the manifest and snapshots alone: no segment is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tallykeep.systems.kafka.held import Held, Incarnation
from tallykeep.systems.kafka.listing import sums, table, topics_of
from tallykeep.systems.kafka.manifest import FORMAT, CompleteEntry, SnapshotEntry
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.restore_plan import newest_topics
from tallykeep.systems.kafka.selecting import matches
from tallykeep.systems.kafka.snapshot import Snapshot
from tallykeep.units import format_bytes, format_duration, format_timestamp

_RUNS = 10  # that people are shown


async def describe(backup: BackupSet, backup_id: str, topics: Sequence[str] = ()) -> dict[str, Any]:
    """The description; `topics`: patterns of those wanted, none: all. Raises: IntegrityError; StoreErrors."""
    snapshot, known = await newest_topics(backup) if backup.snapshots else (None, {})
    wanted = matches(topics or ("*",))
    chosen = [topic for topic in topics_of(backup) if wanted(topic["topic"])]
    for topic in chosen:
        found = known.get(topic["topic"])
        if found is not None and found.topic_id == topic["topic_id"]:
            topic["replication_factor"] = found.replication_factor
            topic["configs"] = dict(found.configs)
        topic["partitions"] = list(_partitions(backup, topic["topic"], topic["topic_id"]))
    return {
        "backup_id": backup_id,
        "format": FORMAT,
        "store": backup.store.name,
        "sequence": backup.sequence,
        "head": backup.records[-1].hash,
        "created": backup.records[0].time,
        "last_commit": backup.records[-1].time,
        "cluster_id": snapshot.cluster_id if snapshot else None,
        "bootstrap": snapshot.bootstrap if snapshot else None,
        **sums(backup.held.values()),
        "runs": list(_runs(backup)),
        "topics": chosen,
        "groups": list(_groups(snapshot)) if snapshot else [],
    }


def _partitions(backup: BackupSet, topic: str, topic_id: str) -> Iterator[dict[str, Any]]:
    for place, held in sorted(backup.held.items()):
        if (place.topic, place.topic_id) == (topic, topic_id):
            yield _partition(place, held)


def _partition(place: Incarnation, held: Held) -> dict[str, Any]:
    segments = [entry for entry in held.segments if entry.records]
    least = [entry.min_timestamp for entry in segments if entry.min_timestamp is not None]
    return {
        "partition": place.partition,
        "start": held.start,
        "end": held.checkpoint,
        **sums([held]),
        "min_timestamp": min(least) if least and len(least) == len(segments) else None,
        "max_timestamp": max((entry.max_timestamp for entry in segments), default=None),
        "gaps": [{"start": gap.start, "end": gap.end, "reason": gap.reason} for gap in held.gaps],
    }


def _runs(backup: BackupSet) -> Iterator[dict[str, Any]]:
    """Oldest first."""
    began = {entry.run: record.time for record in backup.records for entry in record.entries
             if isinstance(entry, SnapshotEntry)}  # fmt: skip
    for run, time in began.items():
        done: CompleteEntry | None = backup.completed.get(run)
        yield {
            "run": run,
            "began": time,
            "complete": done is not None,
            "records": done.records if done else None,
            "bytes": done.bytes if done else None,
            "stored_bytes": done.stored if done else None,
            "seconds": done.seconds if done else None,
        }


def _groups(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    for group in snapshot.groups:
        offsets = [{"topic": one.topic, "partition": one.partition, "offset": one.offset, "metadata": one.metadata}
                   for one in group.offsets]  # fmt: skip
        yield {"group": group.name, "state": group.state, "protocol_type": group.protocol_type, "offsets": offsets}


def describe_lines(body: Mapping[str, Any]) -> Iterator[str]:
    """The description for people."""
    yield f"{body['backup_id']} in {body['store']}"
    yield f"  format       {body['format']}, record {body['sequence']} of the manifest has {body['head']}"
    yield f"  source       cluster {body['cluster_id'] or 'not known'} at {body['bootstrap'] or '?'}"
    yield f"  first record {format_timestamp(body['created'])}, last {format_timestamp(body['last_commit'])}"
    yield f"  holds        {body['records']:,} records in {body['segments']:,} segments, " + _sizes(body)
    yield ""
    yield from _run_lines(body["runs"])
    for topic in body["topics"]:
        yield ""
        yield from _topic_lines(topic)
    if body["groups"]:
        yield ""
        yield "consumer groups as the last run saw them"
        rows = [("GROUP", "STATE", "PARTITIONS")]
        rows += [(group["group"], group["state"], str(len(group["offsets"]))) for group in body["groups"]]
        yield from (f"  {line}" for line in table(rows))


def _sizes(body: Mapping[str, Any]) -> str:
    ratio = f" ({body['bytes'] / body['stored_bytes']:.1f}x)" if body["stored_bytes"] else ""
    return f"{format_bytes(body['stored_bytes'])}{ratio}"


def _run_lines(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    older = len(runs) - _RUNS
    yield f"runs{f' (the last {_RUNS} of {len(runs)})' if older > 0 else ''}"
    rows = [("BEGAN", "RECORDS", "STORED", "TOOK", "RUN")]
    for run in runs[-_RUNS:]:
        done = run["complete"]
        rows.append((
            format_timestamp(run["began"]), f"{run['records']:,}" if done else "not complete",
            format_bytes(run["stored_bytes"]) if done else "", format_duration(run["seconds"]) if done else "",
            run["run"],
        ))  # fmt: skip
    yield from (f"  {line}" for line in table(rows))


def _topic_lines(topic: Mapping[str, Any]) -> Iterator[str]:
    earlier = "" if topic["newest"] else ", an earlier topic of that name"
    copies = f", {topic['replication_factor']} copies" if "replication_factor" in topic else ""
    yield f"topic {topic['topic']} (id {topic['topic_id']}{copies}{earlier})"
    for name, value in sorted(topic.get("configs", {}).items()):
        yield f"  {name} = {value}"
    rows = [("PARTITION", "OFFSETS", "RECORDS", "STORED", "TIMES")]
    rows += [
        (str(part["partition"]), f"{part['start']} to {part['end']}", f"{part['records']:,}",
         format_bytes(part["stored_bytes"]), _times(part))
        for part in topic["partitions"]
    ]  # fmt: skip
    yield from (f"  {line}" for line in table(rows))
    for part in topic["partitions"]:
        for gap in part["gaps"]:
            offsets = f"offsets {gap['start']} to {gap['end'] - 1}"
            yield f"  partition {part['partition']}: {offsets} are missing ({gap['reason']})"


def _times(part: Mapping[str, Any]) -> str:
    if part["max_timestamp"] is None:
        return ""
    least = part["min_timestamp"]
    return f"{'?' if least is None else _moment(least)} to {_moment(part['max_timestamp'])}"


def _moment(milliseconds: int) -> str:
    """UTC; as a number where no calendar has it."""
    try:
        return format_timestamp(milliseconds / 1000)
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
