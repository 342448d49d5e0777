"""kill -9 of a restore, at every named step and at random moments; then the same command again.

Nothing is lost and nothing is there twice, the settings are what they are to be, and the offset map is the one that a
restore without a crash gives. `TALLYKEEP_SOAK_ROUNDS` sets how many random rounds the soak test plays.
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
from typing import get_args

import pytest
from tests.support.kafka import KafkaServer
from tests.support.kafka_corpus import Read, a_record, differences, produce, seen
from tests.support.kafka_live import backed_up, delete_topic, own_settings, restored

from tallykeep.clock import SystemClock
from tallykeep.storage.local import LocalStore
from tallykeep.systems.kafka.offset_map import OffsetMap
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.steps import VARIABLE, RestoreStep

pytestmark = [pytest.mark.chaos, pytest.mark.server]

ROUNDS = int(os.environ.get("TALLYKEEP_SOAK_ROUNDS", "100"))
SETTINGS = {"cleanup_policy": "compact,delete", "retention_ms": "31536000000000"}
AT = [
    *(f"{step}:1" for step in get_args(RestoreStep) if step != "restore renewed"),
    "restore request sent:4",
    "restore request sent:30",
    "restore request answered:3",
    "restore request answered:40",
]
CHILD = """
import asyncio, sys
from pathlib import Path
from tests.support.kafka_live import Silent, opened
from tallykeep.clock import SystemClock
from tallykeep.storage.local import LocalStore
from tallykeep.systems.kafka.preflight import plan_restore
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.restore import restore
from tallykeep.systems.kafka.restore_plan import RestoreRequest

async def main(bootstrap, store, state, source, target):
    backup = await BackupSet.open(LocalStore(Path(store)), SystemClock())
    async with opened(bootstrap) as (cluster, brokers):
        request = RestoreRequest(Path(state), topic_mapping={source: target}, max_concurrent_partitions=2)
        plan = await plan_restore(request, backup, cluster)
        print("ready", flush=True)
        await restore(plan, cluster, brokers, SystemClock(), Silent(), asyncio.Event())

asyncio.run(main(*sys.argv[1:]))
"""


class World:
    """A backup of one topic, and what it held."""

    def __init__(self, kafka: KafkaServer, folder: Path, topic: str) -> None:
        self.kafka, self.folder, self.topic = kafka, folder, topic
        kafka.create_topic(topic, 3, **SETTINGS)
        many = [(number % 3, a_record(number, 400)) for number in range(3000)]
        produce(kafka, topic, many[:2000], batch_num_messages=10, linger_ms=5)
        produce(kafka, topic, many[2000:], batch_num_messages=10, compression_type="lz4", linger_ms=5)
        self.before: Read = seen(kafka, [topic])
        folder.mkdir()
        asyncio.run(backed_up(kafka, LocalStore(folder), topic))

    def start(self, target: str, state: Path, **environment: str) -> subprocess.Popen[str]:
        """A restore to `target` in a process of its own."""
        argv = [sys.executable, "-c", CHILD, self.kafka.bootstrap, str(self.folder), str(state), self.topic, target]
        return subprocess.Popen(argv, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)

    def prove(self, target: str, state: Path) -> None:
        """Do what is left, and look at all of it."""

        async def go_on() -> OffsetMap:
            backup = await BackupSet.open(LocalStore(self.folder), SystemClock())
            result = await restored(self.kafka, backup, state, topic_mapping={self.topic: target})
            assert result.records == 3000
            data = await backup.store.read(f"restores/{result.run}/offset-map.json")
            settings = await own_settings(self.kafka, target)
            assert settings == {name.replace("_", "."): value for name, value in SETTINGS.items()}
            return OffsetMap.decode(data, "map")

        found = asyncio.run(go_on())
        assert all(len(mapped) == 1 for mapped in found.places.values())
        assert sum(mapped.records for mapped in found.places.values()) == 3000


@pytest.fixture(scope="module")
def world(kafka: KafkaServer, tmp_path_factory: pytest.TempPathFactory) -> World:
    """One backup for all rounds."""
    return World(kafka, tmp_path_factory.mktemp("restores") / "backup", "killed-restores")


@pytest.mark.parametrize("at", AT)
def test_killed_at_a_step(world: World, tmp_path: Path, topic: str, at: str) -> None:
    """Killed at that step, the restore is gone on with: 0 lost, 0 twice, settings put back, the map whole."""
    target = f"again-{topic}"
    with world.start(target, tmp_path, **{VARIABLE: at}) as child:
        assert child.wait(120) == -signal.SIGKILL
    if not is_complete(tmp_path):
        world.prove(target, tmp_path)
    assert not list(differences(world.before, seen(world.kafka, [target]), {world.topic: target}))
    delete_topic(world.kafka, target)


def is_complete(state: Path) -> bool:
    """Whether nothing is left to be done."""
    return any('"phase": "complete"' in file.read_text() for file in state.glob("restore-*.json"))


def play(world: World, folder: Path, name: str, seed: int) -> None:
    """A restore that is killed up to three times, at random moments."""
    dice = random.Random(seed)
    target, state = f"{name}-{seed}", folder / f"state-{seed}"
    for _ in range(dice.randint(1, 3)):
        if is_complete(state):
            break
        with world.start(target, state) as child:
            assert child.stdout is not None
            if child.stdout.readline():
                time.sleep(dice.random() * 0.6)
            child.kill()
    if not is_complete(state):  # else it was faster
        world.prove(target, state)
    assert not list(differences(world.before, seen(world.kafka, [target]), {world.topic: target}))
    delete_topic(world.kafka, target)


def test_killed_at_random(world: World, tmp_path: Path, topic: str) -> None:
    """Five seeded rounds."""
    for seed in range(5):
        play(world, tmp_path, topic, seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_random_many_times(world: World, tmp_path: Path, topic: str) -> None:
    """As many rounds as are asked for."""
    for seed in range(ROUNDS):
        play(world, tmp_path, topic, 1000 + seed)
