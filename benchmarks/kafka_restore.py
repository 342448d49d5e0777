"""A restore of a topic: the real engine from a folder into an empty topic, against confluent-kafka's producer.

The peer reads the records that it wrote with their lengths (kafka_backup's peer) and produces each of them,
idempotently and with the topic's codec. Ours checks hashes and CRCs, stamps batches and sends them as they are, keeps
its state on disk and creates the topic; reading the target back (`verify`) is shown apart, as the peer does not.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.kafka_sides import (
    LENGTHS,
    PARTITIONS,
    SHAPES,
    Rounds,
    backed_up,
    consume,
    fill,
    measured,
    missing,
    produce,
    security,
    selected,
)
from benchmarks.support import Report, parser
from tests.support.kafka import KafkaServer
from tests.support.kafka_live import restored

from tallykeep.clock import SystemClock
from tallykeep.storage.local import LocalStore
from tallykeep.systems.kafka.memory import keep_large_blocks
from tallykeep.systems.kafka.reading import BackupSet


def main() -> None:
    """Print the ratios."""
    made = parser(__doc__)
    made.add_argument("--megabytes", type=int, default=120, help="records of each topic, uncompressed (default 120)")
    made.add_argument("--only", default="", help="one shape: CODEC-SIZE, as zstd-1024")
    arguments = made.parse_args()
    if reason := missing():
        print(f"kafka_restore: {reason}")
        return
    keep_large_blocks()  # first of all, for both sides, as the program does
    report = Report(f"Kafka restore, {arguments.megabytes} MB of records a topic")
    with tempfile.TemporaryDirectory() as folder, KafkaServer(Path(folder)) as kafka:
        for codec, size in SHAPES:
            if arguments.only in ("", f"{codec}-{size}"):
                compare(report, arguments, kafka, Path(folder), codec, size)
    report.finish(arguments)


def compare(
    report: Report, arguments: argparse.Namespace, kafka: KafkaServer, folder: Path, codec: str, size: int
) -> None:
    """The rows of one topic."""
    topic, count, rounds = f"{codec}-{size}", arguments.megabytes * 1_000_000 // size, Rounds()
    fill(kafka, topic, codec, size, count, 256 << 10)
    how = security(kafka, "PLAINTEXT")
    store = folder / f"backup-{topic}"
    backed_up(kafka, how, topic, store, selected(topic, exact=True))
    consume(kafka, how, topic, count, folder / "peer")
    for number in range(arguments.rounds + 1):  # the first is not counted: neither side's first pages are
        target = f"{topic}-peer-{number}"
        kafka.create_topic(target, len(PARTITIONS))
        taken = {"produce": measured(partial(produce, kafka, target, codec, _records(folder / "peer", count)))}
        for side, verify in (("sent", False), ("sent, verified", True)):
            name = f"{topic}-{number}-{verify}"
            taken[side] = measured(partial(ours, kafka, store, folder / f"state-{name}", topic, name, verify=verify))
        for side, figures in taken.items():
            if number:
                rounds.note(side, figures)
    for side in ("sent", "sent, verified"):
        rounds.compare(report, f"{size} B, {codec}, {side}", side, "produce", 5)
    shutil.rmtree(store)


def ours(kafka: KafkaServer, store: Path, state: Path, topic: str, target: str, *, verify: bool) -> None:
    """Restore the topic under another name."""
    asyncio.run(_ours(kafka, store, state, {topic: target}, verify=verify))


async def _ours(kafka: KafkaServer, store: Path, state: Path, names: dict[str, str], *, verify: bool) -> None:
    backup = await BackupSet.open(LocalStore(store), SystemClock())
    await restored(kafka, backup, state, topic_mapping=names, verify=verify)


def _records(path: Path, count: int) -> Iterator[tuple[int, int, bytes, bytes]]:
    """What the peer has of each record."""
    with path.open("rb") as file:
        for _ in range(count):
            _, moment, key, value = LENGTHS.unpack(file.read(LENGTHS.size))
            held = file.read(key), file.read(value)
            yield int(held[0]) % len(PARTITIONS), moment, *held


if __name__ == "__main__":
    main()
