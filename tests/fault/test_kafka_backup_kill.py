"""kill -9 of a backup, at every named step and at random moments; then another run.

Then the backup holds exactly what a consumer reads from the broker: 0 lost, 0 there twice. `TALLYKEEP_SOAK_ROUNDS`
sets how many random rounds the soak test plays.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.support.kafka import KafkaServer
from tests.support.kafka_corpus import a_record, produce, seen
from tests.support.kafka_holding import a_run, what_is_held

from tallykeep.storage.local import LocalStore
from tallykeep.systems.kafka.steps import VARIABLE, Step

pytestmark = [pytest.mark.chaos, pytest.mark.server]

ROUNDS = int(os.environ.get("TALLYKEEP_SOAK_ROUNDS", "100"))
MANY = ("fetched", "sealed", "object stored", "stored")  # steps that come again and again
AT = [
    *(f"{step}:1" for step in get_args(Step)),
    *(f"{step}:{times}" for step in MANY for times in (2, 5)),
    "committed:2",
]
SIZES: dict[str, Any] = {"fetch_bytes": 64 << 10, "segment_bytes": 100_000, "memory_bytes": 1 << 20}
CHILD = """
import asyncio, sys
from pathlib import Path
from tests.support.kafka_live import Silent, opened
from tallykeep.clock import SystemClock
from tallykeep.storage.local import LocalStore
from tallykeep.systems.kafka import recording
from tallykeep.systems.kafka.backup import back_up
from tallykeep.systems.kafka.backup_request import BackupRequest
from tallykeep.systems.kafka.selecting import Selection

recording._PACE = 0.001  # many records
async def main(bootstrap, store, topic):
    async with opened(bootstrap) as (cluster, brokers):
        print("ready", flush=True)
        request = BackupRequest(Selection((topic,)), fetch_bytes=64 << 10, segment_bytes=100_000, memory_bytes=1 << 20)
        await back_up(request, cluster, brokers, LocalStore(Path(store)), SystemClock(), Silent(), asyncio.Event())

asyncio.run(main(*sys.argv[1:]))
"""


def start(kafka: KafkaServer, folder: Path, topic: str, **environment: str) -> subprocess.Popen[str]:
    """A run in a process of its own."""
    argv = [sys.executable, "-c", CHILD, kafka.bootstrap, str(folder), topic]
    return subprocess.Popen(argv, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)


def more(kafka: KafkaServer, topic: str, first: int) -> None:
    """600 records of a kilobyte, in small batches, to three partitions."""
    many = [(number % 3, a_record(number, 1000)) for number in range(first, first + 600)]
    produce(kafka, topic, many, batch_num_messages=10)


def prove(kafka: KafkaServer, folder: Path, topic: str) -> None:
    """Run to the end, and compare with what a consumer reads."""
    assert asyncio.run(a_run(kafka, LocalStore(folder), topic, **SIZES)).complete
    assert asyncio.run(what_is_held(LocalStore(folder))) == seen(kafka, [topic])


@pytest.fixture(scope="module")
def full(kafka: KafkaServer) -> str:
    """A topic for all the steps."""
    kafka.create_topic("killed-backups", 3)
    more(kafka, "killed-backups", 0)
    return "killed-backups"


@pytest.mark.parametrize("at", AT)
def test_killed_at_a_step(kafka: KafkaServer, full: str, tmp_path: Path, at: str) -> None:
    """Killed at that step the backup is gone on with, and the next run completes it."""
    with start(kafka, tmp_path, full, **{VARIABLE: at}) as child:
        assert child.wait(120) == -signal.SIGKILL
    prove(kafka, tmp_path, full)


def play(kafka: KafkaServer, folder: Path, topic: str, seed: int) -> None:
    """Some runs that are killed at random moments, records coming between and during them."""
    dice = random.Random(seed)
    kafka.create_topic(topic, 3)
    folder.mkdir()
    for turn in range(dice.randint(1, 4)):
        more(kafka, topic, 1000 * turn)
        with start(kafka, folder, topic) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(dice.random() * 0.3)
            child.kill()
    prove(kafka, folder, topic)


def test_killed_at_random(kafka: KafkaServer, tmp_path: Path, topic: str) -> None:
    """Five seeded rounds."""
    for seed in range(5):
        play(kafka, tmp_path / str(seed), f"{topic}-{seed}", seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_random_many_times(kafka: KafkaServer, tmp_path: Path, topic: str) -> None:
    """As many rounds as are asked for."""
    for seed in range(1000, 1000 + ROUNDS):
        play(kafka, tmp_path / str(seed), f"{topic}-{seed}", seed)


def test_two_writers_at_once(kafka: KafkaServer, full: str, tmp_path: Path) -> None:
    """Of two runs at the same time one at least goes on, the other goes behind it or is told: all is whole."""
    with start(kafka, tmp_path, full) as first, start(kafka, tmp_path, full) as second:
        ended = sorted((first.wait(120), second.wait(120)))
    assert 0 in ended, ended
    prove(kafka, tmp_path, full)
