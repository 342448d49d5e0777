"""Sending under faults: brokers that refuse, lose answers, close connections and hand partitions over."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from tests.support.kafka_backup import a_batch

from tallykeep.clock import SystemClock
from tallykeep.errors import RestoreError, SourceError, Unreachable
from tallykeep.systems.kafka import replies
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.producing import UNDER_WAY, Address, Producing
from tallykeep.systems.kafka.restoring.outgoing import Outgoing, Stint, outgoing
from tallykeep.systems.kafka.wire import only

PLACES = [Place("t", number) for number in range(3)]
STINT = Stint(10, 7, 0)


@dataclass
class Cluster:
    """Two brokers that keep logs by the rules for idempotent producers, and fail as the dice say."""

    dice: random.Random
    faults: float = 0.0  # probability of one at a request, or at a batch
    logs: dict[Place, list[bytes]] = field(default_factory=lambda: {place: [] for place in PLACES})
    leaders: dict[Place, int] = field(default_factory=lambda: dict.fromkeys(PLACES, 0))
    errors: dict[Place, list[int]] = field(default_factory=dict)  # codes to answer with, once each
    forgotten: dict[Place, int] = field(default_factory=dict)  # batches of whose producer nothing is known any more
    connections: list[int] = field(default_factory=lambda: [0, 0])
    under_way: int = 0
    most: int = 0

    async def leader(self, place: Place, *, again: bool = False) -> Address:
        await asyncio.sleep(0)
        return ("broker", self.leaders[place])

    async def position(self, place: Place) -> int:
        await asyncio.sleep(0)
        if self.dice.random() < self.faults:
            raise Unreachable("nobody knows")
        return STINT.start + sum(only(data).header.record_count for data in self.logs[place])

    async def request(
        self, address: Address, lane: int, api_key: int, version: int, body: bytes | Sequence[bytes | memoryview],
        *, timeout: float, check: Callable[[], None] | None = None,
    ) -> memoryview:  # fmt: skip
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            connection = self.connections[address[1]]
            await asyncio.sleep(0)
            if connection != self.connections[address[1]]:
                raise Unreachable("an earlier one has broken the connection")
            if check:
                check()
            return self._answer(address[1], body if isinstance(body, bytes) else b"".join(body))
        finally:
            self.under_way -= 1

    def _break(self, broker: int) -> None:
        """What is under way is lost; a broker that starts again has forgotten who wrote."""
        self.connections[broker] += 1
        if self.dice.random() < 0.5:
            self.forgotten |= {place: len(self.logs[place]) for place in PLACES if self.leaders[place] == broker}

    def _answer(self, broker: int, body: bytes) -> memoryview:
        if self.dice.random() < self.faults:
            self._break(broker)
            raise Unreachable("before it arrived")
        out = []
        for place, data in parsed(body):
            if self.dice.random() < self.faults and len(self.logs[place]) > self.forgotten.get(place, 0):
                self.leaders[place] ^= 1
            out.append((place, *self._append(broker, place, data)))
        if self.dice.random() < self.faults:
            self._break(broker)
            raise Unreachable("the answer was lost")
        return answered(out)

    def _append(self, broker: int, place: Place, data: bytes) -> tuple[int, int]:
        """Error and base offset."""
        if self.leaders[place] != broker:
            return replies.NOT_LEADER, -1
        if planned := self.errors.get(place):
            return planned.pop(0), -1
        log, sequence = self.logs[place], only(data).header.base_sequence
        known = {only(old).header.base_sequence for old in log[self.forgotten.get(place, 0) :]}
        if sequence in sorted(known)[-5:]:
            return 0, STINT.start + sequence
        if known and sequence != sum(only(old).header.record_count for old in log):
            return (replies.DUPLICATE_SEQUENCE if sequence in known else replies.OUT_OF_ORDER_SEQUENCE), -1
        log.append(data)
        return 0, STINT.start + sum(only(old).header.record_count for old in log[:-1])


def parsed(body: bytes) -> list[tuple[Place, bytes]]:
    """The batches of a Produce request."""
    assert body[:2] == b"\xff\xff"
    (topics,), at, found = struct.unpack_from(">i", body, 8), 12, []
    for _ in range(topics):
        (size,) = struct.unpack_from(">h", body, at)
        topic = body[at + 2 : at + 2 + size].decode()
        (partitions,), at = struct.unpack_from(">i", body, at + 2 + size), at + 6 + size
        for _ in range(partitions):
            number, size = struct.unpack_from(">ii", body, at)
            found.append((Place(topic, number), body[at + 8 : at + 8 + size]))
            at += 8 + size
    return found


def answered(results: Sequence[tuple[Place, int, int]]) -> memoryview:
    """A Produce response."""
    out = struct.pack(">ih", 1, 1) + b"t" + struct.pack(">i", len(results))
    for place, error, base in results:
        out += struct.pack(">ihqqqih", place.partition, error, base, -1, 0, 0, -1)
    return memoryview(out + bytes(4))


def batches(count: int) -> list[Outgoing]:
    """Batches of three records each."""
    return [outgoing(a_batch(n * 3), STINT.start + n * 3, STINT, 1) for n in range(count)]


class Quick(SystemClock):
    """Does not wait."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def send(cluster: Cluster, count: int, patience: float = 60.0) -> tuple[dict[Place, int], list[str]]:
    """Send batches to every place; records that were acknowledged, and why anything was tried again."""
    done: dict[Place, int] = dict.fromkeys(PLACES, 0)
    again: list[str] = []

    def note(place: Place, one: Outgoing) -> None:
        done[place] += one.records

    def retried(_: Place, error: SourceError | RestoreError) -> None:
        again.append(error.code)

    async with Producing(
        cluster, cluster, Quick(), patience=patience, position=cluster.position, done=note, retried=retried
    ) as producing:

        async def one(place: Place) -> None:
            lane = producing.lane(place)
            many = batches(count)
            while many:
                await lane.put(many[:7])
                del many[:7]
            await lane.drain()

        await asyncio.gather(*map(one, PLACES))
    return done, again


async def test_many_partitions_share_requests() -> None:
    """Everything arrives in order, with no more requests under way than a broker remembers batches of a producer."""
    cluster = Cluster(random.Random(1))
    done, again = await send(cluster, 40)
    assert done == dict.fromkeys(PLACES, 120)
    assert again == []
    assert 1 < cluster.most <= UNDER_WAY
    for log in cluster.logs.values():
        assert [only(data).header.base_sequence for data in log] == list(range(0, 120, 3))


@pytest.mark.parametrize("seed", range(30))
async def test_each_record_once(seed: int) -> None:
    """Requests and answers get lost, leaders change and forget, and still each record is there once, in order."""
    cluster = Cluster(random.Random(seed), faults=0.15)
    done, again = await send(cluster, 25)
    assert done == dict.fromkeys(PLACES, 75)
    assert again
    for log in cluster.logs.values():
        assert [only(data).header.base_sequence for data in log] == list(range(0, 75, 3))


async def test_what_may_work_later_is_tried_again() -> None:
    """Errors that Kafka calls retriable are tried again, and told."""
    cluster = Cluster(random.Random(1), errors={PLACES[0]: [replies.REQUEST_TIMED_OUT, 19]})
    done, again = await send(cluster, 5)
    assert done == dict.fromkeys(PLACES, 15)
    assert set(again) == {"refused"}


@pytest.mark.parametrize("code", [replies.MESSAGE_TOO_LARGE, replies.TOPIC_AUTHORIZATION_FAILED, 45, 46, 32])
async def test_what_cannot_work_ends_it(code: int) -> None:
    """Other errors end the restore at once, and the message names the partition."""
    cluster = Cluster(random.Random(1), errors={PLACES[1]: [code]})
    with pytest.raises(SourceError, match="t-1"):
        await send(cluster, 5)


async def test_patience_ends() -> None:
    """What keeps failing is given up in the end."""
    cluster = Cluster(random.Random(1), errors={PLACES[1]: [replies.NOT_LEADER] * 1000})
    with pytest.raises(SourceError, match="NOT_LEADER"):
        await send(cluster, 5, patience=0.0)


async def test_other_offsets_end_it() -> None:
    """A batch that gets another offset than it was to get tells that somebody else writes."""
    cluster = Cluster(random.Random(1))

    class Shifted(Cluster):
        def _append(self, broker: int, place: Place, data: bytes) -> tuple[int, int]:
            return 0, 999

    with pytest.raises(RestoreError, match=r"were to get offset 10 got 999: something else writes"):
        await send(Shifted(cluster.dice), 5)
