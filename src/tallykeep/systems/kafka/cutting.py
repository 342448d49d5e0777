"""The beginning of a run: what there is in the cluster, and from where to where each partition is to be read.

The order matters. Groups are read first and ends last, so that a group's saved offset does not lie behind the cut,
unless the group reads uncommitted records. One wave asks for all last stable offsets: they are the cut. Whatever was
lost since the checkpoint is a gap. A log that ends before its checkpoint, or has other records there than those that
were backed up, is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tallykeep.clock import Clock
from tallykeep.errors import TallykeepError, Unreachable
from tallykeep.systems.kafka.backup_request import BackupRequest
from tallykeep.systems.kafka.brokers import Brokers
from tallykeep.systems.kafka.cluster import Cluster, Group, PartitionInfo, Topic
from tallykeep.systems.kafka.collecting import Reading
from tallykeep.systems.kafka.held import Held, Incarnation
from tallykeep.systems.kafka.histories import Question, diverged, lost, shortened
from tallykeep.systems.kafka.manifest import GapEntry, StartEntry
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.snapshot import (
    Snapshot,
    SnapshotGroup,
    SnapshotOffset,
    SnapshotPartition,
    SnapshotTopic,
)

_GROUPS = 8  # asked for at once


@dataclass(slots=True)
class Cut:
    """What a run is to do."""

    snapshot: Snapshot
    starts: list[StartEntry] = field(default_factory=list)
    gaps: list[GapEntry] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)  # partitions with anything to be read
    failed: dict[Place, TallykeepError] = field(default_factory=dict)  # partitions that cannot be read at all
    new_incarnations: list[str] = field(default_factory=list)  # topics


class Ends(NamedTuple):
    """What the waves brought; partitions without a leader are in none."""

    earliest: Mapping[Place, int]
    stable: Mapping[Place, int]
    high: Mapping[Place, int]


async def take_cut(
    request: BackupRequest, cluster: Cluster, brokers: Brokers, held: Mapping[Incarnation, Held], run: str,
    clock: Clock,
) -> Cut:  # fmt: skip
    """Ask the cluster for all that a run has to know. Raises: ConfigError; SourceErrors."""
    found = await cluster.topics()
    topics = [found[name] for name in request.topics.of((each.name, each.internal) for each in found.values())]
    configs = await cluster.configs([topic.name for topic in topics])
    groups = await _groups(cluster, {topic.name for topic in topics}) if request.groups else []
    ends = await _ends(cluster, topics)
    time = clock.time()
    planning = _Planning(request, held, ends, await lost(_questions(topics, held), cluster.brokers, brokers))
    described = [planning.topic(topic, configs.get(topic.name, {})) for topic in topics]
    mode = "incremental" if held else "full"
    return planning.cut(Snapshot(run, cluster.cluster_id, cluster.name, time, mode, described, groups))


class _Planning:
    """Goes through the partitions, one after another."""

    def __init__(
        self, request: BackupRequest, held: Mapping[Incarnation, Held], ends: Ends, lost: Container[Place]
    ) -> None:
        self._request, self._held, self._ends, self._lost = request, held, ends, lost
        self._known = {place.topic for place in held}
        self._ids = {place[:2] for place in held}
        self._cut = Cut(Snapshot("", "", "", 0.0, "", (), ()))

    def cut(self, snapshot: Snapshot) -> Cut:
        """All that was decided."""
        self._cut.snapshot = snapshot
        return self._cut

    def topic(self, topic: Topic, configs: Mapping[str, str]) -> SnapshotTopic:
        """Decide for each partition, and say how the topic would have to be made again."""
        if topic.name in self._known and (topic.name, topic.topic_id) not in self._ids:
            self._cut.new_incarnations.append(topic.name)
        found = [self._partition(topic, info) for info in topic.partitions]
        replicas = max((info.replicas for info in topic.partitions), default=1)
        return SnapshotTopic(topic.name, topic.topic_id, replicas, dict(configs), found)

    def _partition(self, topic: Topic, info: PartitionInfo) -> SnapshotPartition:
        place = Place(topic.name, info.number)
        if place not in self._ends.stable:
            self._cut.failed[place] = Unreachable(f"{place} has no leader: bring its brokers back.")
            return SnapshotPartition(info.number, -1, -1, -1, -1)
        first, end, high = (wave[place] for wave in self._ends)
        incarnation = Incarnation(topic.name, topic.topic_id, info.number)
        start = self._start(incarnation, first, end)
        if end < start:
            self._cut.failed[place] = shortened(incarnation, end, start)
        elif place in self._lost:
            self._cut.failed[place] = diverged(incarnation)
        else:
            self._read(incarnation, info.leader, self._behind_gap(incarnation, start, first, end), end)
        return SnapshotPartition(info.number, first, start, end, high)

    def _start(self, incarnation: Incarnation, first: int, end: int) -> int:
        """The checkpoint, or where a partition begins that the backup does not know."""
        held = self._held.get(incarnation)
        if held:
            return held.checkpoint
        start = first if incarnation.topic in self._known else self._wanted(incarnation, first, end)
        self._cut.starts.append(StartEntry(*incarnation, start))
        return start

    def _wanted(self, incarnation: Incarnation, first: int, end: int) -> int:
        """Where the partitions of a new topic begin: what was not asked for is no gap."""
        start = self._request.start
        if start == "latest":
            return end
        if isinstance(start, str):
            return first
        place = Place(incarnation.topic, incarnation.partition)
        return min(max(start.get(place, first), first), end)

    def _behind_gap(self, incarnation: Incarnation, start: int, first: int, end: int) -> int:
        if first <= start:
            return start
        until = min(first, end)
        if until > start:
            self._cut.gaps.append(GapEntry(*incarnation, start, until, "log_start"))
        return until

    def _read(self, incarnation: Incarnation, leader: int, start: int, end: int) -> None:
        if start < end:
            reading = Reading.begun(incarnation, leader, start, end, self._request.pack, self._request.level)
            held = self._held.get(incarnation)
            reading.tail = held.tail if held else None
            self._cut.readings.append(reading)


def _questions(topics: Sequence[Topic], held: Mapping[Incarnation, Held]) -> list[Question]:
    """What is to be asked of the leaders: whether they have the last that was backed up."""
    found = []
    for topic in topics:
        for info in topic.partitions:
            known = held.get(Incarnation(topic.name, topic.topic_id, info.number))
            if known and known.tail and info.leader >= 0:
                found.append(Question(Place(topic.name, info.number), info.leader, known.tail))
    return found


async def _groups(cluster: Cluster, topics: Container[str]) -> list[SnapshotGroup]:
    """Groups with offsets in `topics`."""
    several = asyncio.Semaphore(_GROUPS)

    async def one(group: Group) -> SnapshotGroup:
        async with several:
            offsets = await cluster.group_offsets(group.name)
        kept = [
            SnapshotOffset(place.topic, place.partition, found.offset, found.metadata, found.leader_epoch)
            for place, found in sorted(offsets.items())
            if place.topic in topics
        ]
        return SnapshotGroup(group.name, group.state, group.protocol_type, kept)

    found = await asyncio.gather(*map(one, await cluster.groups()))
    return [group for group in sorted(found, key=lambda group: group.name) if group.offsets]


async def _ends(cluster: Cluster, topics: Sequence[Topic]) -> Ends:
    places = [Place(topic.name, info.number) for topic in topics for info in topic.partitions if info.leader >= 0]
    earliest = await cluster.offsets(places, "earliest")
    stable = await cluster.offsets(places, "latest_committed")
    return Ends(earliest, stable, await cluster.offsets(places, "latest"))
