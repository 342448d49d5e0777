"""Backups while brokers, logs and the store misbehave: what can be had is had, once, and the rest is told."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from tests.integration.test_kafka_backup import delete_records
from tests.support.kafka import KafkaServer
from tests.support.kafka_backup import Died, Dying
from tests.support.kafka_corpus import a_record, produce, seen
from tests.support.kafka_holding import a_run, partition_of, what_is_held
from tests.support.kafka_live import Silent, client, delete_topic
from tests.support.stores import Wrapped

from tallykeep.clock import SystemClock
from tallykeep.errors import TallykeepError, Unavailable, Unreachable
from tallykeep.storage.content import Content
from tallykeep.storage.memory import MemoryStore
from tallykeep.storage.retry import RetryStore
from tallykeep.storage.store import Store
from tallykeep.systems.kafka.backup import back_up
from tallykeep.systems.kafka.backup_request import BackupRequest, BackupResult
from tallykeep.systems.kafka.brokers import Brokers
from tallykeep.systems.kafka.connection import Security
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.selecting import Selection
from tallykeep.systems.kafka.wire.fetch import API_KEY

pytestmark = [pytest.mark.chaos, pytest.mark.server]

SMALL: dict[str, Any] = {"fetch_bytes": 64 << 10, "segment_bytes": 60_000}


def a_topic(kafka: KafkaServer, topic: str, partitions: int = 2) -> None:
    """600 records of half a kilobyte in small batches."""
    kafka.create_topic(topic, partitions)
    many = [(number % partitions, a_record(number, 500)) for number in range(600)]
    produce(kafka, topic, many, batch_num_messages=10)


class Failing(Wrapped):
    """The `at`-th call of the store fails, and those after it until the run ends, or only that one."""

    def __init__(self, store: Store, at: int, *, on: bool) -> None:
        super().__init__(store)
        self.calls = 0
        self._at, self._on = at, on

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self._at or (self._on and self.calls > self._at):
            raise Unavailable("a fault was asked for")

    async def create(self, key: str, data: Content) -> None:
        self._count()
        await self.store.create(key, data)

    async def before_read(self, key: str) -> None:
        self._count()

    async def delete(self, key: str) -> None:
        self._count()
        await self.store.delete(key)


Breaking = Callable[[Store, int], Wrapped]
FAULTS: dict[str, Breaking] = {
    "an error": lambda store, at: Failing(store, at, on=False),
    "errors from then on": lambda store, at: Failing(store, at, on=True),
    "death before": lambda store, at: Dying(store, at, after=False),
    "death behind": lambda store, at: Dying(store, at, after=True),
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", FAULTS)
async def test_every_call_of_the_store(
    kafka: KafkaServer, topic: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens at whichever call, the next run completes the backup: 0 lost, 0 there twice."""
    monkeypatch.setattr("tallykeep.systems.kafka.recording.Backoff", lambda *_: NoWait())
    a_topic(kafka, topic)
    wanted = await asyncio.to_thread(seen, kafka, [topic])
    for at in range(1, 200, 1 if fault == "an error" else 2):
        inner = MemoryStore()
        store = FAULTS[fault](inner, at)
        with suppress(TallykeepError, Died):
            await a_run(kafka, store, topic, **SMALL)
        if getattr(store, "calls", 0) < at:
            break
        assert (await a_run(kafka, inner, topic, **SMALL)).complete
        assert await what_is_held(inner) == wanted, at
    assert at > 15


class NoWait:
    """Tries again at once."""

    def delay(self) -> float:
        return 0.0


async def test_lost_replies(kafka: KafkaServer, topic: str) -> None:
    """Each create of a backup is done and its reply lost, once: the run goes on, and nothing is there twice."""
    a_topic(kafka, topic)
    inner = MemoryStore()
    store = RetryStore(LosingOnce(inner), clock=SystemClock())
    assert (await a_run(kafka, store, topic, **SMALL)).complete
    assert await what_is_held(inner) == await asyncio.to_thread(seen, kafka, [topic])


class LosingOnce(Wrapped):
    """The reply to the first create of each key is lost."""

    async def create(self, key: str, data: Content) -> None:
        await self.store.create(key, data)
        raise Unavailable(f"{key}: the answer was lost", retry=0.001)


class Spoiling(Brokers):
    """Brokers whose answers to some Fetch requests are spoilt."""

    def __init__(self, spoil: Callable[[int, memoryview], memoryview]) -> None:
        super().__init__(Security())
        self.fetches = 0
        self._spoil = spoil

    async def request(
        self, address: tuple[str, int], lane: int, api_key: int, version: int,
        body: bytes | Sequence[bytes | memoryview], *, timeout: float = 60.0, check: Callable[[], None] | None = None,
    ) -> memoryview:  # fmt: skip
        answer = await super().request(address, lane, api_key, version, body, timeout=timeout, check=check)
        if api_key != API_KEY:
            return answer
        self.fetches += 1
        return self._spoil(self.fetches, answer)


async def spoilt_run(
    kafka: KafkaServer, store: Store, topic: str, spoil: Callable[[int, memoryview], memoryview], **settings: Any
) -> tuple[BackupResult, Silent]:
    """A run over spoilt answers."""
    request = BackupRequest(Selection((topic,)), **SMALL, **settings)
    brokers, figures = Spoiling(spoil), Silent()
    async with client(kafka) as (cluster, _):
        try:
            result = await back_up(request, cluster, brokers, store, SystemClock(), figures, asyncio.Event())
        finally:
            await brokers.close()
    return result, figures


def reset(number: int, answer: memoryview) -> memoryview:
    """The connection breaks, every third time."""
    if number % 3 == 2:
        raise Unreachable("reset in mid-response")
    return answer


def corrupt(number: int, answer: memoryview) -> memoryview:
    """A bit in the last batch of an answer changes, every second time."""
    if number % 2 == 0 and len(answer) > 5000:
        answer[-3] ^= 1
    return answer


def cut(number: int, answer: memoryview) -> memoryview:
    """An answer ends in its middle."""
    return answer[: len(answer) // 2] if number % 3 == 2 else answer


def moved(number: int, answer: memoryview) -> memoryview:
    """The first partition of an answer has another leader, every third time."""
    if number % 3 == 2:
        at = 10 + 4 + 2 + int.from_bytes(answer[14:16], "big") + 4 + 4
        struct.pack_into(">h", answer, at, 6)
    return answer


def throttled(number: int, answer: memoryview) -> memoryview:
    """A quota is exceeded: nothing comes but the wish to be left alone."""
    return memoryview(struct.pack(">ihii", 20, 0, 0, 0)) if number % 3 == 2 else answer


@pytest.mark.parametrize("spoil", [reset, corrupt, cut, moved, throttled])
async def test_answers_that_are_spoilt(
    kafka: KafkaServer, topic: str, spoil: Callable[[int, memoryview], memoryview]
) -> None:
    """What is spoilt is asked for again, and nothing is left out or taken twice."""
    a_topic(kafka, topic, 3)
    store = MemoryStore()
    result, figures = await spoilt_run(kafka, store, topic, spoil)
    assert result.complete, result
    assert await what_is_held(store) == seen(kafka, [topic])
    assert figures.of("retried") or spoil is throttled


async def test_what_never_comes_sound(kafka: KafkaServer, topic: str) -> None:
    """A partition that cannot be read is given up in time, with its reason; what came before it is kept."""
    a_topic(kafka, topic, 1)

    def always(number: int, answer: memoryview) -> memoryview:
        if number > 2 and len(answer) > 5000:
            answer[-3] ^= 1
        return answer

    store = MemoryStore()
    result, figures = await spoilt_run(kafka, store, topic, always, patience=0.5)
    assert list(result.unfinished) == [Place(topic, 0)]
    assert "CRC-32C" in result.unfinished[Place(topic, 0)]
    assert 0 < result.records < 600
    assert figures.of("finished") == [["failure"]]
    assert figures.of("failed")
    assert (await a_run(kafka, store, topic)).complete
    assert await what_is_held(store) == seen(kafka, [topic])


class Meanwhile(Silent):
    """Does something when the run has its cut, before it reads."""

    def __init__(self, what: Callable[[], None]) -> None:
        super().__init__()
        self._what = what

    def targeted(self, *values: object) -> None:
        self.calls.append(("targeted", *values))
        if len(self.of("targeted")) == 1:
            self._what()


async def run_while(kafka: KafkaServer, store: Store, topic: str, what: Callable[[], None]) -> BackupResult:
    """A run during which `what` happens."""
    return await a_run(kafka, store, topic, figures=Meanwhile(what), patience=2.0, **SMALL)


async def test_a_log_start_that_moves(kafka: KafkaServer, topic: str) -> None:
    """Offsets that are deleted while a run is on its way to them are a gap, and the run goes on behind it."""
    a_topic(kafka, topic, 1)
    store = MemoryStore()
    result = await run_while(kafka, store, topic, lambda: delete_records(kafka.admin(), topic, {0: 333}))
    assert (result.complete, [(gap.start, gap.end) for gap in result.gaps]) == (True, [(0, 333)])
    assert await what_is_held(store) == seen(kafka, [topic])
    assert (await partition_of(store, topic)).checkpoint == 600


async def test_a_log_that_is_emptied(kafka: KafkaServer, topic: str) -> None:
    """Where all of it is deleted, the gap reaches to the cut."""
    a_topic(kafka, topic, 1)
    store = MemoryStore()
    result = await run_while(kafka, store, topic, lambda: delete_records(kafka.admin(), topic, {0: 600}))
    assert (result.complete, [(gap.start, gap.end) for gap in result.gaps]) == (True, [(0, 600)])


async def test_a_topic_that_vanishes(kafka: KafkaServer, topic: str) -> None:
    """A topic that is deleted under a run is given up in time, and told."""
    a_topic(kafka, topic, 1)
    result = await run_while(kafka, MemoryStore(), topic, lambda: delete_topic(kafka, topic))
    assert not result.complete
    assert "not there any more" in result.unfinished[Place(topic, 0)]


async def test_a_topic_made_again_under_a_run(kafka: KafkaServer, topic: str) -> None:
    """Of a topic that is made again under a run, nothing is taken for the old one; the next run takes it as new."""
    a_topic(kafka, topic, 1)
    store = MemoryStore()

    def again() -> None:
        delete_topic(kafka, topic)
        kafka.create_topic(topic)
        produce(kafka, topic, [(0, a_record(number, 700)) for number in range(5000, 5900)], batch_num_messages=10)

    result = await run_while(kafka, store, topic, again)
    assert "made again" in result.unfinished[Place(topic, 0)]
    assert (await partition_of(store, topic)).segments == []
    second = await a_run(kafka, store, topic)
    assert (second.complete, second.new_incarnations) == (True, [topic])
    assert await what_is_held(store) == seen(kafka, [topic])


async def test_two_runs_in_one_process(kafka: KafkaServer, topic: str) -> None:
    """Runs that begin at the same moment: one completes, others complete or are fenced, and the backup is whole."""
    a_topic(kafka, topic)
    store = MemoryStore()
    ended = await asyncio.gather(*(a_run(kafka, store, topic, **SMALL) for _ in range(3)), return_exceptions=True)
    assert any(isinstance(each, BackupResult) for each in ended)
    assert all(isinstance(each, BackupResult) or getattr(each, "code", "") == "fenced" for each in ended), ended
    assert (await a_run(kafka, store, topic, **SMALL)).complete
    assert await what_is_held(store) == seen(kafka, [topic])
