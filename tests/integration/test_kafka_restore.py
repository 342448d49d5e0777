"""Restores on a real Kafka: what comes back, where to, and what is refused."""

from __future__ import annotations

import asyncio
import random
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Consumer
from tests.support.kafka import KafkaServer, running
from tests.support.kafka_corpus import a_record, differences, produce, records, seen
from tests.support.kafka_live import (
    Silent,
    backed_up,
    client,
    delete_topic,
    end_of,
    findings,
    own_settings,
    restored,
)

from tallykeep.clock import SystemClock
from tallykeep.errors import RestoreError
from tallykeep.storage.memory import MemoryStore
from tallykeep.systems.kafka.cluster import Committed
from tallykeep.systems.kafka.offset_map import OffsetMap
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.preflight import plan_restore
from tallykeep.systems.kafka.restore import restore
from tallykeep.systems.kafka.restore_plan import RestoreRequest
from tallykeep.systems.kafka.restoring.choosing import Window
from tallykeep.systems.kafka.snapshot import Snapshot

pytestmark = pytest.mark.server


def fill(kafka: KafkaServer, topic: str, count: int = 300, partitions: int = 2, **settings: object) -> None:
    produce(kafka, topic, [(number % partitions, a_record(number)) for number in range(count)], **settings)


async def test_a_deleted_topic_comes_back(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """After its deletion a topic has the same records, offsets, partitions and settings, and batches of the same bytes;
    everything was read back and compared; figures and map tell of it."""
    kafka.create_topic(topic, 2, retention_ms="31536000000000", max_message_bytes="2000000")
    fill(kafka, topic, compression_type="zstd")
    before, settings = seen(kafka, [topic]), await own_settings(kafka, topic)
    store = MemoryStore()
    backup = await backed_up(kafka, store, topic)
    delete_topic(kafka, topic)
    figures = Silent()
    result = await restored(kafka, backup, tmp_path, figures=figures)
    assert seen(kafka, [topic]) == before
    assert await own_settings(kafka, topic) == settings
    assert (result.records, result.sent, result.verified, result.interrupted) == (300, 300, 300, False)
    assert figures.of("targeted") == [[300]]
    assert sum(records for _, records, _ in figures.of("restored")) == 300
    assert figures.of("finished") == [["success"]]
    data = await store.read(f"restores/{result.run}/offset-map.json")
    assert data == (tmp_path / "offset-map.json").read_bytes()
    assert OffsetMap.decode(data, "map").translate(Place(topic, 1), 7) == 7


async def test_other_names_and_partitions(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """A partition goes where the mapping says, and others stay empty; the source is not touched."""
    kafka.create_topic(topic, 3)
    fill(kafka, topic, 90, 3)
    before = seen(kafka, [topic])
    backup = await backed_up(kafka, MemoryStore(), topic)
    new = f"{topic}-new"
    await restored(
        kafka, backup, tmp_path, topic_mapping={topic: new}, source_partitions=(1, 2), partition_mapping={1: 4}
    )
    after = records(seen(kafka, [topic, new]))
    assert [len(after[new, number]) for number in range(5)] == [0, 0, 30, 0, 30]
    assert after[new, 4] == records(before)[topic, 1]
    assert not list(differences(before, seen(kafka, [topic])))


async def test_another_cluster(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """A topic comes back in a cluster that has never seen it, at other offsets where the source's had holes."""
    kafka.create_topic(topic)
    producer = kafka.producer(transactional_id=topic)
    producer.init_transactions(60)
    for number in range(6):
        producer.begin_transaction()
        producer.produce(topic, b"%d" % number, timestamp=1_700_000_000_000)
        producer.flush(60)
        (producer.abort_transaction if number % 2 else producer.commit_transaction)(60)
    kafka.settle(topic)
    before = seen(kafka, [topic])
    backup = await backed_up(kafka, MemoryStore(), topic)
    (tmp_path / "other").mkdir()
    with running(tmp_path / "other") as other:
        result = await restored(other, backup, tmp_path)
        after = seen(other, [topic])
        assert not list(differences(before, after))
        assert [offset for offset, _ in after[topic, 0]] == [0, 1, 2]
        assert result.records == 3
        assert await end_of(other, topic) == 3  # no markers


async def test_settings_are_held_off_and_put_back(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Into a topic that would delete, compact, refuse and restamp them, records come as they were; then its settings
    are what they were."""
    kafka.create_topic(topic, 1, retention_ms="-1", message_timestamp_after_max_ms=str(1 << 60))
    many = [
        (0, a_record(number % 5)._replace(timestamp=moment)) for number, moment in enumerate((1, 5, 1 << 42, 3) * 5)
    ]
    produce(kafka, topic, many, batch_num_messages=2)
    backup = await backed_up(kafka, MemoryStore(), topic)
    new = f"{topic}-new"
    kafka.create_topic(
        new, 1, cleanup_policy="compact,delete", retention_ms="86400000", message_timestamp_type="LogAppendTime",
        compression_type="gzip", segment_ms="1000", min_cleanable_dirty_ratio="0.01", max_compaction_lag_ms="1",
    )  # fmt: skip
    settings = await own_settings(kafka, new)
    found = await findings(kafka, backup, tmp_path, topic_mapping={topic: new})
    assert found == {"SETTINGS_HELD": False, "RETENTION_DELETES": False}
    result = await restored(kafka, backup, tmp_path, topic_mapping={topic: new})
    assert result.verified == 20  # before the settings came back: then the broker deletes what is too old
    assert await own_settings(kafka, new) == settings


async def test_a_point_in_time(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Exactly the records of a window of milliseconds come back, though timestamps are in no order."""
    kafka.create_topic(topic, 2)
    rng = random.Random(7)
    base = 1_700_000_000_000
    many = [(n % 2, a_record(n)._replace(timestamp=base + rng.randrange(1000))) for n in range(600)]
    produce(kafka, topic, many, batch_num_messages=20, compression_type="lz4")
    before = records(seen(kafka, [topic]))
    backup = await backed_up(kafka, MemoryStore(), topic)
    new = f"{topic}-new"
    window = Window(base + 250, base + 500)
    result = await restored(kafka, backup, tmp_path, topic_mapping={topic: new}, window=window)
    after = records(seen(kafka, [new]))
    for number in range(2):
        assert after[new, number] == [record for record in before[topic, number] if record.timestamp in window]
    assert result.records == result.verified == sum(map(len, after.values()))


async def test_large_batches_are_split(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Into a topic that takes small batches only, larger ones go in parts; too large a record is told before."""
    kafka.create_topic(topic)
    fill(kafka, topic, 400, 1, batch_num_messages=400, linger_ms=200)
    before = seen(kafka, [topic])
    backup = await backed_up(kafka, MemoryStore(), topic)
    small, smaller = f"{topic}-small", f"{topic}-smaller"
    kafka.create_topic(small, 1, max_message_bytes="3000")
    assert (await findings(kafka, backup, tmp_path, topic_mapping={topic: small}))["MESSAGE_SPLIT"] is False
    result = await restored(kafka, backup, tmp_path, topic_mapping={topic: small})
    assert result.verified == 400
    assert not list(differences(before, seen(kafka, [small]), {topic: small}))
    produce(kafka, topic, [(0, a_record(1, 5000))])
    store = MemoryStore()
    backup = await backed_up(kafka, store, topic)
    kafka.create_topic(smaller, 1, max_message_bytes="3000")
    assert (await findings(kafka, backup, tmp_path, topic_mapping={topic: smaller}))["MESSAGE_SIZE"] is True


async def test_what_preflight_refuses(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Targets that are missing, full, too narrow or the brokers' own are told before anything changes."""
    kafka.create_topic(topic, 2)
    fill(kafka, topic, 10)
    backup = await backed_up(kafka, MemoryStore(), topic)
    narrow = f"{topic}-narrow"
    kafka.create_topic(narrow, 1)
    assert (await findings(kafka, backup, tmp_path))["TARGET_NOT_EMPTY"] is True
    assert (await findings(kafka, backup, tmp_path, topic_mapping={topic: narrow}))["TOO_FEW_PARTITIONS"] is True
    missing = {"topic_mapping": {topic: f"{topic}-none"}}
    assert (await findings(kafka, backup, tmp_path, create_topics=False, **missing))["TARGET_MISSING"] is True
    assert (await findings(kafka, backup, tmp_path, default_replication_factor=3, **missing))[
        "CREATION_REFUSED"
    ] is True
    internal = {"topic_mapping": {topic: "__consumer_offsets"}}
    assert (await findings(kafka, backup, tmp_path, **internal))["INTERNAL_TOPIC"] is True
    assert (await findings(kafka, backup, tmp_path, include=("nothing",)))["TOPIC_NOT_IN_BACKUP"] is True
    with pytest.raises(RestoreError, match="TARGET_NOT_EMPTY"):
        await restored(kafka, backup, tmp_path)
    assert await end_of(kafka, topic) == 5


async def test_a_stopped_restore_is_gone_on_with(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Stopped in its midst it ends in order, and the next one sends what is missing, nothing twice."""
    kafka.create_topic(topic, 4)
    fill(kafka, topic, 2000, 4, batch_num_messages=5)
    before = seen(kafka, [topic])
    backup = await backed_up(kafka, MemoryStore(), topic)
    delete_topic(kafka, topic)
    stop = asyncio.Event()

    class Stopping(Silent):
        def restored(self, place: Place, records: int, size: int) -> None:
            stop.set()

    async with client(kafka) as (cluster, brokers):
        plan = await plan_restore(RestoreRequest(tmp_path, max_concurrent_partitions=1), backup, cluster)
        first = await restore(plan, cluster, brokers, SystemClock(), Stopping(), stop)
    assert first.interrupted
    second = await restored(kafka, backup, tmp_path, max_concurrent_partitions=1)
    assert 0 < second.sent == 2000 - first.records
    assert seen(kafka, [topic]) == before


async def test_a_partition_that_is_stopped_in_its_midst(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """What was under way when it was stopped counts as well: the records told are those that are there."""
    kafka.create_topic(topic)
    produce(kafka, topic, [(0, a_record(number, 100_000)) for number in range(200)])
    backup = await backed_up(kafka, MemoryStore(), topic)
    delete_topic(kafka, topic)
    stop = asyncio.Event()

    class Stopping(Silent):
        def restored(self, place: Place, records: int, size: int) -> None:
            self.calls.append(("restored", place, records, size))
            stop.set()

    figures = Stopping()
    async with client(kafka) as (cluster, brokers):
        plan = await plan_restore(RestoreRequest(tmp_path), backup, cluster)
        first = await restore(plan, cluster, brokers, SystemClock(), figures, stop)
    there = await end_of(kafka, topic)
    assert (first.records, first.interrupted) == (there, True)
    assert sum(records for _, records, _ in figures.of("restored")) == there < 200
    assert (await restored(kafka, backup, tmp_path)).sent == 200 - there


async def test_somebody_else_writes(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """A record that something else adds to the target stops the restore when it is gone on with."""
    kafka.create_topic(topic, 2)
    fill(kafka, topic, 100)
    backup = await backed_up(kafka, MemoryStore(), topic)
    delete_topic(kafka, topic)

    class Stopping(Silent):
        def targeted(self, records: int) -> None:
            stop.set()

    stop = asyncio.Event()
    async with client(kafka) as (cluster, brokers):
        plan = await plan_restore(RestoreRequest(tmp_path), backup, cluster)
        assert (await restore(plan, cluster, brokers, SystemClock(), Stopping(), stop)).interrupted
    produce(kafka, topic, [(0, a_record(1))])
    with pytest.raises(RestoreError, match=r"something else has written|is not what the backup has"):
        await restored(kafka, backup, tmp_path)


async def test_a_topic_that_is_made_again_meanwhile(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Deleted, or deleted and made again between two parts of a restore: told before anything changes."""
    kafka.create_topic(topic)
    fill(kafka, topic, 10, 1)
    backup = await backed_up(kafka, MemoryStore(), topic)
    delete_topic(kafka, topic)
    stop = asyncio.Event()

    class Stopping(Silent):
        def targeted(self, records: int) -> None:
            stop.set()

    async with client(kafka) as (cluster, brokers):
        plan = await plan_restore(RestoreRequest(tmp_path), backup, cluster)
        assert (await restore(plan, cluster, brokers, SystemClock(), Stopping(), stop)).interrupted
    delete_topic(kafka, topic)
    assert (await findings(kafka, backup, tmp_path))["TARGET_GONE"] is True
    kafka.create_topic(topic)
    assert (await findings(kafka, backup, tmp_path))["TARGET_RECREATED"] is True


async def test_expired_producer_state(topic: str, tmp_path: Path) -> None:
    """Where the broker has forgotten who wrote, what is there is compared, and the rest is sent under a new id."""
    folder = tmp_path / "server"
    folder.mkdir()
    with running(folder, producer_id_expiration_ms="1000", producer_id_expiration_check_interval_ms="500") as kafka:
        kafka.create_topic(topic, 2)
        fill(kafka, topic, 400, batch_num_messages=5)
        before = seen(kafka, [topic])
        backup = await backed_up(kafka, MemoryStore(), topic)
        delete_topic(kafka, topic)
        stop = asyncio.Event()

        class Stopping(Silent):
            def restored(self, place: Place, records: int, size: int) -> None:
                stop.set()

        async with client(kafka) as (cluster, brokers):
            plan = await plan_restore(RestoreRequest(tmp_path / "state", max_concurrent_partitions=1), backup, cluster)
            first = await restore(plan, cluster, brokers, SystemClock(), Stopping(), stop)
        assert first.interrupted
        assert first.records
        await asyncio.sleep(4)
        second = await restored(kafka, backup, tmp_path / "state", max_concurrent_partitions=1)
        assert second.records == second.verified == 400
        assert seen(kafka, [topic]) == before


async def test_groups_go_on_with_the_next_unread_record(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """After a restore to other offsets a group reads exactly what it had not read, whatever holes the source had."""
    kafka.create_topic(topic)
    producer = kafka.producer(transactional_id=topic)
    producer.init_transactions(60)
    for number in range(8):
        producer.begin_transaction()
        for n in range(3):
            producer.produce(topic, b"%d %d" % (number, n), timestamp=1_700_000_000_000)
        producer.flush(60)
        (producer.abort_transaction if number % 2 else producer.commit_transaction)(60)
    kafka.settle(topic)
    group, new = f"{topic}-group", f"{topic}-new"
    first = consume(kafka, group, topic, 7)
    backup = await backed_up(kafka, MemoryStore(), topic)
    moved: list[tuple[int, int]] = []

    async with client(kafka) as (cluster, brokers):

        async def groups(snapshot: Snapshot, offsets: OffsetMap) -> None:
            [saved] = [found for found in snapshot.groups if found.name == group]
            [old] = saved.offsets
            offset = offsets.translate(Place(topic, 0), old.offset)
            assert await cluster.commit_offsets(group, {Place(new, 0): Committed(offset)}) == {Place(new, 0): ""}
            moved.append((old.offset, offset))

        plan = await plan_restore(RestoreRequest(tmp_path, topic_mapping={topic: new}), backup, cluster)
        await restore(plan, cluster, brokers, SystemClock(), Silent(), asyncio.Event(), groups=groups)
    assert moved == [(17, 7)]  # ten offsets less: six aborted records and four markers
    rest = consume(kafka, group, new, 5)
    wanted = [record.value for _, record in seen(kafka, [topic])[topic, 0]]
    assert first + rest == wanted


def consume(kafka: KafkaServer, group: str, topic: str, count: int) -> list[bytes | None]:
    """The next values that a group reads, committed behind the last."""
    consumer = Consumer({
        "bootstrap.servers": kafka.bootstrap, "group.id": group, "isolation.level": "read_committed", "log_level": 0,
        "enable.auto.commit": False, "auto.offset.reset": "earliest",
    })  # fmt: skip
    with closing(consumer):
        consumer.subscribe([topic])
        found = list[bytes | None]()
        while len(found) < count:
            if message := consumer.poll(20):
                assert not message.error()
                found.append(message.value())
                consumer.commit(message=message, asynchronous=False)
    return found
