"""A backup of a topic: the real engine into a folder, against clients that read the same records.

The peers are confluent-kafka consuming and writing each record, as tools do that decode what they back up, and kcat
writing to nowhere. Ours checks every CRC, hashes, indexes and makes everything durable: once with exact accounting,
which uncompresses all batches and looks at every record's timestamp, and once as it comes over the wire.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.kafka_sides import (
    SHAPES,
    Rounds,
    backed_up,
    consume,
    fill,
    kcat,
    measured,
    missing,
    security,
    selected,
)
from benchmarks.support import Report, parser
from tests.support.kafka import KafkaServer

from tallykeep.systems.kafka.memory import keep_large_blocks


def main() -> None:
    """Print the ratios."""
    made = parser(__doc__)
    made.add_argument("--megabytes", type=int, default=120, help="records of each topic, uncompressed (default 120)")
    made.add_argument("--batch", type=int, default=256, help="KiB of a producer's batch, at the most (default 256)")
    made.add_argument("--security", default="PLAINTEXT", help="PLAINTEXT, SASL_PLAINTEXT (SCRAM), SSL or SASL_SSL")
    made.add_argument("--only", default="", help="one shape: CODEC-SIZE, as zstd-1024")
    arguments = made.parse_args()
    if reason := missing():
        print(f"kafka_backup: {reason}")
        return
    keep_large_blocks()  # first of all, for both sides, as the program does
    report = Report(f"Kafka backup, {arguments.megabytes} MB of records a topic, {arguments.security}")
    with tempfile.TemporaryDirectory() as folder, KafkaServer(Path(folder)) as kafka:
        for codec, size in SHAPES:
            if arguments.only in ("", f"{codec}-{size}"):
                compare(report, arguments, kafka, Path(folder), codec, size)
    report.finish(arguments)


def compare(
    report: Report, arguments: argparse.Namespace, kafka: KafkaServer, folder: Path, codec: str, size: int
) -> None:
    """The rows of one topic."""
    topic, count = f"{codec}-{size}", arguments.megabytes * 1_000_000 // size
    fill(kafka, topic, codec, size, count, arguments.batch << 10)
    how, rounds, ours = security(kafka, arguments.security), Rounds(), folder / "ours"
    reader = kcat(kafka, topic)
    backed_up(kafka, how, topic, ours, selected(topic, exact=True))  # so that neither side's first pages are counted
    shutil.rmtree(ours)
    consume(kafka, how, topic, count, folder / "peer")
    for _ in range(arguments.rounds):
        rounds.note("consume, serialise", measured(partial(consume, kafka, how, topic, count, folder / "peer")))
        if reader and how.protocol == "PLAINTEXT":
            rounds.note("kcat", reader())
        for side, exact in (("wire", False), ("exact", True)):
            rounds.note(side, measured(partial(backed_up, kafka, how, topic, ours, selected(topic, exact=exact))))
            shutil.rmtree(ours)
    for side in ("wire", "exact"):
        what = f"{size} B, {codec}, {side}"
        rounds.compare(report, what, side, "consume, serialise", 5 if codec == "none" else 8)
        rounds.compare(report, what, side, "kcat", 1.5 if codec == "none" else 2)


if __name__ == "__main__":
    main()
