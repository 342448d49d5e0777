"""Backups of a real Kafka: what is held is what a real consumer reads, offset by offset, run after run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from tests.support.kafka import KafkaServer
from tests.support.kafka_corpus import Seen, a_record, fill, produce, seen
from tests.support.kafka_holding import a_run, partition_of, what_is_held
from tests.support.kafka_live import Silent, delete_topic

from tallykeep.clock import SystemClock
from tallykeep.errors import ConfigError
from tallykeep.storage.local import LocalStore
from tallykeep.storage.memory import MemoryStore
from tallykeep.systems.kafka.backup_request import MIB
from tallykeep.systems.kafka.manifest import CompleteEntry, SnapshotEntry
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.segment import batches
from tallykeep.systems.kafka.selecting import NoSuchTopic
from tallykeep.systems.kafka.wire import Codec

pytestmark = pytest.mark.server


def some(first: int, count: int, size: int = 60, partitions: int = 1) -> list[tuple[int, Seen]]:
    """Numbered records in turns."""
    return [(number % partitions, a_record(number, size)) for number in range(first, first + count)]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("settings", [{}, {"pack": Codec.ZSTD, "segment_bytes": 200_000, "fetch_bytes": 100_000}])
async def test_everything_records_can_be(
    kafka: KafkaServer, tmp_path: Path, topic: str, settings: dict[str, Any]
) -> None:
    """Of the whole corpus nothing is missing, changed, or there twice, whatever the sizes of segments and answers."""
    names = await asyncio.to_thread(fill, kafka, topic, partitions=40)
    result = await a_run(kafka, LocalStore(tmp_path), *names, **settings)
    assert result.complete, result
    wanted = await asyncio.to_thread(seen, kafka, names)
    assert await what_is_held(LocalStore(tmp_path)) == wanted
    await asyncio.to_thread(delete_topic, kafka, *names)


async def test_runs_go_on(kafka: KafkaServer, topic: str) -> None:
    """Each run takes what came since the last, and none takes anything twice; one without news adds no segment."""
    kafka.create_topic(topic, 2)
    store = MemoryStore()
    for count in (0, 100, 1, 0, 50):
        produce(kafka, topic, some(0, count, partitions=2))
        result = await a_run(kafka, store, topic)
        assert (result.complete, result.records) == (True, count)
        assert bool(result.segments) == bool(count)
    assert await what_is_held(store) == seen(kafka, [topic])
    backup = await BackupSet.open(store, SystemClock())
    assert (len(backup.snapshots), len(backup.completed)) == (5, 5)
    assert sum(run.records for run in backup.completed.values()) == 151


async def test_the_snapshot_comes_first(kafka: KafkaServer, topic: str) -> None:
    """Topics with their settings, groups with their offsets and the cut are durable before any data."""
    kafka.create_topic(topic, 2, retention_ms="77777777777777")
    produce(kafka, topic, some(0, 20, partitions=2))
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": f"of-{topic}", "log_level": 0})
    consumer.commit(offsets=[TopicPartition(topic, 1, 7, "a note")], asynchronous=False)
    consumer.close()
    store = MemoryStore()
    result = await a_run(kafka, store, topic)
    backup = await BackupSet.open(store, SystemClock())
    snapshot = await backup.snapshot()
    [found] = snapshot.topics
    assert (found.name, found.replication_factor, found.configs) == (topic, 1, {"retention.ms": "77777777777777"})
    assert [tuple(part) for part in found.partitions] == [(0, 0, 0, 10, 10), (1, 0, 0, 10, 10)]
    assert snapshot.run == result.run
    assert (snapshot.mode, snapshot.bootstrap) == ("full", kafka.bootstrap)
    [group] = [group for group in snapshot.groups if group.name == f"of-{topic}"]
    assert [tuple(offset)[:4] for offset in group.offsets] == [(topic, 1, 7, "a note")]
    kinds = [type(entry) for record in backup.records for entry in record.entries]
    assert kinds[0] is SnapshotEntry
    assert kinds[-1] is CompleteEntry
    await a_run(kafka, store, topic)
    assert (await (await BackupSet.open(store, SystemClock())).snapshot()).mode == "incremental"


async def test_an_open_transaction(kafka: KafkaServer, topic: str) -> None:
    """The cut is the last stable offset: what an open transaction holds back is seen, and comes in the next run."""
    kafka.create_topic(topic)
    produce(kafka, topic, some(0, 10))
    producer = kafka.producer(transactional_id=topic)
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(topic, b"in", b"it", 0)
    producer.flush(60)
    produce(kafka, topic, some(10, 5))
    store, figures = MemoryStore(), Silent()
    assert (await a_run(kafka, store, topic, figures=figures)).records == 10
    assert figures.of("unstable")[0] == [Place(topic, 0), 6]
    producer.commit_transaction(60)
    kafka.settle(topic)
    assert (await a_run(kafka, store, topic)).complete
    assert await what_is_held(store) == seen(kafka, [topic])


async def test_offsets_that_were_gone(kafka: KafkaServer, topic: str) -> None:
    """What was deleted between two runs is a gap with its bounds, also where the first run found nothing."""
    kafka.create_topic(topic, 2)
    produce(kafka, topic, [(0, a_record(number)) for number in range(10)])
    store, figures = MemoryStore(), Silent()
    assert (await a_run(kafka, store, topic)).gaps == []
    produce(kafka, topic, some(0, 40, partitions=2))
    delete_records(kafka.admin(), topic, {0: 25, 1: 20})
    result = await a_run(kafka, store, topic, figures=figures)
    assert [(gap.partition, gap.start, gap.end, gap.reason) for gap in result.gaps] == [
        (0, 10, 25, "log_start"),
        (1, 0, 20, "log_start"),
    ]
    assert result.complete
    assert len(figures.of("gap")) == 2
    assert figures.of("skipped") == [[Place(topic, 0), 15], [Place(topic, 1), 20]]
    first = await partition_of(store, topic)
    assert (first.checkpoint, [gap.end for gap in first.gaps]) == (30, [25])
    assert (await partition_of(store, topic, 1)).checkpoint == 20


async def test_what_was_gone_before_is_no_gap(kafka: KafkaServer, topic: str) -> None:
    """A first run begins where the log does."""
    kafka.create_topic(topic)
    produce(kafka, topic, some(0, 10))
    delete_records(kafka.admin(), topic, {0: 4})
    store = MemoryStore()
    assert (await a_run(kafka, store, topic)).gaps == []
    assert (await partition_of(store, topic)).start == 4


async def test_a_topic_made_again(kafka: KafkaServer, topic: str) -> None:
    """A topic of the same name with another id begins anew, at its own offsets; the old one stays."""
    store = MemoryStore()
    for count in (30, 10):
        kafka.create_topic(topic)
        produce(kafka, topic, some(count, count))
        result = await a_run(kafka, store, topic)
        assert result.complete
        wanted = seen(kafka, [topic])
        delete_topic(kafka, topic)
    assert result.new_incarnations == [topic]
    assert result.records == 10
    assert await what_is_held(store) == wanted
    backup = await BackupSet.open(store, SystemClock())
    assert [held.checkpoint for held in backup.held.values()] == [30, 10]


async def test_a_log_that_ends_before_its_checkpoint(kafka: KafkaServer, topic: str) -> None:
    """Where a log has lost records that were backed up its partition stops, with words, and the others go on."""
    kafka.create_topic(topic, 2)
    produce(kafka, topic, some(0, 20, partitions=2))
    store = MemoryStore()
    await a_run(kafka, store, topic)
    produce(kafka, topic, some(20, 10, partitions=2))
    await pretend_more(store, topic)
    figures = Silent()
    result = await a_run(kafka, store, topic, figures=figures)
    assert not result.complete
    assert list(result.unfinished) == [Place(topic, 0)]
    assert "was backed up to 1000" in result.unfinished[Place(topic, 0)]
    assert result.records == 5
    assert figures.of("finished") == [["failure"]]
    assert not (await BackupSet.open(store, SystemClock())).completed.get(result.run)


@pytest.mark.parametrize("start", ["latest", "specific"])
async def test_where_to_start(kafka: KafkaServer, topic: str, start: str) -> None:
    """A first run may begin at the end or at given offsets; later runs go on there, and lose nothing."""
    kafka.create_topic(topic)
    produce(kafka, topic, some(0, 10), batch_num_messages=1)
    store = MemoryStore()
    wanted = {Place(topic, 0): 6} if start == "specific" else "latest"
    result = await a_run(kafka, store, topic, start=wanted)
    assert (result.records, result.gaps) == (4 if start == "specific" else 0, [])
    produce(kafka, topic, some(10, 5))
    assert (await a_run(kafka, store, topic, start=wanted)).records == 5
    first = 6 if start == "specific" else 10
    assert [offset for offset, _ in (await what_is_held(store))[topic, 0]] == list(range(first, 15))


async def test_selection(kafka: KafkaServer, topic: str) -> None:
    """Globs and expressions choose topics; a name that is not there, and nothing left at all, are errors."""
    for suffix in ("a", "b", "c"):
        kafka.create_topic(f"{topic}-{suffix}")
    store = MemoryStore()
    assert (await a_run(kafka, store, f"~^{topic}-[ab]$")).topics == 2
    backup = await BackupSet.open(store, SystemClock())
    assert {place.topic for place in backup.held} == {f"{topic}-a", f"{topic}-b"}
    with pytest.raises(NoSuchTopic, match="no-such-topic"):
        await a_run(kafka, MemoryStore(), f"{topic}-*", "no-such-topic")
    with pytest.raises(NoSuchTopic, match="none is left"):
        await a_run(kafka, MemoryStore(), f"{topic}-x*")
    with pytest.raises(ConfigError, match="not a regular expression"):
        await a_run(kafka, MemoryStore(), "~(")


async def test_large_messages(kafka: KafkaServer, topic: str) -> None:
    """A batch of 10 MB passes, beside small ones in other partitions, through requests for 64 KiB."""
    kafka.create_topic(topic, 3, max_message_bytes=str(11 * MIB))
    large = [(number % 3, a_record(number, 10_000_000 if number < 6 else 100)) for number in range(30)]
    produce(kafka, topic, large, message_max_bytes=11 * MIB)
    store = MemoryStore()
    result = await a_run(kafka, store, topic, fetch_bytes=64 << 10, memory_bytes=8 * MIB, segment_bytes=1 * MIB)
    assert result.complete, result
    found = await what_is_held(store)
    assert [len(found[topic, number]) for number in range(3)] == [10, 10, 10]
    assert len(found[topic, 0][0][1].value or b"") > 10_000_000


async def test_a_run_that_is_stopped(kafka: KafkaServer, topic: str) -> None:
    """A run that is told to stop commits what it has, says that it is not complete, and the next goes on there."""
    kafka.create_topic(topic)
    produce(kafka, topic, some(0, 3000, 1000), batch_num_messages=10)
    store, stop = MemoryStore(), asyncio.Event()

    class Stopping(Silent):
        def __getattr__(self, name: str) -> object:
            if name == "lag":
                stop.set()
            return super().__getattr__(name)

    first = await a_run(kafka, store, topic, stop=stop, figures=Stopping(), fetch_bytes=64 << 10)
    assert first.interrupted
    assert 0 < first.records < 3000
    second = await a_run(kafka, store, topic)
    assert (second.complete, first.records + second.records) == (True, 3000)
    assert await what_is_held(store) == seen(kafka, [topic])


async def test_segments_are_closed(kafka: KafkaServer, topic: str) -> None:
    """By bytes, by records, or by age; and a segment's batches are byte for byte what the broker has."""
    kafka.create_topic(topic)
    produce(kafka, topic, some(0, 2000, 500), batch_num_messages=20)
    cases: tuple[tuple[dict[str, Any], int], ...] = (
        ({"segment_bytes": 100_000}, 8),
        ({"segment_records": 200}, 9),
        ({"segment_seconds": 1e-9, "fetch_bytes": 64 << 10}, 5),
    )
    for settings, least in cases:
        store = MemoryStore()
        result = await a_run(kafka, store, topic, **settings)
        assert (result.complete, result.segments >= least) == (True, True)
        assert await what_is_held(store) == seen(kafka, [topic])


async def test_figures(kafka: KafkaServer, topic: str) -> None:
    """Target, remaining and lag end where they should, and what is reported as committed is what is held."""
    kafka.create_topic(topic)
    produce(kafka, topic, some(0, 100))
    store, figures = MemoryStore(), Silent()
    result = await a_run(kafka, store, topic, figures=figures)
    place = Place(topic, 0)
    assert figures.of("targeted") == [[place, 100]]
    assert figures.of("remaining")[-1] == [place, 0]
    assert figures.of("lag")[-1] == [place, 0]
    assert sum(stored.entry.records for [segments] in figures.of("committed") for stored in segments) == 100
    assert figures.of("finished") == [["success"]]
    backup = await BackupSet.open(store, SystemClock())
    [entry] = (await partition_of(store, topic)).segments
    index, data = await backup.segment(entry)
    assert sum(batch.header.record_count for batch in batches(index, data, "segment")) == 100
    assert (result.bytes, entry.min_timestamp) == (entry.uncompressed, a_record(0).timestamp)
    wire = await a_run(kafka, MemoryStore(), topic, exact=False)
    assert wire.bytes == entry.raw


def delete_records(admin: AdminClient, topic: str, before: dict[int, int]) -> None:
    """Let the log begin later."""
    asked = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
    for future in admin.delete_records(asked).values():
        future.result(60)


async def pretend_more(store: MemoryStore, topic: str) -> None:
    """Let partition 0 be backed up to offset 1000, which its log never had: to the run the log has lost records."""
    from tallykeep.systems.kafka.chain import Chain
    from tallykeep.systems.kafka.manifest import GapEntry

    chain = await Chain.open(store, SystemClock())
    await chain.take_over()
    backup = await BackupSet.open(store, SystemClock())
    topic_id = backup.newest_incarnation(topic)
    await chain.append([GapEntry(topic, topic_id, 0, (await partition_of(store, topic)).checkpoint, 1000, "log_start")])
