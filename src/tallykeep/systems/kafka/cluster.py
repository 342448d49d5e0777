"""The control plane: topics, configurations, offsets and groups, asked through librdkafka's admin client.

confluent-kafka is wrapped here and nowhere else. Its calls block or answer through futures of its own threads; here
they are awaited, and come back as plain values. What fails is told in our errors, once: librdkafka's own chatter on
standard error is off. Large questions are asked in parts, so that no answer is larger than a thousand partitions'.
Source: librdkafka, CONFIGURATION.md; Apache Kafka protocol guide.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as _TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from tallykeep.errors import ConfigError, Refused, SourceError, Unreachable
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.kafka.connection import CLIENT_ID, Security
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.replies import LEADER_NOT_AVAILABLE, UNKNOWN_TOPIC_OR_PARTITION, failure
from tallykeep.systems.kafka.segment import NO_TOPIC_ID

__all__ = ["Cluster", "ClusterSettings", "Committed", "Group", "PartitionInfo", "Place", "Topic"]

T = TypeVar("T")
K = TypeVar("K")
At = Literal["earliest", "latest", "latest_committed"] | int

_PART = 1000  # partitions, topics or groups in one request
_LED_WITHIN = 30.0  # seconds until a new topic's partitions have leaders
_silent = logging.getLogger(f"{__name__}.librdkafka")
_silent.setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Where a cluster is and how to come to it."""

    bootstrap: tuple[str, ...]  # HOST:PORT of some of its brokers
    security: Security = field(default_factory=Security)
    timeout: float = 30.0  # seconds for one question


class PartitionInfo(NamedTuple):
    """A partition as the cluster has it now."""

    number: int
    leader: int  # broker id; -1: none
    replicas: int


class Topic(NamedTuple):
    """A topic as the cluster has it now."""

    name: str
    topic_id: str  # 32 hex digits; zeros where the broker has none
    internal: bool
    partitions: tuple[PartitionInfo, ...]


class Committed(NamedTuple):
    """What a group has committed for a partition."""

    offset: int  # of the next record it reads
    metadata: str = ""
    leader_epoch: int = -1  # -1: not known


class Group(NamedTuple):
    """A consumer group."""

    name: str
    state: str  # Stable, Empty, Dead, PreparingRebalance, CompletingRebalance, Unknown
    protocol_type: str
    members: int


class Cluster:
    """An open control plane. Everything may be called from many tasks at once."""

    def __init__(self, settings: ClusterSettings, client: AdminClient) -> None:
        self.name = ",".join(settings.bootstrap)
        self.cluster_id = ""
        self.brokers: dict[int, tuple[str, int]] = {}
        self._client = client
        self._timeout = settings.timeout

    @classmethod
    async def open(cls, settings: ClusterSettings) -> Cluster:
        """Connect and look around. Raises: Unreachable; Refused where one does not trust the other; ConfigError."""
        told: list[KafkaError] = []
        cluster = cls(settings, _client(settings, told.append))
        try:
            await cluster._look()
        except SourceError as error:
            await in_thread(cluster._client.poll, 0.1)  # brings what librdkafka said on the way
            raise _blamed(told, cluster.name) or error from None
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
            answers = self._client.list_offsets(asked, isolation_level=level, request_timeout=self._timeout)
            for where, answer in (await self._all(answers, "ListOffsets")).items():
                found[Place(where.topic, where.partition)] = answer.offset
        if isinstance(at, int) and (beyond := [place for place, offset in found.items() if offset < 0]):
            found |= await self.offsets(beyond, "latest")
        return found

    async def groups(self) -> list[Group]:
        """Every consumer group."""
        listed = await self._one(self._client.list_consumer_groups(request_timeout=self._timeout), "ListGroups")
        if listed.errors and not listed.valid:
            raise _translated(listed.errors[0].args[0], f"{self.name}: ListGroups")
        found: list[Group] = []
        for part in _parts(group.group_id for group in listed.valid):
            answers = self._client.describe_consumer_groups(list(part), request_timeout=self._timeout)
            found += [_group(name, group) for name, group in (await self._all(answers, "DescribeGroups")).items()]
        return found

    async def group(self, name: str) -> Group:
        """One group; one that does not exist is Dead and has no members."""
        answers = self._client.describe_consumer_groups([name], request_timeout=self._timeout)
        try:
            return _group(name, (await self._all(answers, "DescribeGroups"))[name])
        except Refused as error:
            if getattr(error, "kafka_code", 0) == KafkaError.GROUP_ID_NOT_FOUND:
                return Group(name, "Dead", "", 0)
            raise

    async def group_offsets(self, group: str) -> dict[Place, Committed]:
        """What the group has committed, for every partition of every topic."""
        asked = [ConsumerGroupTopicPartitions(group)]
        answers = self._client.list_consumer_group_offsets(asked, request_timeout=self._timeout)
        found = (await self._all(answers, f"OffsetFetch of group {group}"))[group].topic_partitions or []
        return {
            Place(one.topic, one.partition): Committed(one.offset, one.metadata or "", _epoch(one.leader_epoch))
            for one in found
            if one.offset >= 0 and one.error is None
        }

    async def commit_offsets(self, group: str, offsets: Mapping[Place, Committed]) -> dict[Place, str]:
        """Set what the group, which must not be active, reads next. What went wrong, by partition; "" for nothing.

        Raises: SourceErrors where the whole request fails.
        """
        wanted = [_wanted(place, committed) for place, committed in offsets.items()]
        asked = [ConsumerGroupTopicPartitions(group, wanted)]
        answers = self._client.alter_consumer_group_offsets(asked, request_timeout=self._timeout)
        done = (await self._all(answers, f"OffsetCommit of group {group}"))[group].topic_partitions or []
        return {Place(one.topic, one.partition): one.error.str() if one.error else "" for one in done}

    async def create_topic(
        self, name: str, partitions: int, replication_factor: int, configs: Mapping[str, str],
        *, validate_only: bool = False,
    ) -> None:  # fmt: skip
        """Make a topic; returns when every partition has a leader. Raises: SourceErrors."""
        topic = NewTopic(name, num_partitions=partitions, replication_factor=replication_factor, config=dict(configs))
        answers = self._client.create_topics([topic], request_timeout=self._timeout, validate_only=validate_only)
        await self._all(answers, f"CreateTopics of {name}")
        if not validate_only:
            await self._led(name, partitions)

    async def alter_configs(
        self, topic: str, *, set: Mapping[str, str] | None = None, unset: Iterable[str] = ()
    ) -> None:
        """Change some settings of a topic and leave the others. Raises: SourceErrors."""
        changes = [
            *(
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in (set or {}).items()
            ),
            *(ConfigEntry(name, None, incremental_operation=AlterConfigOpType.DELETE) for name in unset),
        ]
        if changes:
            resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=changes)
            answers = self._client.incremental_alter_configs([resource], request_timeout=self._timeout)
            await self._all(answers, f"IncrementalAlterConfigs of {topic}")

    async def close(self) -> None:
        """Idempotent. librdkafka closes its connections when the client is forgotten."""

    async def _look(self, topic: str | None = None) -> Any:
        """Fresh metadata of the cluster, with all topics or one."""
        try:
            metadata = await in_thread(self._client.list_topics, topic, timeout=self._timeout)
        except KafkaException as error:
            raise _translated(error.args[0], self.name) from None
        self.cluster_id = str(metadata.cluster_id)
        self.brokers = {broker.id: (str(broker.host), broker.port) for broker in metadata.brokers.values()}
        return metadata

    async def _topic_ids(self, names: Sequence[str]) -> dict[str, str]:
        answers = self._client.describe_topics(TopicCollection(list(names)), request_timeout=self._timeout)
        found: dict[str, str] = {}
        for name, future in answers.items():
            try:
                described = await asyncio.wrap_future(future)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:  # deleted since
                    continue
                raise _translated(error.args[0], f"{self.name}: DescribeTopics of {name}") from None
            id = described.topic_id
            bits = (id.get_most_significant_bits() << 64) | (id.get_least_significant_bits() & (1 << 64) - 1)
            found[name] = f"{bits & (1 << 128) - 1:032x}"
        return found

    async def _configs(self, topics: Iterable[str], keep: Callable[[Any], bool]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for part in _parts(topics):
            resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in part]
            answers = self._client.describe_configs(resources, request_timeout=self._timeout)
            for resource, entries in (await self._all(answers, "DescribeConfigs")).items():
                found[resource.name] = {
                    name: entry.value for name, entry in entries.items() if keep(entry) and entry.value is not None
                }
        return found

    async def _led(self, name: str, partitions: int) -> None:
        """Wait until every partition of a new topic has a leader.

        It is the topic's metadata that is asked for: librdkafka remembers for seconds that a topic was not there, and
        asks for offsets nobody whom it does not know.
        """
        end = asyncio.get_running_loop().time() + _LED_WITHIN
        while True:
            found = _partitions((await self._look(name)).topics[name])
            if len(found) >= partitions and all(partition.leader >= 0 for partition in found):
                return
            if asyncio.get_running_loop().time() > end:
                raise failure(LEADER_NOT_AVAILABLE, f"{self.name}: {name}, {_LED_WITHIN:g} s after it was made")
            await asyncio.sleep(0.1)

    async def _all(self, answers: Mapping[K, Future[Any]], what: str) -> dict[K, Any]:
        """What each future gives."""
        return {key: await self._one(future, what) for key, future in answers.items()}

    async def _one(self, answer: Future[T], what: str) -> T:
        try:
            return await asyncio.wrap_future(answer)
        except KafkaException as error:
            raise _translated(error.args[0], f"{self.name}: {what}") from None


def _client(settings: ClusterSettings, told: Callable[[KafkaError], object]) -> AdminClient:
    how = settings.security
    config: dict[str, Any] = {
        "bootstrap.servers": ",".join(settings.bootstrap),
        "client.id": CLIENT_ID,
        "security.protocol": how.protocol,
        "socket.timeout.ms": int(settings.timeout * 1000),
        "log_level": 0,
        "error_cb": told,
    }
    if how.protocol.startswith("SASL"):
        config |= {
            "sasl.mechanism": how.mechanism,
            "sasl.username": how.username,
            "sasl.password": how.password.reveal(),
        }
    files = {
        "ssl.ca.location": how.ca_file,
        "ssl.certificate.location": how.certificate_file,
        "ssl.key.location": how.key_file or how.certificate_file,
    }
    if how.uses_tls:
        config |= {name: str(path) for name, path in files.items() if path is not None}
    try:
        return AdminClient(config, logger=_silent)
    except KafkaException as error:
        raise ConfigError(f"Kafka's client cannot be set up: {error.args[0].str()}") from None


def _blamed(told: Iterable[KafkaError], name: str) -> SourceError | None:
    """What librdkafka said on the way to its time-out: the reason, where its answer is only that nothing came."""
    for error in told:
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            return Refused(f"{name}: Kafka and this client do not trust each other: {error.str()}")
    return None


def _translated(error: KafkaError, what: str) -> SourceError:
    """What an error of librdkafka comes to: its own codes are negative."""
    code = error.code()
    if code >= 0 or code == KafkaError.UNKNOWN:
        return failure(code, what)
    if code == KafkaError._NOENT:  # "no leaders found"
        return failure(UNKNOWN_TOPIC_OR_PARTITION, what)
    if code in (KafkaError._AUTHENTICATION, KafkaError._SSL):
        return Refused(f"{what}: Kafka and this client do not trust each other: {error.str()}")
    return Unreachable(f"{what}: Kafka gave no answer: {error.str()}. Check the brokers' addresses and the network.")


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


def _change(name: str, value: str | None, operation: AlterConfigOpType) -> ConfigEntry:
    return ConfigEntry(name, value, incremental_operation=operation)


def _group(name: str, found: Any) -> Group:
    state = "".join(word.capitalize() for word in found.state.name.split("_"))
    return Group(name, state, "consumer", len(found.members))


def _wanted(place: Place, committed: Committed) -> _TopicPartition:
    return _TopicPartition(*place, committed.offset, committed.metadata, committed.leader_epoch)


def _epoch(found: int | None) -> int:
    return -1 if found is None else found
