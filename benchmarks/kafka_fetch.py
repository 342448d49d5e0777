"""Taking a topic out of Kafka: batches copied as they are, against confluent-kafka's consumer, in CPU seconds.

Both read the same topics of two partitions from the same real broker, and both end in files. The peer consumes
records and writes each of them with its lengths, as tools do that decode what they back up. Ours fetches batches on
a connection that aiokafka opened, checks every CRC, collects segments of 32 MiB, hashes them and stores them with
their indexes: once counting uncompressed bytes exactly, once without (accounting: wire). What each costs without
storing anything is shown too.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.kafka_sides import PARTITIONS, fill, missing, security
from benchmarks.support import Report, cpu_seconds, parser
from confluent_kafka import Consumer, TopicPartition
from tests.support.kafka import PASSWORD, USER, KafkaServer

from tallykeep.storage.local import LocalStore
from tallykeep.systems.kafka.committing import store_segment
from tallykeep.systems.kafka.connection import Connection, Security
from tallykeep.systems.kafka.memory import keep_large_blocks
from tallykeep.systems.kafka.segment import NO_TOPIC_ID, SegmentBuilder
from tallykeep.systems.kafka.wire import Batch, uncompressed_size, walk
from tallykeep.systems.kafka.wire.fetch import API_KEY, VERSION, fetch_request, fetch_response
from tallykeep.threads import in_thread

SEGMENT = 32 << 20  # bytes
_LENGTHS = struct.Struct(">qqii")


def main() -> None:
    """Print the ratios."""
    made = parser(__doc__)
    made.add_argument("--megabytes", type=int, default=150, help="records of each topic, uncompressed (default 150)")
    made.add_argument("--security", default="PLAINTEXT", help="PLAINTEXT, SASL_PLAINTEXT (SCRAM), SSL or SASL_SSL")
    arguments = made.parse_args()
    if reason := missing():
        print(f"kafka_fetch: {reason}")
        return
    keep_large_blocks()  # for both sides
    report = Report(f"Kafka to files, {arguments.megabytes} MB of records a topic, {arguments.security}")
    with tempfile.TemporaryDirectory() as folder, KafkaServer(Path(folder)) as kafka:
        for codec, size in (("none", 1024), ("lz4", 1024), ("zstd", 1024), ("none", 100), ("zstd", 100)):
            compare(report, arguments, kafka, Path(folder), codec, size)
    report.finish(arguments)


def compare(
    report: Report, arguments: argparse.Namespace, kafka: KafkaServer, folder: Path, codec: str, size: int
) -> None:
    """The rows of one topic."""
    topic = f"{codec}-{size}"
    count = arguments.megabytes * 1_000_000 // size
    fill(kafka, topic, codec, size, count, 256 << 10)
    how = security(kafka, arguments.security)
    taken: dict[str, list[float]] = {}
    sides: dict[str, Callable[[], object]] = {
        "peer, null": lambda: consume(kafka, how, topic, count, None),
        "peer": lambda: consume(kafka, how, topic, count, folder / "peer"),
        "null": lambda: asyncio.run(backup(kafka, how, topic, None, exact=False)),
        "wire": lambda: asyncio.run(backup(kafka, how, topic, folder / "ours", exact=False)),
        "exact": lambda: asyncio.run(backup(kafka, how, topic, folder / "ours", exact=True)),
    }
    for _ in range(arguments.rounds):  # in turns, since the load of a shared machine drifts
        for name, side in sides.items():
            taken.setdefault(name, []).extend(cpu_seconds(side, 1))
            shutil.rmtree(folder / "ours", ignore_errors=True)
    goal = 5 if codec == "none" else 8
    what = f"{size} B, {codec}"
    report.compare(f"{what}: fetched and checked", taken["null"], taken["peer, null"], against="consume")
    report.compare(f"{what}: stored, wire", taken["wire"], taken["peer"], against="consume, serialise", goal=goal)
    report.compare(f"{what}: stored, exact", taken["exact"], taken["peer"], against="consume, serialise", goal=goal)


def consume(kafka: KafkaServer, how: Security, topic: str, count: int, target: Path | None) -> None:
    """What the peer does."""
    settings: dict[str, object] = {
        "bootstrap.servers": kafka.address(how.protocol), "group.id": "none", "isolation.level": "read_committed",
        "fetch.message.max.bytes": 8 << 20, "queued.max.messages.kbytes": 65536, "security.protocol": how.protocol,
    }  # fmt: skip
    if how.uses_tls:
        settings["ssl.ca.location"] = str(how.ca_file)
    if how.protocol.startswith("SASL"):
        settings |= {"sasl.mechanism": how.mechanism, "sasl.username": USER, "sasl.password": PASSWORD}
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in PARTITIONS])
    file = target.open("wb") if target else None
    while count:
        messages = consumer.consume(10_000, 5)
        count -= len(messages)
        if file:
            for message in messages:
                key, value, (_, moment) = message.key() or b"", message.value() or b"", message.timestamp()
                file.write(_LENGTHS.pack(message.offset() or 0, moment, len(key), len(value)))
                file.write(key)
                file.write(value)
    consumer.close()
    if file:
        file.close()


async def backup(kafka: KafkaServer, how: Security, topic: str, target: Path | None, *, exact: bool) -> None:
    """What ours does: without a target, up to the check of every batch."""
    host, _, port = kafka.address(how.protocol).partition(":")
    connection = await Connection.open(host, int(port), how)
    if target:
        await in_thread(target.mkdir)
    store = LocalStore(target) if target else None
    builders = {partition: SegmentBuilder(topic, NO_TOPIC_ID, partition, 0) for partition in PARTITIONS}
    offsets, ends = dict.fromkeys(PARTITIONS, 0), dict.fromkeys(PARTITIONS, 1)
    while offsets != ends:
        body = fetch_request({topic: list(offsets.items())}, max_bytes=16 << 20, partition_max_bytes=8 << 20)
        for found in fetch_response(await connection.request(API_KEY, VERSION, body)).partitions:
            ends[found.partition] = found.last_stable_offset
            batches = list(walk(found.records))
            sizes = await in_thread(look, batches, exact)
            if batches:
                offsets[found.partition] = batches[-1].header.last_offset + 1
            if store:
                builders[found.partition] = await collect(store, builders[found.partition], batches, sizes)
    for builder in builders.values():
        if store:
            await store_segment(store, await in_thread(builder.seal))
    connection.close()
    await asyncio.sleep(0)


def look(batches: list[Batch], exact: bool) -> list[int]:
    """Check every batch; its uncompressed size, if it is wanted."""
    for batch in batches:
        batch.check()
    return [uncompressed_size(batch.header.codec, batch.payload) if exact else 0 for batch in batches]


async def collect(store: LocalStore, builder: SegmentBuilder, batches: list[Batch], sizes: list[int]) -> SegmentBuilder:
    """Add batches to the segment; store it when it is full and begin the next."""
    for batch, size in zip(batches, sizes, strict=True):
        builder.add(batch, uncompressed=size)
    if builder.size < SEGMENT:
        return builder
    await store_segment(store, await in_thread(builder.seal))
    return SegmentBuilder(builder.topic, builder.topic_id, builder.partition, builder.end)


if __name__ == "__main__":
    main()
