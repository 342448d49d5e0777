"""What is to be restored where: decided from the backup and the request, before anything of the target is changed.

Topics come with the partitions, the settings and the incarnation of the newest snapshot that has them, so that a
topic deleted before the last backup can be restored too. What stands in the way is a Finding, fatal or not; those
that only the target can tell are preflight's.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from tallykeep.errors import TallykeepError
from tallykeep.storage.digest import digest
from tallykeep.systems.kafka.held import Held, Incarnation
from tallykeep.systems.kafka.manifest import SegmentEntry
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.restore_state import RestoreState
from tallykeep.systems.kafka.restoring.choosing import ALWAYS, Window
from tallykeep.systems.kafka.restoring.survey import Survey
from tallykeep.systems.kafka.selecting import is_pattern, matches
from tallykeep.systems.kafka.snapshot import Snapshot, SnapshotTopic


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """What is asked for."""

    state: Path  # folder that remembers the restore, so that it is gone on with after a crash
    include: tuple[str, ...] = ()  # globs and ~regexes of the backup's topics; none: all
    exclude: tuple[str, ...] = ()
    topic_mapping: Mapping[str, str] = field(default_factory=dict)  # backup's name: target's name
    source_partitions: tuple[int, ...] = ()  # none: all
    partition_mapping: Mapping[int, int] = field(default_factory=dict)  # backup's number: target's number
    window: Window = ALWAYS
    create_topics: bool = True
    default_replication_factor: int | None = None  # None: the backup's, if there are brokers enough
    max_concurrent_partitions: int = 8
    produce_timeout: float = 30.0  # seconds
    verify: bool = True
    groups: tuple[str, ...] = ()  # globs of consumer groups whose offsets are set afterwards; none: all
    reset_offsets: bool = False


class Figures(Protocol):
    """Who wants to know how a restore goes on. Calls are quick and do not raise."""

    def targeted(self, records: int) -> None:
        """How many records are to be sent, at the most."""

    def restored(self, place: Place, records: int, bytes: int) -> None:
        """Records that a partition has acknowledged; their bytes are uncompressed as far as the backup knows."""

    def retried(self, reason: str) -> None:
        """Something is tried again; `reason` is an error's code."""

    def failed(self, error: TallykeepError) -> None:
        """The restore was given up."""

    def finished(self, status: Literal["success", "failure"]) -> None:
        """It has ended."""


class Finding(NamedTuple):
    """Something that preflight has to say."""

    code: str  # stable
    topic: str  # of the target; empty where it is about none
    message: str
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class PlannedPartition:
    """One partition's way."""

    source: Incarnation
    target: Place
    segments: Sequence[SegmentEntry]


@dataclass(frozen=True, slots=True)
class PlannedTopic:
    """One topic's way."""

    source: SnapshotTopic
    target: str
    partitions: int  # that the target needs, at least
    routes: Sequence[PlannedPartition]


@dataclass(slots=True)
class RestorePlan:
    """A restore that has not begun, or has not ended: `state` is what it has come to."""

    id: str
    request: RestoreRequest
    backup: BackupSet
    snapshot: Snapshot
    topics: Sequence[PlannedTopic]
    state: RestoreState | None = None
    findings: list[Finding] = field(default_factory=list)
    surveys: dict[Place, Survey] = field(default_factory=dict)  # by target

    @property
    def routes(self) -> list[PlannedPartition]:
        """Of all topics."""
        return [route for topic in self.topics for route in topic.routes]

    @property
    def fatal(self) -> list[Finding]:
        """What keeps it from beginning."""
        return [finding for finding in self.findings if finding.fatal]

    @property
    def records(self) -> int:
        """To be sent, at the most."""
        return sum(found.records for found in self.surveys.values())


def restore_id(request: RestoreRequest, store: str, cluster: str) -> str:
    """The same for the same request, backup and target: 16 hex digits."""
    wanted: dict[str, Any] = {
        name: getattr(request, name)
        for name in ("include", "exclude", "source_partitions", "window")
    }  # fmt: skip
    mappings = {name: sorted(getattr(request, name).items()) for name in ("topic_mapping", "partition_mapping")}
    text = json.dumps([store, cluster, wanted, mappings], sort_keys=True)
    return digest(text.encode()).rpartition(":")[2][:16]


async def newest_topics(backup: BackupSet) -> tuple[Snapshot, dict[str, SnapshotTopic]]:
    """The newest snapshot, and each topic as the newest snapshot that has it describes it.

    Older snapshots are read only for topics that newer ones do not have. Raises: NotFound; IntegrityError; StoreErrors.
    """
    newest = await backup.snapshot()
    found = {topic.name: topic for topic in newest.topics}
    missing = {place.topic for place in backup.held} - set(found)
    for entry in reversed(backup.snapshots[:-1]):
        if not missing:
            break
        for topic in (await backup.snapshot(entry)).topics:
            if topic.name in missing:
                found[topic.name] = topic
                missing.discard(topic.name)
    return newest, found


def plan_topics(
    request: RestoreRequest, backup: BackupSet, topics: Mapping[str, SnapshotTopic]
) -> tuple[list[PlannedTopic], list[Finding]]:
    """The ways of all topics that are asked for. Pure."""
    wanted, unwanted = matches(request.include or ("*",)), matches(request.exclude)
    chosen = sorted(name for name in topics if wanted(name) and not unwanted(name))
    planned = [_planned(request, backup, topics[name]) for name in chosen]
    return planned, [*_not_there(request, topics), *_collisions(planned), *_judged(planned, backup)]


def _planned(request: RestoreRequest, backup: BackupSet, topic: SnapshotTopic) -> PlannedTopic:
    target = request.topic_mapping.get(topic.name, topic.name)
    routes = []
    for number in sorted(partition.partition for partition in topic.partitions):
        if request.source_partitions and number not in request.source_partitions:
            continue
        source = Incarnation(topic.name, topic.topic_id, number)
        place = Place(target, request.partition_mapping.get(number, number))
        held = backup.held.get(source)
        routes.append(PlannedPartition(source, place, held.segments if held else ()))
    needed = max([len(topic.partitions), *(route.target.partition + 1 for route in routes)])
    return PlannedTopic(topic, target, needed, routes)


def _not_there(request: RestoreRequest, topics: Mapping[str, SnapshotTopic]) -> Iterator[Finding]:
    """Names that are asked for and nothing has."""
    plain = [name for name in request.include if not is_pattern(name)]
    for name in sorted({*plain, *request.topic_mapping} - set(topics)):
        yield Finding("TOPIC_NOT_IN_BACKUP", name, f"topic {name!r} is asked for and not in the backup.", fatal=True)


def _collisions(planned: Sequence[PlannedTopic]) -> Iterator[Finding]:
    """Two ways to one place: their records would be mixed."""
    for place, count in Counter(route.target for topic in planned for route in topic.routes).items():
        if count > 1:
            message = f"{count} partitions of the backup would be restored to {place}: change the mapping."
            yield Finding("PARTITION_COLLISION", place.topic, message, fatal=True)


def _judged(planned: Sequence[PlannedTopic], backup: BackupSet) -> Iterator[Finding]:
    """What the backup itself says of what is restored from it."""
    if not planned:
        yield Finding("NOTHING_TO_RESTORE", "", "no topic of the backup is asked for.", fatal=True)
    for topic in planned:
        yield from _unfinished(topic, backup)
        for route in topic.routes:
            held = backup.held.get(route.source)
            for gap in held.gaps if held else ():
                message = f"{route.source}: offsets {gap.start} to {gap.end - 1} were gone before they were backed up."
                yield Finding("BACKUP_GAP", topic.target, message)
        yield from _older(topic, backup)


def _unfinished(topic: PlannedTopic, backup: BackupSet) -> Iterator[Finding]:
    missing = 0
    for partition in topic.source.partitions:
        held: Held | None = backup.held.get(Incarnation(topic.source.name, topic.source.topic_id, partition.partition))
        missing += max(0, partition.end - (held.checkpoint if held else partition.start))
    if missing:
        message = f"the last backup of {topic.source.name} did not reach its cut: {missing} offsets are not in it."
        yield Finding("BACKUP_UNFINISHED", topic.target, message)


def _older(topic: PlannedTopic, backup: BackupSet) -> Iterator[Finding]:
    others = {place.topic_id for place in backup.held if place.topic == topic.source.name} - {topic.source.topic_id}
    for other in sorted(others):
        held = [
            found for place, found in backup.held.items() if (place.topic, place.topic_id) == (topic.source.name, other)
        ]
        records = sum(entry.records for found in held for entry in found.segments)
        message = f"an earlier topic of that name (topic id {other}, {records} records) stays in the backup."
        yield Finding("OLDER_INCARNATION", topic.target, message)
