"""Defects of the tool that leads today, as far as they concern backups: a tool with the defect fails the test.

The numbers are those of the list that the tests of restores go on with.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from confluent_kafka import Producer
from tests.fault.test_kafka_backup_kill import more, start
from tests.support.kafka import KafkaServer
from tests.support.kafka_corpus import Seen, a_record, produce, seen
from tests.support.kafka_holding import a_run, partition_of, what_is_held
from tests.support.kafka_live import Silent, delete_topic
from tests.support.stores import Wrapped

from tallykeep.clock import SystemClock
from tallykeep.errors import IntegrityError, Unavailable
from tallykeep.storage.local import LocalStore
from tallykeep.storage.memory import MemoryStore
from tallykeep.systems.kafka.chain import Chain
from tallykeep.systems.kafka.committing import commit
from tallykeep.systems.kafka.held import Incarnation
from tallykeep.systems.kafka.manifest import FOLDER
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.segment import SegmentBuilder
from tallykeep.systems.kafka.steps import VARIABLE

pytestmark = pytest.mark.server


async def test_1_the_checkpoint_is_what_is_durable(kafka: KafkaServer, tmp_path: Path, topic: str) -> None:
    """1: records that were read and not yet stored when the process died are read again; nothing is skipped."""
    kafka.create_topic(topic, 3)
    more(kafka, topic, 0)
    with start(kafka, tmp_path, topic, **{VARIABLE: "sealed:3"}) as child:
        assert await asyncio.to_thread(child.wait, 120) == -signal.SIGKILL
    backup = await BackupSet.open(LocalStore(tmp_path), SystemClock())
    for held in backup.held.values():
        assert held.checkpoint == (held.segments[-1].end if held.segments else held.start)
    assert (await a_run(kafka, LocalStore(tmp_path), topic)).complete
    assert await what_is_held(LocalStore(tmp_path)) == seen(kafka, [topic])


class Unreadable(Wrapped):
    """Reads of the manifest fail."""

    async def before_read(self, key: str) -> None:
        if key.startswith(FOLDER):
            raise Unavailable("nothing answered")


async def test_2_an_unreadable_manifest_is_not_an_empty_one(kafka: KafkaServer, topic: str) -> None:
    """2: where the manifest cannot be read, or does not parse, the run ends; nothing of it is overwritten."""
    kafka.create_topic(topic)
    produce(kafka, topic, [(0, a_record(number)) for number in range(20)])
    store = MemoryStore()
    await a_run(kafka, store, topic)
    before = await objects(store)
    with pytest.raises(Unavailable):
        await a_run(kafka, Unreadable(store), topic)
    assert await objects(store) == before
    last = max(key for key in before if key.startswith(FOLDER))
    await store.replace(last, before[last][:-20])
    with pytest.raises(IntegrityError, match=last):
        await a_run(kafka, store, topic)
    assert await objects(store) == {**before, last: before[last][:-20]}


async def test_3_aborted_transactions_and_markers_are_known(kafka: KafkaServer, topic: str) -> None:
    """3: what was aborted, and what are markers, can be told in the backup: it holds what read_committed reads."""
    kafka.create_topic(topic)
    producer: Producer = kafka.producer(transactional_id=topic)
    producer.init_transactions(60)
    for number, end in enumerate((producer.abort_transaction, producer.commit_transaction) * 2):
        producer.begin_transaction()
        for _ in range(5):
            producer.produce(topic, b"%d" % number, partition=0)
        end(60)
    kafka.settle(topic)
    store = MemoryStore()
    await a_run(kafka, store, topic, segment_bytes=1)  # a segment for each batch: lists reach over segments
    found = await what_is_held(store)
    assert [record.value for _, record in found[topic, 0]] == [b"1"] * 5 + [b"3"] * 5
    assert found == seen(kafka, [topic])


async def test_4_and_5_headers_are_the_producers(kafka: KafkaServer, topic: str) -> None:
    """4, 5: headers that stand twice, are null or empty stay as they are, and none is added."""
    kafka.create_topic(topic)
    headers = (("h", b"1"), ("h", b"2"), ("n", None), ("e", b""), ("h", None), ("x", b"\xff\xfe"))
    produce(kafka, topic, [(0, Seen(1_700_000_000_000, b"k", b"v", headers))])
    store = MemoryStore()
    await a_run(kafka, store, topic)
    [(_, record)] = (await what_is_held(store))[topic, 0]
    assert record == Seen(1_700_000_000_000, b"k", b"v", headers)


async def test_6_timestamps_out_of_order(kafka: KafkaServer, topic: str) -> None:
    """6: a segment's times are its least and its greatest, not those of its first and its last record."""
    kafka.create_topic(topic)
    times = [1_700_000_005_000, 1_700_000_001_000, 1_700_000_009_000, 1_700_000_004_000]
    for codec in ("none", "zstd"):
        produce(kafka, topic, [(0, Seen(time, b"k", b"v" * 50, ())) for time in times], compression_type=codec)
    store = MemoryStore()
    await a_run(kafka, store, topic)
    [entry] = (await partition_of(store, topic)).segments
    assert (entry.min_timestamp, entry.max_timestamp) == (min(times), max(times))


class Producing(Silent):
    """More records come once the run has its cut."""

    def __init__(self, kafka: KafkaServer, topic: str) -> None:
        super().__init__()
        self._kafka, self._topic = kafka, topic

    def targeted(self, *_: object) -> None:
        produce(self._kafka, self._topic, [(0, a_record(number)) for number in range(1000, 1100)])


async def test_7_nothing_behind_the_cut(kafka: KafkaServer, topic: str) -> None:
    """7: what comes after the cut is not in the backup, although the broker sends it in the same answer."""
    kafka.create_topic(topic)
    produce(kafka, topic, [(0, a_record(number)) for number in range(50)])
    store = MemoryStore()
    result = await a_run(kafka, store, topic, figures=Producing(kafka, topic))
    assert (result.complete, result.records) == (True, 50)
    held = await partition_of(store, topic)
    assert (held.checkpoint, sum(entry.records for entry in held.segments)) == (50, 50)
    snapshot = await (await BackupSet.open(store, SystemClock())).snapshot()
    assert snapshot.topics[0].partitions[0].end == 50


async def test_8_a_topic_made_again(kafka: KafkaServer, topic: str) -> None:
    """8: fewer records than the checkpoint under the same name are not "no new data": the new topic is backed up."""
    store = MemoryStore()
    for count in (40, 3):
        kafka.create_topic(topic)
        produce(kafka, topic, [(0, a_record(count + number)) for number in range(count)])
        result = await a_run(kafka, store, topic)
        assert (result.complete, result.records) == (True, count)
        wanted = seen(kafka, [topic])
        delete_topic(kafka, topic)
    assert result.new_incarnations == [topic]
    assert await what_is_held(store) == wanted


async def test_9_latest_is_latest(kafka: KafkaServer, topic: str) -> None:
    """9: a backup that is to start at the end takes nothing that was there before."""
    kafka.create_topic(topic)
    produce(kafka, topic, [(0, a_record(number)) for number in range(50)])
    store = MemoryStore()
    assert (await a_run(kafka, store, topic, start="latest")).records == 0
    produce(kafka, topic, [(0, a_record(number)) for number in range(50, 60)])
    assert (await a_run(kafka, store, topic, start="latest")).records == 10
    assert [offset for offset, _ in (await what_is_held(store))[topic, 0]] == list(range(50, 60))


@pytest.mark.parametrize("start", [40, 60])
async def test_15_overlaps_and_holes_are_found(kafka: KafkaServer, topic: str, start: int) -> None:
    """15: segments that overlap, or leave offsets out, are found whenever the backup is opened, by a next run too."""
    kafka.create_topic(topic)
    produce(kafka, topic, [(0, a_record(number)) for number in range(50)])
    store = MemoryStore()
    await a_run(kafka, store, topic)
    topic_id = (await BackupSet.open(store, SystemClock())).newest_incarnation(topic)
    builder = SegmentBuilder(*Incarnation(topic, topic_id, 0), start)
    builder.vouch(70)
    chain = await Chain.open(store, SystemClock())
    await chain.take_over()
    await commit(store, chain, [builder.seal()])
    with pytest.raises(IntegrityError, match=f"up to offset 50, and goes on with {start}"):
        await BackupSet.open(store, SystemClock())
    with pytest.raises(IntegrityError, match="contradicts itself"):
        await a_run(kafka, store, topic)


async def test_16_nothing_is_overwritten(kafka: KafkaServer, tmp_path: Path, topic: str) -> None:
    """16: a run from another machine, without any local state, changes no object that is there and goes on behind."""
    kafka.create_topic(topic)
    store = LocalStore(tmp_path)
    produce(kafka, topic, [(0, a_record(number)) for number in range(50)])
    await a_run(kafka, store, topic)
    before = files(tmp_path)
    produce(kafka, topic, [(0, a_record(number)) for number in range(50, 120)])
    await a_run(kafka, store, topic)
    assert files(tmp_path).items() >= before.items()
    assert [(entry.start, entry.end) for entry in (await partition_of(store, topic)).segments] == [(0, 50), (50, 120)]


async def objects(store: MemoryStore) -> dict[str, bytes]:
    """All that is there."""
    keys = [info.key async for page in store.list() for info in page]
    return {key: await store.read(key) for key in keys}


def files(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Each file with its inode and content."""
    return {path: (path.stat().st_ino, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
