"""A broker that dies, or hangs, while it is restored to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
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


class Troubling(Silent):
    """Does something to the broker as soon as a part of the records is there, and says so."""

    def __init__(self, after: int, trouble: Callable[[], None]) -> None:
        super().__init__()
        self.begun, self.noticed = asyncio.Event(), asyncio.Event()
        self._left, self._trouble = after, trouble

    def restored(self, place: Place, records: int, size: int) -> None:
        self._left -= records
        if self._left <= 0 and not self.begun.is_set():
            self._trouble()
            self.begun.set()

    def retried(self, *values: object) -> None:
        self.calls.append(("retried", *values))
        self.noticed.set()


async def die(kafka: KafkaServer, figures: Troubling) -> None:
    await figures.begun.wait()
    await in_thread(kafka.start)


async def hang(kafka: KafkaServer, figures: Troubling) -> None:
    await figures.noticed.wait()  # longer than a request waits
    kafka.thaw()


@pytest.mark.parametrize("trouble", [die, hang])
async def test_a_broker_in_trouble(
    tmp_path: Path, topic: str, trouble: Callable[[KafkaServer, Troubling], Awaitable[None]]
) -> None:
    """Killed and started again, or frozen for longer than a request waits: the restore goes on, 0 lost, 0 twice."""
    (tmp_path / "server").mkdir()
    with running(tmp_path / "server") as kafka:
        kafka.create_topic(topic, 4)
        many = [(number % 4, a_record(number, 2000)) for number in range(20_000)]
        produce(kafka, topic, many, batch_num_messages=8, linger_ms=5)
        before = seen(kafka, [topic])
        backup = await backed_up(kafka, MemoryStore(), topic)
        delete_topic(kafka, topic)
        figures = Troubling(3000, kafka.kill if trouble is die else kafka.freeze)
        async with client(kafka) as (cluster, brokers):
            plan = await plan_restore(RestoreRequest(tmp_path / "state", produce_timeout=2.0), backup, cluster)
            clock, stop = SystemClock(), asyncio.Event()
            work = asyncio.create_task(restore(plan, cluster, brokers, clock, figures, stop))
            async with asyncio.timeout(120):
                await trouble(kafka, figures)
            result = await work
        assert result.records == result.verified == 20_000
        assert figures.of("retried")
        assert seen(kafka, [topic]) == before
