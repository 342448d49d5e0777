"""How far a backup has come, how old that is, and how far its source is ahead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tallykeep.systems.kafka.held import Held, Incarnation
from tallykeep.systems.kafka.listing import sums, table
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.segment import NO_TOPIC_ID
from tallykeep.units import format_bytes, format_duration, format_timestamp

if TYPE_CHECKING:
    from tallykeep.systems.kafka.cluster import Cluster, Topic

_SHOWN = 20  # partitions that are behind


def standing(backup: BackupSet, backup_id: str, now: float) -> dict[str, Any]:
    """What the manifest tells; `now`: Unix seconds."""
    last = backup.records[-1]
    return {
        "backup_id": backup_id,
        "store": backup.store.name,
        "sequence": backup.sequence,
        "head": last.hash,
        "expect_sequence": f"{backup.sequence}:{last.hash}",
        "last_commit": last.time,
        "age_seconds": round(max(0.0, now - last.time), 3),
        "runs": len(backup.snapshots),
        "complete": bool(backup.snapshots) and backup.snapshots[-1].run in backup.completed,
        "topics": len({place.topic for place in backup.held}),
        "partitions": len(backup.held),
        **sums(backup.held.values()),
    }


async def behind(backup: BackupSet, cluster: Cluster) -> dict[str, Any]:
    """How many offsets each partition's log reaches beyond what is backed up. Raises: SourceErrors."""
    topics = await cluster.topics()
    current = {place: held for place, held in backup.held.items() if _is_newest(backup, place)}
    states = {place: _state(place, topics) for place in current}
    there = [Place(place.topic, place.partition) for place, state in states.items() if state in ("", "made again")]
    ends = await cluster.offsets(there, "latest_committed")
    partitions = [_partition(place, held, states[place], ends) for place, held in sorted(current.items())]
    return {
        "cluster_id": cluster.cluster_id,
        "bootstrap": cluster.name,
        "lag_records": sum(part["lag_records"] or 0 for part in partitions),
        "partitions": partitions,
    }


def _is_newest(backup: BackupSet, place: Incarnation) -> bool:
    return place.topic_id == backup.newest_incarnation(place.topic)


def _state(place: Incarnation, topics: Mapping[str, Topic]) -> str:
    """What has become of the partition; empty for nothing."""
    topic = topics.get(place.topic)
    if topic is None or place.partition not in {part.number for part in topic.partitions}:
        return "deleted"
    known = NO_TOPIC_ID not in (topic.topic_id, place.topic_id)
    return "made again" if known and topic.topic_id != place.topic_id else ""


def _partition(place: Incarnation, held: Held, state: str, ends: Mapping[Place, int]) -> dict[str, Any]:
    end = ends.get(Place(place.topic, place.partition))
    lag = None if end is None else end if state else max(0, end - held.checkpoint)
    return {
        "topic": place.topic,
        "partition": place.partition,
        "checkpoint": held.checkpoint,
        "end": end,
        "lag_records": lag,
        "state": state or ("diverged" if end is not None and end < held.checkpoint else "present"),
    }


def standing_lines(body: Mapping[str, Any]) -> Iterator[str]:
    """The same for people."""
    yield f"{body['backup_id']} in {body['store']}"
    age = format_duration(body["age_seconds"])
    yield f"  last commit  {format_timestamp(body['last_commit'])}, {age} ago"
    yield f"  last run     {'complete' if body['complete'] else 'not complete'} ({body['runs']:,} runs)"
    yield (
        f"  holds        {body['records']:,} records of {body['topics']:,} topics, {body['partitions']:,} partitions: "
        f"{format_bytes(body['stored_bytes'])}"
    )
    if body["gaps"]:
        yield f"  gaps         {body['gaps']:,}: `tallykeep kafka describe` has them"
    yield f"  manifest     ends with {body['expect_sequence']}"
    if source := body.get("source"):
        yield from _source_lines(source)


def _source_lines(source: Mapping[str, Any]) -> Iterator[str]:
    if "error" in source:
        yield f"  source       cannot be asked: {source['error']}"
        return
    late = [part for part in source["partitions"] if part["lag_records"] or part["state"] != "present"]
    yield f"  source       {source['lag_records']:,} records ahead, in {len(late):,} partitions"
    rows = [
        (f"{part['topic']}-{part['partition']}", f"backed up to {part['checkpoint']}", f"ends at {part['end']}",
         "" if part["state"] == "present" else part["state"])
        for part in sorted(late, key=lambda part: -(part["lag_records"] or 0))[:_SHOWN]
    ]  # fmt: skip
    yield from (f"    {line}" for line in (table(rows) if rows else ()))
    if len(late) > _SHOWN:
        yield f"    and {len(late) - _SHOWN:,} more"
