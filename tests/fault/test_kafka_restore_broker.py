"""A broker that dies, or hangs, while it is restored to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.kafka import KafkaServer, running
from tests.support.kafka_corpus import a_record, produce, seen
from tests.support.kafka_live import Silent, backed_up, client, delete_topic

from tallykeep.clock import SystemClock
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.memory import MemoryStore
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.preflight import plan_restore
from tallykeep.systems.kafka.restore import restore
from tallykeep.systems.kafka.restore_plan import RestoreRequest

pytestmark = [pytest.mark.chaos, pytest.mark.server]


class Telling(Silent):
    """Says when a part of the records is there."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.part = asyncio.Event()
        self._left = after

    def restored(self, place: Place, records: int, size: int) -> None:
        self._left -= records
        if self._left <= 0:
            self.part.set()


def die(kafka: KafkaServer) -> None:
    kafka.kill()
    kafka.start()


def hang(kafka: KafkaServer) -> None:
    kafka.freeze()
    time.sleep(9)  # longer than a request waits
    kafka.thaw()


@pytest.mark.parametrize("trouble", [die, hang])
async def test_a_broker_in_trouble(tmp_path: Path, topic: str, trouble: Callable[[KafkaServer], None]) -> None:
    """Killed and started again, or frozen for longer than a request waits: the restore goes on, 0 lost, 0 twice."""
    (tmp_path / "server").mkdir()
    with running(tmp_path / "server") as kafka:
        kafka.create_topic(topic, 4)
        many = [(number % 4, a_record(number, 2000)) for number in range(20_000)]
        produce(kafka, topic, many, batch_num_messages=8, linger_ms=5)
        before = seen(kafka, [topic])
        backup = await backed_up(kafka, MemoryStore(), topic)
        delete_topic(kafka, topic)
        figures = Telling(3000)
        async with client(kafka) as (cluster, brokers):
            plan = await plan_restore(RestoreRequest(tmp_path / "state", produce_timeout=2.0), backup, cluster)
            clock, stop = SystemClock(), asyncio.Event()
            work = asyncio.create_task(restore(plan, cluster, brokers, clock, figures, stop))
            await figures.part.wait()
            await in_thread(trouble, kafka)
            result = await work
        assert result.records == result.verified == 20_000
        assert figures.of("retried")
        assert seen(kafka, [topic]) == before
