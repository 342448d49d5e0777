"""Logs that lose records which were backed up, as an unclean leader election loses them, and grow again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fault.test_kafka_backup_faults import Meanwhile
from tests.integration.test_kafka_backup import delete_records
from tests.support.kafka import KafkaServer, running
from tests.support.kafka_corpus import a_record, produce, seen
from tests.support.kafka_holding import a_run, partition_of, what_is_held
from tests.support.kafka_live import Silent

from tallykeep.storage.memory import MemoryStore
from tallykeep.systems.kafka.held import Tail
from tallykeep.systems.kafka.histories import Diverged
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.wire import walk

pytestmark = [pytest.mark.chaos, pytest.mark.server, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker that is killed."""
    with running(tmp_path_factory.mktemp("truncated")) as server:
        yield server


def more(kafka: KafkaServer, topic: str, first: int, count: int) -> None:
    """Records of half a kilobyte in small batches, to two partitions in turns."""
    many = [(number % 2, a_record(number, 500)) for number in range(first, first + count)]
    produce(kafka, topic, many, batch_num_messages=10)


def lose(kafka: KafkaServer, topic: str, partition: int, end: int) -> None:
    """Kill the broker, let the log of a partition end at about `end`, and start it: a new leader's term begins."""
    kafka.kill()
    file = kafka.folder / f"data/{topic}-{partition}/00000000000000000000.log"
    _cut(file, end)
    kafka.start()


def _cut(file: Path, end: int) -> None:
    data = file.read_bytes()
    kept = sum(batch.header.size for batch in walk(memoryview(data)) if batch.header.last_offset < end)
    assert 0 < kept < len(data)
    file.write_bytes(data[:kept])


async def test_a_log_that_was_cut_and_has_grown_past_the_checkpoint(own: KafkaServer, topic: str) -> None:
    """Its partition stops with Diverged and is left as it was; others go on, and so it is told at each later run."""
    own.create_topic(topic, 2)
    more(own, topic, 0, 400)
    store = MemoryStore()
    assert (await a_run(own, store, topic)).complete
    before = await what_is_held(store)
    lose(own, topic, 0, 120)
    more(own, topic, 5000, 400)
    for _ in range(2):
        figures = Silent()
        result = await a_run(own, store, topic, figures=figures)
        assert list(result.unfinished) == [Place(topic, 0)]
        assert "has lost records" in result.unfinished[Place(topic, 0)]
        assert isinstance(figures.of("failed")[0][0], Diverged)
    held = await what_is_held(store)
    assert held[topic, 0] == before[topic, 0]
    assert held[topic, 1] == (await asyncio.to_thread(seen, own, [topic]))[topic, 1]
    assert (await partition_of(store, topic, 1)).checkpoint == 400


async def test_a_log_that_is_cut_under_a_run(own: KafkaServer, topic: str) -> None:
    """The same while a run is about to read on: who leads a partition is asked anew, and what was read is kept."""
    own.create_topic(topic, 2)
    more(own, topic, 0, 400)
    store = MemoryStore()
    assert (await a_run(own, store, topic)).complete
    before = await what_is_held(store)
    more(own, topic, 1000, 40)

    def meanwhile() -> None:
        lose(own, topic, 0, 120)
        more(own, topic, 5000, 400)

    result = await a_run(own, store, topic, figures=Meanwhile(meanwhile), patience=30.0)
    assert list(result.unfinished) == [Place(topic, 0)]
    assert "has lost records" in result.unfinished[Place(topic, 0)]
    held = await what_is_held(store)
    assert held[topic, 0] == before[topic, 0]
    assert (await partition_of(store, topic, 1)).checkpoint == 220


async def test_terms_that_lose_nothing(own: KafkaServer, topic: str) -> None:
    """A leader's term that ends without a loss is no reason to stop, nor are records deleted since, nor all of them."""
    own.create_topic(topic, 2)
    more(own, topic, 0, 200)
    store = MemoryStore()
    assert (await a_run(own, store, topic)).complete
    own.stop()
    own.start()
    more(own, topic, 1000, 100)
    assert (await a_run(own, store, topic)).complete
    first = (await partition_of(store, topic)).tail
    own.kill()
    own.start()
    assert (await a_run(own, store, topic)).complete
    more(own, topic, 2000, 100)
    assert (await a_run(own, store, topic)).complete
    last = (await partition_of(store, topic)).tail
    assert isinstance(first, Tail)
    assert isinstance(last, Tail)
    assert (first.end, last.end) == (150, 200)
    assert first.epoch < last.epoch
    assert await what_is_held(store) == await asyncio.to_thread(seen, own, [topic])
    delete_records(own.admin(), topic, {0: 200, 1: 150})
    assert (await a_run(own, store, topic)).complete
    more(own, topic, 3000, 100)
    third = await a_run(own, store, topic)
    assert (third.complete, third.records, third.gaps) == (True, 100, [])
