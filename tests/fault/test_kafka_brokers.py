"""Connections to brokers over a bad network: what is lost is told, and the next request gets a new connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.kafka import KafkaServer
from tests.support.kafka_broker import Fault, FaultyBroker, How, Through
from tests.support.kafka_corpus import a_record, produce, seen
from tests.support.kafka_holding import what_is_held
from tests.support.kafka_live import Silent, client

from tallykeep.clock import SystemClock
from tallykeep.errors import Unreachable
from tallykeep.storage.memory import MemoryStore
from tallykeep.systems.kafka.backup import back_up
from tallykeep.systems.kafka.backup_request import BackupRequest
from tallykeep.systems.kafka.brokers import Address
from tallykeep.systems.kafka.preflight import plan_restore
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.restore import restore
from tallykeep.systems.kafka.restore_plan import RestoreRequest
from tallykeep.systems.kafka.selecting import Selection
from tallykeep.systems.kafka.wire import fetch, producer_id
from tallykeep.systems.kafka.wire import produce as producing

pytestmark = [pytest.mark.chaos, pytest.mark.server]
FETCH, PRODUCE, ID = fetch.API_KEY, producing.API_KEY, producer_id.API_KEY
NOWHERE: Address = ("nowhere", 0)


def address(kafka: KafkaServer) -> Address:
    host, _, port = kafka.bootstrap.partition(":")
    return host, int(port)


@asynccontextmanager
async def through(kafka: KafkaServer, *faults: Fault) -> AsyncIterator[tuple[FaultyBroker, Through]]:
    """The broker with faults, and a way to it."""
    async with FaultyBroker(address(kafka), faults) as broker:
        brokers = Through(broker)
        try:
            yield broker, brokers
        finally:
            await brokers.close()
            await asyncio.sleep(0.05)  # the loop lets go of closed sockets in its next rounds


async def an_id(brokers: Through, lane: int = 0) -> int:
    """A request that any broker answers."""
    answer = await brokers.request(NOWHERE, lane, ID, producer_id.VERSION, producer_id.producer_id_request())
    found = producer_id.producer_id_response(answer)
    return 0 if found.error else found.producer_id + 1


@pytest.mark.parametrize("how", ["reset", "cut", "hang", "lose"])
async def test_a_lost_answer(kafka: KafkaServer, how: How) -> None:
    """Unreachable for each request under way on that connection; other lanes notice nothing; a new one follows."""
    async with through(kafka, Fault(how, ID, at=3)) as (broker, brokers):
        await an_id(brokers, 0)
        await an_id(brokers, 1)
        brokers.answer_within = 1.0 if how == "hang" else 0.0
        lost = await asyncio.gather(an_id(brokers), an_id(brokers), return_exceptions=True)
        brokers.answer_within = 0.0
        assert [type(each) for each in lost] == [Unreachable, Unreachable]
        await an_id(brokers, 1)
        assert broker.connections == 2
        await an_id(brokers, 0)
        assert (broker.connections, broker.struck) == (3, 1)


async def test_requests_keep_their_order(kafka: KafkaServer) -> None:
    """Also those made before the connection is open: they arrive in the order in which they were made."""
    async with through(kafka) as (broker, brokers):
        bodies = [fetch.fetch_request({"none": [(n, 0)]}, max_bytes=1, partition_max_bytes=1) for n in range(50)]
        asked = [brokers.request(NOWHERE, 0, FETCH, fetch.VERSION, body) for body in bodies]
        answers = await asyncio.gather(*asked)
        assert [body for key, body in broker.asked if key == FETCH] == bodies
        assert [fetch.fetch_response(each).partitions[0].partition for each in answers] == list(range(50))
        assert broker.connections == 1


async def test_a_caller_that_leaves(kafka: KafkaServer) -> None:
    """Its connection is closed, as its answer would come in another's place; who asks next has a new one."""
    async with through(kafka, Fault("hang", ID)) as (broker, brokers):
        asked = asyncio.create_task(an_id(brokers))
        await broker.until_struck()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await an_id(brokers)
        assert broker.connections == 2


async def test_closing_ends_what_is_under_way(kafka: KafkaServer) -> None:
    """Whoever waits gets Unreachable, and nobody waits for ever."""
    async with through(kafka, Fault("hang", ID)) as (broker, brokers):
        asked = asyncio.create_task(an_id(brokers))
        await broker.until_struck()
        await brokers.close()
        with pytest.raises(Unreachable):
            await asyncio.wait_for(asked, 30)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["reset", "cut", "flip", "trickle", "lose"])
async def test_a_backup_over_a_bad_network(kafka: KafkaServer, topic: str, how: How) -> None:
    """Some answers to Fetch are spoilt: the backup holds each record once and is complete."""
    kafka.create_topic(topic, 2)
    produce(kafka, topic, [(n % 2, a_record(n, 500)) for n in range(600)], batch_num_messages=10)
    store, faults = MemoryStore(), [Fault(how, FETCH, at) for at in (1, 3, 6)]
    request = BackupRequest(topics=Selection(include=(topic,)), fetch_bytes=64 << 10, segment_bytes=60_000)
    async with client(kafka) as (cluster, _), through(kafka, *faults) as (broker, brokers):
        result = await back_up(request, cluster, brokers, store, SystemClock(), Silent(), asyncio.Event())
        assert result.complete
        assert broker.struck >= 2
    assert await what_is_held(store) == await asyncio.to_thread(seen, kafka, [topic])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["reset", "cut", "trickle", "lose"])
async def test_a_restore_over_a_bad_network(kafka: KafkaServer, topic: str, tmp_path: Path, how: How) -> None:
    """Answers to Produce are lost, or requests: every record is there once, and in its order."""
    kafka.create_topic(topic, 2)
    produce(kafka, topic, [(n % 2, a_record(n, 500)) for n in range(600)], batch_num_messages=10)
    store, faults = MemoryStore(), [Fault(how, PRODUCE, at) for at in (1, 4, 7)]
    request = BackupRequest(topics=Selection(include=(topic,)))
    async with client(kafka) as (cluster, brokers):
        await back_up(request, cluster, brokers, store, SystemClock(), Silent(), asyncio.Event())
    backup = await BackupSet.open(store, SystemClock())
    wanted = RestoreRequest(tmp_path, topic_mapping={topic: f"{topic}-new"})
    async with client(kafka) as (cluster, _), through(kafka, *faults) as (broker, through_it):
        plan = await plan_restore(wanted, backup, cluster)
        result = await restore(plan, cluster, through_it, SystemClock(), Silent(), asyncio.Event())
        assert (result.records, result.verified) == (600, 600)
        assert broker.struck
    old, new = await asyncio.to_thread(seen, kafka, [topic]), await asyncio.to_thread(seen, kafka, [f"{topic}-new"])
    assert [records for _, records in sorted(new.items())] == [records for _, records in sorted(old.items())]
