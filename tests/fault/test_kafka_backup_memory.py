"""What a backup needs in memory: the number it is given, whatever the partitions and the messages."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.kafka import KafkaServer

from tallykeep.systems.kafka.backup_request import MIB

pytestmark = [pytest.mark.chaos, pytest.mark.server]

SLACK = 48 * MIB  # the rows of indexes, threads, what the C library keeps between blocks
CHILD = """
import asyncio, json, sys
from pathlib import Path
from tests.support.kafka_live import Silent, opened
from tallykeep.clock import SystemClock
from tallykeep.storage.local import LocalStore
from tallykeep.systems.kafka import backup, budget
from tallykeep.systems.kafka.backup_request import BackupRequest
from tallykeep.systems.kafka.selecting import Selection
from tallykeep.systems.kafka.wire import Codec

def memory(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10

budgets = []
class Noted(budget.Budget):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        budgets.append(self)

class Quiet(Silent):
    def __getattr__(self, name):
        return lambda *_: None

async def main(bootstrap, store, topic, settings):
    import tallykeep.systems.kafka.course as course
    course.Budget = Noted
    settings = json.loads(settings)
    async with opened(bootstrap) as (cluster, brokers):
        await cluster.topics()
        request = BackupRequest(Selection((topic,)), pack=Codec[settings.pop("pack", "NONE")], **settings)
        before = memory("VmRSS")
        result = await backup.back_up(
            request, cluster, brokers, LocalStore(Path(store)), SystemClock(), Quiet(), asyncio.Event()
        )
    assert result.complete, result
    print(memory("VmHWM") - before, budgets[0].most, result.records, result.segments)

asyncio.run(main(*sys.argv[1:]))
"""


def measured(kafka: KafkaServer, folder: Path, topic: str, settings: str) -> tuple[int, int, int, int]:
    """Bytes that a run's process grew by, what its budget came to, records and segments."""
    argv = [sys.executable, "-c", CHILD, kafka.bootstrap, str(folder), topic, settings]
    done = subprocess.run(argv, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    grown, most, records, segments = map(int, done.stdout.split())
    return grown, most, records, segments


def filled(kafka: KafkaServer, topic: str, partitions: int, count: int, size: int, **settings: object) -> None:
    """`count` records that do not compress, of `size` bytes, over the partitions."""
    kafka.create_topic(topic, partitions, max_message_bytes=str(11 * MIB))
    producer = kafka.producer(
        message_max_bytes=11 * MIB, batch_size=100_000, queue_buffering_max_kbytes=64 << 10, **settings
    )
    noise = random.Random(7).randbytes(size + 1000)
    for number in range(count):
        while True:
            try:
                producer.produce(topic, noise[number % 1000 : number % 1000 + size], partition=number % partitions)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(120) == 0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("pack", ["NONE", "ZSTD"])
def test_many_partitions(kafka: KafkaServer, tmp_path: Path, topic: str, pack: str) -> None:
    """40 partitions read at once, of 100 MB, none as large as a segment: 24 MiB are enough, and all is there."""
    filled(kafka, topic, 40, 25_000, 4000)
    settings = f'{{"pack": "{pack}", "memory_bytes": {24 * MIB}, "fetch_bytes": {MIB // 2}, "partitions": 40}}'
    grown, most, records, segments = measured(kafka, tmp_path, topic, settings)
    assert records == 25_000
    assert segments > 40  # some were closed early
    assert most <= 24 * MIB + 4 * MIB + (16 * MIB if pack == "ZSTD" else 0)
    assert grown <= most + SLACK


@pytest.mark.timeout(180)
def test_tiny_batches(kafka: KafkaServer, tmp_path: Path, topic: str) -> None:
    """80,000 batches of one small record, of which more has to be known than they have bytes: that counts as well."""
    filled(kafka, topic, 2, 80_000, 20, batch_num_messages=1)
    settings = f'{{"memory_bytes": {16 * MIB}, "fetch_bytes": {MIB // 2}}}'
    grown, most, records, segments = measured(kafka, tmp_path, topic, settings)
    assert records == 80_000
    assert segments > 2  # some were closed early
    assert most <= 16 * MIB + 8 * MIB  # what is known of the batches in four answers comes on top
    assert grown <= most + SLACK


@pytest.mark.timeout(180)
def test_large_messages(kafka: KafkaServer, tmp_path: Path, topic: str) -> None:
    """Messages of 10 MB, each larger than a request: beyond the number a lane holds two answers and their copies."""
    filled(kafka, topic, 4, 20, 10_000_000)
    settings = f'{{"memory_bytes": {48 * MIB}, "fetch_bytes": {2 * MIB}, "segment_bytes": {8 * MIB}}}'
    grown, _, records, segments = measured(kafka, tmp_path, topic, settings)
    assert (records, segments) == (20, 20)
    assert grown <= 48 * MIB + 2 * 4 * 10_000_000 + SLACK


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_thousand_partitions(kafka: KafkaServer, tmp_path: Path, topic: str) -> None:
    """1,000 partitions read at once, of 400 MB with messages of 10 MB among them: 64 MiB are enough."""
    filled(kafka, topic, 1000, 100_000, 4000)
    filled(kafka, f"{topic}-large", 4, 20, 10_000_000)
    settings = f'{{"memory_bytes": {64 * MIB}, "fetch_bytes": {4 * MIB}, "partitions": 1000}}'
    grown, _, records, _ = measured(kafka, tmp_path, f"{topic}*", settings)
    assert records == 100_020
    assert grown <= 64 * MIB + 2 * 4 * 10_000_000 + 2 * SLACK
