"""The control plane: topics, configurations, offsets and groups, asked for in parts.

What comes back are plain values. No question is about more than a thousand partitions, topics or groups, so that
neither its answer nor what librdkafka holds for it grows with the cluster.
Source: Apache Kafka protocol guide; KIP-396 (offsets), KIP-339 (configurations), KIP-709 (groups).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, TopicCollection
from confluent_kafka import TopicPartition as _TopicPartition
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from tallykeep.errors import SourceError
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.kafka.admin import Admin, translated
from tallykeep.systems.kafka.described import ClusterSettings, Committed, Group, PartitionInfo, Topic
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.replies import (
    COORDINATOR_AWAY,
    GROUP_ID_NOT_FOUND,
    LEADER_NOT_AVAILABLE,
    UNKNOWN_TOPIC_OR_PARTITION,
    KafkaRefused,
    failure,
)
from tallykeep.systems.kafka.segment import NO_TOPIC_ID

__all__ = ["Cluster", "ClusterSettings", "Committed", "Group", "PartitionInfo", "Place", "Topic"]

T = TypeVar("T")
At = Literal["earliest", "latest", "latest_committed"] | int

_PART = 1000  # partitions, topics or groups in one request
_HALF = (1 << 64) - 1  # of a topic id; its halves come as signed numbers
_AGAIN = 0.2  # seconds between two tries
_KNOWN_WITHIN = 30.0  # seconds until brokers have heard of new settings; they may word a value in their own way
_LED_WITHIN = 30.0  # seconds until a new topic's partitions have leaders


class Cluster:
    """An open control plane. Everything may be called from many tasks at once."""

    def __init__(self, admin: Admin) -> None:
        self.name = admin.name
        self.cluster_id = ""
        self.brokers: dict[int, tuple[str, int]] = {}
        self._admin = admin
        self._timeout = admin.timeout

    @classmethod
    async def open(cls, settings: ClusterSettings) -> Cluster:
        """Connect and look around. Raises: Unreachable; Refused where one does not trust the other; ConfigError."""
        cluster = cls(await in_thread(Admin, settings))
        try:
            await cluster._look()
        except BaseException:
            await cluster.close()
            raise
        return cluster

    async def topics(self) -> dict[str, Topic]:
        """Every topic by name, as it is now; `brokers` is renewed too."""
        metadata = await self._look()
        names = list(metadata.topics)
        ids: dict[str, str] = {}
        for part in _parts(names):
            ids |= await self._topic_ids(part)
        return {
            name: Topic(name, ids.get(name, NO_TOPIC_ID), name.startswith("__"), _partitions(found))
            for name, found in metadata.topics.items()
        }

    async def configs(self, topics: Iterable[str]) -> dict[str, dict[str, str]]:
        """What was set for each topic itself."""
        return await self._configs(topics, lambda entry: entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value)

    async def effective_configs(self, topics: Iterable[str]) -> dict[str, dict[str, str]]:
        """What holds for each topic, defaults included."""
        return await self._configs(topics, lambda entry: True)

    async def offsets(self, places: Iterable[Place], at: At) -> dict[Place, int]:
        """An offset of each partition: its first, that behind its last (of committed records: the last stable one), or
        that of the first record at or after a time in Unix milliseconds, the end where there is none.

        Raises: SourceErrors, also where a single partition has no answer.
        """
        level = IsolationLevel.READ_COMMITTED if at == "latest_committed" else IsolationLevel.READ_UNCOMMITTED
        found: dict[Place, int] = {}
        for part in _parts(places):
            asked = {_TopicPartition(*place): _spec(at) for place in part}
            answers = self._admin.client.list_offsets(asked, isolation_level=level, request_timeout=self._timeout)
            for where, answer in (await self._led_by(part, answers)).items():
                found[Place(where.topic, where.partition)] = answer.offset
        if isinstance(at, int) and (beyond := [place for place, offset in found.items() if offset < 0]):
            found |= await self.offsets(beyond, "latest")
        return found

    async def groups(self) -> list[Group]:
        """Every consumer group. Raises: SourceErrors, also where one broker does not name its own."""
        listing = self._admin.client.list_consumer_groups(request_timeout=self._timeout)
        listed = await self._admin.one(listing, "ListGroups")
        for error in listed.errors:
            raise translated(error.args[0], f"{self.name}: ListGroups")
        found: list[Group | None] = []
        for part in _parts(sorted({group.group_id for group in listed.valid})):
            found += await self._settled(partial(self._groups, part))
        return [group for group in found if group]

    async def group(self, name: str) -> Group:
        """One group; one that does not exist is Dead and has no members."""
        [found] = await self._settled(partial(self._groups, [name]))
        return found or Group(name, "Dead", "", 0)

    async def group_offsets(self, group: str) -> dict[Place, Committed]:
        """What the group has committed, for every partition of every topic that is there."""
        return await self._settled(partial(self._group_offsets, group))

    async def commit_offsets(self, group: str, offsets: Mapping[Place, Committed]) -> dict[Place, str]:
        """Set what the group, which must not be active, reads next. What went wrong, by partition; "" for nothing.

        Raises: SourceErrors where the whole request fails.
        """
        if not offsets:
            return {}
        return await self._settled(partial(self._commit_offsets, group, offsets))

    async def create_topic(
        self, name: str, partitions: int, replication_factor: int, configs: Mapping[str, str],
        *, validate_only: bool = False,
    ) -> None:  # fmt: skip
        """Make a topic; returns when every partition has a leader. Raises: SourceErrors."""
        topic = NewTopic(name, num_partitions=partitions, replication_factor=replication_factor, config=dict(configs))
        answers = self._admin.client.create_topics([topic], request_timeout=self._timeout, validate_only=validate_only)
        await self._admin.all(answers, f"CreateTopics of {name}")
        if not validate_only:
            await self._led(name, partitions)

    async def alter_configs(
        self, topic: str, *, set: Mapping[str, str] | None = None, unset: Iterable[str] = ()
    ) -> None:
        """Change some settings of a topic and leave the others; returns when they are known. Raises: SourceErrors."""
        wanted: dict[str, str | None] = {**dict.fromkeys(unset), **(set or {})}
        changes = [
            ConfigEntry(
                name, value, incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
            )
            for name, value in wanted.items()
        ]
        if changes:
            resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=changes)
            answers = self._admin.client.incremental_alter_configs([resource], request_timeout=self._timeout)
            await self._admin.all(answers, f"IncrementalAlterConfigs of {topic}")
            await self._known(topic, wanted)

    async def close(self) -> None:
        """Idempotent."""
        await self._admin.close()

    async def _look(self) -> Any:
        """Fresh metadata of the cluster."""
        metadata = await self._admin.metadata()
        self.cluster_id = str(metadata.cluster_id)
        self.brokers = {broker.id: (str(broker.host), broker.port) for broker in metadata.brokers.values()}
        return metadata

    async def _groups(self, names: Sequence[str]) -> list[Group | None]:
        """Each of them; None for one that is gone."""
        answers = self._admin.client.describe_consumer_groups(list(names), request_timeout=self._timeout)
        found: list[Group | None] = []
        for name, answer in answers.items():
            described = await self._unless(GROUP_ID_NOT_FOUND, answer, f"DescribeGroups of {name}")
            group = _group(name, described) if described else None
            found.append(group if group and group.state != "Dead" else None)
        return found

    async def _group_offsets(self, group: str) -> dict[Place, Committed]:
        asked = [ConsumerGroupTopicPartitions(group)]
        what = f"OffsetFetch of group {group}"
        answers = self._admin.client.list_consumer_group_offsets(asked, request_timeout=self._timeout)
        found = (await self._admin.all(answers, what))[group].topic_partitions or []
        for one in found:
            if one.error is not None and one.error.code() != UNKNOWN_TOPIC_OR_PARTITION:
                raise translated(one.error, f"{self.name}: {what}, {one.topic}-{one.partition}")
        return {
            Place(one.topic, one.partition): Committed(one.offset, one.metadata or "", _epoch(one.leader_epoch))
            for one in found
            if one.offset >= 0 and one.error is None
        }

    async def _commit_offsets(self, group: str, offsets: Mapping[Place, Committed]) -> dict[Place, str]:
        wanted = [_wanted(place, committed) for place, committed in offsets.items()]
        asked = [ConsumerGroupTopicPartitions(group, wanted)]
        answers = self._admin.client.alter_consumer_group_offsets(asked, request_timeout=self._timeout)
        done = (await self._admin.all(answers, f"OffsetCommit of group {group}"))[group].topic_partitions or []
        return {Place(one.topic, one.partition): one.error.str() if one.error else "" for one in done}

    async def _settled(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What is answered once the group's coordinator is ready: it may just have started, or moved."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout
        while True:
            try:
                return await ask()
            except KafkaRefused as error:
                if error.kafka_code not in COORDINATOR_AWAY or loop.time() > end:
                    raise
                await asyncio.sleep(_AGAIN)

    async def rights(self, topics: Iterable[str]) -> dict[str, frozenset[str]]:
        """What this user may do with each topic, in the words of Kafka's ACLs: READ, WRITE, ALTER_CONFIGS, ...

        Topics that are not there, and those of which the broker does not tell, are left out.
        """
        found: dict[str, frozenset[str]] = {}
        for part in _parts(topics):
            answers = self._admin.client.describe_topics(
                TopicCollection(list(part)), request_timeout=self._timeout, include_authorized_operations=True
            )
            for name, answer in answers.items():
                described = await self._unless(UNKNOWN_TOPIC_OR_PARTITION, answer, f"DescribeTopics of {name}")
                if described and described.authorized_operations is not None:
                    found[name] = frozenset(operation.name for operation in described.authorized_operations)
        return found

    async def _topic_ids(self, names: Sequence[str]) -> dict[str, str]:
        """As 32 hex digits; topics deleted since are left out."""
        answers = self._admin.client.describe_topics(TopicCollection(list(names)), request_timeout=self._timeout)
        found: dict[str, str] = {}
        for name, answer in answers.items():
            described = await self._unless(UNKNOWN_TOPIC_OR_PARTITION, answer, f"DescribeTopics of {name}")
            if described:
                found[name] = _hex(described.topic_id)
        return found

    async def _configs(self, topics: Iterable[str], keep: Callable[[Any], bool]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for part in _parts(topics):
            resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in part]
            answers = self._admin.client.describe_configs(resources, request_timeout=self._timeout)
            for resource, entries in (await self._admin.all(answers, "DescribeConfigs")).items():
                found[resource.name] = {
                    name: entry.value for name, entry in entries.items() if keep(entry) and entry.value is not None
                }
        return found

    async def _known(self, topic: str, wanted: Mapping[str, str | None]) -> None:
        """Wait until a broker has these settings: the controller answers who changes them before brokers do."""
        end = asyncio.get_running_loop().time() + _KNOWN_WITHIN
        while asyncio.get_running_loop().time() < end:
            own = (await self.configs([topic]))[topic]
            if all(own.get(name) == value for name, value in wanted.items()):
                return
            await asyncio.sleep(_AGAIN)

    async def _led(self, name: str, partitions: int) -> None:
        """Wait until every partition of a new topic answers."""
        places = [Place(name, number) for number in range(partitions)]
        end = asyncio.get_running_loop().time() + _LED_WITHIN
        while True:
            try:
                await self.offsets(places, "latest")
            except SourceError as error:
                if error.retry is None or asyncio.get_running_loop().time() > end:
                    raise
                await asyncio.sleep(_AGAIN)
            else:
                return

    async def _led_by(self, places: Sequence[Place], answers: Mapping[Any, Any]) -> dict[Any, Any]:
        """The answers to ListOffsets. Without any leader to ask, librdkafka does not say why; this does."""
        try:
            return await self._admin.all(answers, "ListOffsets")
        except KafkaRefused as error:
            if error.kafka_code != LEADER_NOT_AVAILABLE:
                raise
        names = sorted({place.topic for place in places})
        described = self._admin.client.describe_topics(TopicCollection(names), request_timeout=self._timeout)
        topics = await self._admin.all(described, "DescribeTopics")
        for place in places:
            if not any(found.id == place.partition for found in topics[place.topic].partitions):
                raise failure(UNKNOWN_TOPIC_OR_PARTITION, f"{self.name}: ListOffsets of {place}")
        raise failure(LEADER_NOT_AVAILABLE, f"{self.name}: ListOffsets of {', '.join(names)}")

    async def _unless(self, code: int, answer: Any, what: str) -> Any:
        """What the future gives; None where the broker answers `code`."""
        try:
            return await self._admin.one(answer, what)
        except KafkaRefused as error:
            if error.kafka_code == code:
                return None
            raise


def _parts(many: Iterable[T]) -> Iterator[Sequence[T]]:
    rest = iter(many)
    while part := list(islice(rest, _PART)):
        yield part


def _partitions(topic: Any) -> tuple[PartitionInfo, ...]:
    return tuple(
        PartitionInfo(number, found.leader, len(found.replicas)) for number, found in sorted(topic.partitions.items())
    )


def _spec(at: At) -> Any:
    if isinstance(at, int):
        return OffsetSpec.for_timestamp(at)
    return OffsetSpec.earliest() if at == "earliest" else OffsetSpec.latest()  # type: ignore[no-untyped-call]


def _hex(topic_id: Any) -> str:
    high, low = topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits()
    return f"{(high & _HALF) << 64 | low & _HALF:032x}"


def _group(name: str, found: Any) -> Group:
    state = "".join(word.capitalize() for word in found.state.name.split("_"))
    return Group(name, state, "consumer", len(found.members))


def _wanted(place: Place, committed: Committed) -> _TopicPartition:
    return _TopicPartition(*place, committed.offset, committed.metadata, committed.leader_epoch)


def _epoch(found: int | None) -> int:
    return -1 if found is None else found
