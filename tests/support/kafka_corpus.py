"""The fidelity corpus: topics that hold everything records can be, and what a real consumer reads of them.

`fill` makes the topics on a real broker, with real producers; `seen` reads topics as an application does, with
librdkafka's consumer and read_committed, which shares no code with what is tested. Two topics hold the same when their
partitions give the same records in the same order.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from confluent_kafka import Consumer, KafkaError, TopicPartition
from tests.support.kafka import KafkaServer

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
YEAR_MS = 365 * 24 * 3600 * 1000
Headers = Sequence[tuple[str, bytes | None]]


class Seen(NamedTuple):
    """A record as a consumer gets it. What is compared leaves the offset out, which a restore may change."""

    timestamp: int  # Unix milliseconds
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


Read = dict[tuple[str, int], list[tuple[int, Seen]]]  # by topic and partition: offsets and records


def fill(kafka: KafkaServer, name: str, *, partitions: int = 200) -> list[str]:
    """Make the topics, all called `name`-something, and return their names. About ten seconds.

    `partitions`: of the wide topic.
    """
    makers: Mapping[str, Callable[[KafkaServer, str], None]] = {
        "codecs": _codecs,
        "xerial": _xerial,
        "nulls": _nulls,
        "compacted": _compacted,
        "transactions": _transactions,
        "appended": _appended,
        "times": _times,
        "large": _large,
        "deleted": _deleted,
    }
    for kind, make in makers.items():
        make(kafka, f"{name}-{kind}")
    kafka.create_topic(f"{name}-empty", 3)
    _wide(kafka, f"{name}-wide", partitions)
    return [f"{name}-{kind}" for kind in (*makers, "empty", "wide")]


def seen(kafka: KafkaServer, topics: Iterable[str], timeout: float = 60.0) -> Read:
    """Every committed record of the topics. Raises: AssertionError where they do not come within `timeout` seconds."""
    consumer = Consumer({
        "bootstrap.servers": kafka.bootstrap, "group.id": "the-reader", "isolation.level": "read_committed",
        "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0, "fetch.message.max.bytes": 4 << 20,
        "check.crcs": True, "auto.offset.reset": "earliest",
    })  # fmt: skip
    with closing(consumer):
        metadata = consumer.list_topics(timeout=60)
        places = [(topic, number) for topic in topics for number in metadata.topics[topic].partitions]
        consumer.assign([TopicPartition(topic, number, 0) for topic, number in places])
        found: Read = {place: [] for place in places}
        ended: set[tuple[str, int]] = set()
        end = time.monotonic() + timeout
        while len(ended) < len(places):
            assert time.monotonic() < end, f"no end of {sorted(set(places) - ended)[:5]}"
            for message in consumer.consume(500, 0.5):
                place = (str(message.topic()), int(message.partition() or 0))
                if error := message.error():
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    ended.add(place)
                    continue
                headers = tuple(message.headers() or ())
                record = Seen(message.timestamp()[1], message.key(), message.value(), headers)  # type: ignore[arg-type]
                found[place].append((int(message.offset() or 0), record))
    return found


def records(read: Read) -> dict[tuple[str, int], list[Seen]]:
    """What must be the same after a restore, whatever the offsets."""
    return {place: [record for _, record in found] for place, found in read.items()}


def produce(kafka: KafkaServer, topic: str, many: Iterable[tuple[int, Seen]], **settings: object) -> None:
    """Send records, each to its partition. Raises: AssertionError where one is refused."""
    refused: list[object] = []
    producer = kafka.producer(**{"message_max_bytes": 8 << 20, **settings})
    for partition, record in many:
        producer.produce(
            topic, record.value, record.key, partition, headers=list(record.headers), timestamp=record.timestamp,
            on_delivery=lambda error, _: refused.append(error) if error else None,
        )  # fmt: skip
        producer.poll(0)
    assert producer.flush(60) == 0
    assert not refused, refused[0]


def a_record(number: int, size: int = 60) -> Seen:
    """A plain record, other than those with other numbers."""
    return Seen(1_700_000_000_000 + number, b"key %d" % number, b"value %d " % number + b"v" * size, ())


def _codecs(kafka: KafkaServer, topic: str) -> None:
    kafka.create_topic(topic, 2)
    for start, codec in enumerate(CODECS):
        many = [(number % 2, a_record(number)) for number in range(start * 300, start * 300 + 300)]
        produce(kafka, topic, many, compression_type=codec)


def _xerial(kafka: KafkaServer, topic: str) -> None:
    """The other family of encoders: snappy in xerial blocks, idempotent."""
    kafka.create_topic(topic)

    async def send() -> None:
        for codec in CODECS[1:]:
            producer = AIOKafkaProducer(
                bootstrap_servers=kafka.bootstrap, compression_type=codec, enable_idempotence=True, linger_ms=20
            )
            await producer.start()
            sent = [
                await producer.send(topic, b"%d" % number * 40, timestamp_ms=1_700_000_000_000 + number)
                for number in range(100)
            ]
            await asyncio.gather(*sent)
            await producer.stop()

    asyncio.run(send())


def _nulls(kafka: KafkaServer, topic: str) -> None:
    """Null and empty keys and values; headers that stand twice, are null, empty, not UTF-8, and far from ASCII."""
    kafka.create_topic(topic)
    several: Headers = (("h", b"1"), ("h", b"2"), ("h", None), ("", b""), ("\u00e9\u4e16", b"\xff\xfe\x00"))
    keys, values = (None, b"", b"\xff\x00key"), (None, b"", b"value\x80")
    many = [
        (0, Seen(1_700_000_000_000, key, value, tuple(headers)))
        for key in keys
        for value in values
        for headers in ((), several)
    ]
    produce(kafka, topic, many)
    produce(kafka, topic, many, compression_type="zstd")


def _compacted(kafka: KafkaServer, topic: str) -> None:
    """Tombstones, holes in batches and between them, and batches that carry a delete horizon."""
    kafka.create_topic(
        topic, cleanup_policy="compact", segment_bytes="1048576", segment_ms="500",
        min_cleanable_dirty_ratio="0.001", delete_retention_ms="86400000", max_compaction_lag_ms="600",
    )  # fmt: skip
    rng, known = random.Random(topic), set[int]()
    for round_ in range(4):
        keys = [rng.randrange(60) for _ in range(300)]
        known.update(keys)
        many = [
            (0, Seen(1_700_000_000_000 + round_ * 1000 + n, b"k%d" % key, None if key % 7 == 0 else b"%d" % n * 20, ()))
            for n, key in enumerate(keys)
        ]
        produce(kafka, topic, many, batch_num_messages=40, compression_type=CODECS[round_])
        time.sleep(0.8)  # the active segment is never cleaned: the next round rolls it
    produce(kafka, topic, [(0, Seen(1_700_000_009_000, b"last", b"last", ()))])
    _wait(lambda: len(seen(kafka, [topic])[topic, 0]) == len(known) + 1, "the cleaner to have done all it will do")


def _transactions(kafka: KafkaServer, topic: str) -> None:
    """Committed and aborted transactions of two producers, interleaved with each other and with plain records."""
    kafka.create_topic(topic)
    first, second = (kafka.producer(transactional_id=f"{topic}-{n}") for n in range(2))
    for producer in (first, second):
        producer.init_transactions(60)
    for round_ in range(6):
        for number, producer in enumerate((first, second)):
            producer.begin_transaction()
            for n in range(5):
                producer.produce(topic, b"round %d of %d, %d" % (round_, number, n), timestamp=1_700_000_000_000 + n)
            assert producer.flush(60) == 0
        produce(kafka, topic, [(0, a_record(round_))], enable_idempotence=True)
        (first.abort_transaction if round_ % 2 else first.commit_transaction)(60)
        (second.abort_transaction if round_ % 3 else second.commit_transaction)(60)
    kafka.settle(topic)


def _appended(kafka: KafkaServer, topic: str) -> None:
    """The broker's own time on every record."""
    kafka.create_topic(topic, message_timestamp_type="LogAppendTime")
    for codec in CODECS:
        produce(kafka, topic, [(0, a_record(number)) for number in range(20)], compression_type=codec)


def _times(kafka: KafkaServer, topic: str) -> None:
    """Sixty years of timestamps, from 1970 into the future, in no order, within batches and between them."""
    span = 60 * YEAR_MS
    kafka.create_topic(topic, retention_ms="-1", message_timestamp_after_max_ms=str(span))
    rng = random.Random(topic)
    many = [(0, a_record(number)._replace(timestamp=rng.randrange(1, span))) for number in range(300)]
    ends = [(0, a_record(number)._replace(timestamp=time)) for number, time in enumerate((span, 1))]
    produce(kafka, topic, [*ends, *many], batch_num_messages=50)


def _large(kafka: KafkaServer, topic: str) -> None:
    """Messages of a megabyte, that compress and that do not."""
    kafka.create_topic(topic, max_message_bytes=str(4 << 20))
    noise = random.Random(topic).randbytes(1 << 20)
    for codec in ("none", "zstd"):
        for value in (noise, b"v" * (1 << 20)):
            produce(kafka, topic, [(0, a_record(1)._replace(value=value))], compression_type=codec)


def _deleted(kafka: KafkaServer, topic: str) -> None:
    """A log that does not begin at 0."""
    kafka.create_topic(topic)
    produce(kafka, topic, [(0, a_record(number)) for number in range(100)], batch_num_messages=10)
    admin = kafka.admin()  # its requests end with it
    admin.delete_records([TopicPartition(topic, 0, 37)])[TopicPartition(topic, 0)].result(60)


def _wide(kafka: KafkaServer, topic: str, partitions: int) -> None:
    """Hundreds of partitions: some hold a few records, some none."""
    kafka.create_topic(topic, partitions)
    many = [(number, a_record(number * 3 + n)) for number in range(0, partitions, 2) for n in range(3)]
    produce(kafka, topic, many)


def _wait(done: Callable[[], bool], what: str, timeout: float = 90.0) -> None:
    end = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.3)


def differences(before: Read, after: Read, renamed: Mapping[str, str] | None = None) -> Iterator[str]:
    """What is not the same, in words."""
    names = renamed or {}
    for (topic, partition), wanted in records(before).items():
        got = records(after).get((names.get(topic, topic), partition))
        if got is None:
            yield f"{topic}-{partition} is missing"
        elif got != wanted:
            first = next((n for n, pair in enumerate(zip(wanted, got, strict=False)) if pair[0] != pair[1]), "the end")
            yield f"{topic}-{partition}: {len(wanted)} records became {len(got)}; they differ from {first} on"
