"""What the Kafka benchmarks share: a broker, topics of words, and the peers, each as it is commonly used."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.support import Report
from confluent_kafka import Consumer, Producer, TopicPartition
from tests.support.kafka import JARS, PASSWORD, USER, KafkaServer
from tests.support.kafka_live import Silent

from tallykeep.clock import SystemClock
from tallykeep.config.model import Secret
from tallykeep.storage.local import LocalStore
from tallykeep.systems.kafka.backup import back_up
from tallykeep.systems.kafka.backup_request import BackupRequest
from tallykeep.systems.kafka.brokers import Brokers
from tallykeep.systems.kafka.cluster import Cluster, ClusterSettings
from tallykeep.systems.kafka.connection import Security
from tallykeep.systems.kafka.selecting import Selection

PARTITIONS = (0, 1)
SHAPES = (("none", 1024), ("lz4", 1024), ("zstd", 1024), ("none", 100), ("lz4", 100), ("zstd", 100))
LENGTHS = struct.Struct(">qqii")
_WORDS = [bytes(random.Random(word).choices(b"abcdefghijklmnop", k=8)) for word in range(4000)]


def missing() -> str:
    """Why there is no broker, or nothing."""
    return "" if JARS.is_dir() else "it needs Kafka's jars: tools/kafka-jars (with Maven and java) brings them"


def fill(kafka: KafkaServer, topic: str, codec: str, size: int, count: int, batch: int) -> None:
    """`count` records of `size` bytes of words, in batches of up to `batch` bytes."""
    kafka.create_topic(topic, len(PARTITIONS))
    producer = kafka.producer(compression_type=codec, batch_size=batch, linger_ms=50, queue_buffering_max_kbytes=65536)
    values = [b"".join(random.choices(_WORDS, k=size // 8)) for _ in range(500)]
    for number in range(count):
        while True:
            try:
                producer.produce(topic, values[number % 500], key=b"%d" % number, partition=number % 2)
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush(120)


def security(kafka: KafkaServer, protocol: str) -> Security:
    """How to come to that listener."""
    return Security(protocol, "SCRAM-SHA-256", USER, Secret(PASSWORD), kafka.ca_file)


def client(kafka: KafkaServer, how: Security) -> dict[str, object]:
    """The same for librdkafka."""
    settings: dict[str, object] = {"bootstrap.servers": kafka.address(how.protocol), "security.protocol": how.protocol}
    if how.uses_tls:
        settings["ssl.ca.location"] = str(how.ca_file)
    if how.protocol.startswith("SASL"):
        settings |= {"sasl.mechanism": how.mechanism, "sasl.username": USER, "sasl.password": PASSWORD}
    return settings


def consume(kafka: KafkaServer, how: Security, topic: str, count: int, target: Path) -> None:
    """Consume `count` records with confluent-kafka and write each with its lengths: what a tool does that decodes."""
    settings = client(kafka, how) | {
        "group.id": "none", "isolation.level": "read_committed", "fetch.message.max.bytes": 8 << 20,
        "queued.max.messages.kbytes": 65536,
    }  # fmt: skip
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in PARTITIONS])
    with target.open("wb") as file:
        while count:
            messages = consumer.consume(10_000, 5)
            count -= len(messages)
            for message in messages:
                key, value, (_, moment) = message.key() or b"", message.value() or b"", message.timestamp()
                file.write(LENGTHS.pack(message.offset() or 0, moment, len(key), len(value)))
                file.write(key)
                file.write(value)
    consumer.close()


def produce(kafka: KafkaServer, topic: str, codec: str, records: Iterable[tuple[int, int, bytes, bytes]]) -> None:
    """Produce records (partition, timestamp, key, value) with confluent-kafka, in order and idempotently."""
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "compression.type": codec, "enable.idempotence": True,
         "linger.ms": 20, "batch.size": 1_000_000, "queue.buffering.max.kbytes": 65536}
    )  # fmt: skip
    for partition, moment, key, value in records:
        while True:
            try:
                producer.produce(topic, value, key=key, partition=partition, timestamp=moment)
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush(120)


def kcat(kafka: KafkaServer, topic: str) -> Callable[[], tuple[float, float]] | None:
    """CPU seconds and wall seconds of kcat reading the topic to nowhere; None where there is no kcat."""
    program = shutil.which("kcat") or shutil.which("kafkacat")
    if not program:
        return None
    arguments = [program, "-C", "-q", "-e", "-b", kafka.bootstrap, "-t", topic, "-o", "beginning",
                 "-X", "fetch.message.max.bytes=8388608"]  # fmt: skip

    def run() -> tuple[float, float]:
        before, start = os.times(), time.perf_counter()
        subprocess.run(arguments, stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        return used, time.perf_counter() - start

    return run


def backed_up(kafka: KafkaServer, how: Security, topic: str, target: Path, request: BackupRequest) -> None:
    """Run our backup of the topic into an empty folder."""
    target.mkdir()
    asyncio.run(_backed_up(kafka, how, topic, target, request))


async def _backed_up(kafka: KafkaServer, how: Security, topic: str, target: Path, request: BackupRequest) -> None:
    cluster = await Cluster.open(ClusterSettings((kafka.address(how.protocol),), how))
    brokers = Brokers(how)
    try:
        result = await back_up(
            request, cluster, brokers, LocalStore(target), SystemClock(), Silent(), asyncio.Event()
        )  # fmt: skip
    finally:
        await brokers.close()
        await cluster.close()
    assert result.complete, result


def selected(topic: str, *, exact: bool) -> BackupRequest:
    """A backup of that topic as it is by default, container compression off."""
    return BackupRequest(topics=Selection((topic,)), exact=exact, groups=False)


def measured(function: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds (this process with its threads) and wall seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    function()
    return time.process_time() - cpu, time.perf_counter() - wall


class Rounds:
    """Sides that are measured in turns, since the load of a shared machine drifts."""

    def __init__(self) -> None:
        self._taken: dict[str, list[tuple[float, float]]] = {}

    def note(self, side: str, taken: tuple[float, float]) -> None:
        """One measurement: CPU, wall."""
        self._taken.setdefault(side, []).append(taken)

    def compare(self, report: Report, what: str, ours: str, peer: str, goal: float | None) -> None:
        """Rows of CPU seconds, with the goal, and of wall seconds."""
        if peer not in self._taken:
            return
        for place, unit in enumerate(("CPU s", "wall s")):
            own, other = ([each[place] for each in self._taken[side]] for side in (ours, peer))
            report.compare(what, own, other, against=peer, unit=unit, goal=None if place else goal)
