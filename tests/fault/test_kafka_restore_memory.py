"""What a restore needs in memory: some 20 MiB and five of the largest messages for each partition in work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fault.test_kafka_backup_memory import filled
from tests.support.kafka import KafkaServer
from tests.support.kafka_cli import KafkaCommands

from tallykeep.systems.kafka.backup_request import MIB

pytestmark = [pytest.mark.chaos, pytest.mark.server]

LANE = 20 * MIB  # for each partition in work
LARGE = 5  # times the largest message, for each partition in work
BASE = 100 * MIB  # an interpreter with everything imported, /metrics and clients included
TIMED = "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=2); " + (
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10); sys.exit(done.returncode)"
)


def peak(commands: KafkaCommands, command: str) -> int:
    """Bytes that the command had resident at the most."""
    argv = [sys.executable, "-c", TIMED, *commands.argv(command, "--json")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ}, cwd=commands.folder)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def restored(kafka: KafkaServer, topic: str, folder: Path) -> int:
    """Back up `topic`, restore it under another name with four partitions in work; the restore's peak."""
    commands = KafkaCommands(folder, kafka.bootstrap, {"backend": "filesystem", "path": str(folder)})
    commands.settings["source"]["topics"] = {"include": [topic]}
    commands.settings["backup"]["compression"] = "none"
    assert commands.done("backup")["status"] == "success"
    commands.settings["restore"] |= {"topic_mapping": {topic: f"{topic}-back"}, "max_concurrent_partitions": 4}
    return peak(commands, "restore")


@pytest.mark.soak
@pytest.mark.timeout(240)
def test_a_large_topic(kafka: KafkaServer, tmp_path: Path, topic: str) -> None:
    """Of 200 MB in 8 partitions, four of which are in work."""
    filled(kafka, topic, 8, 50_000, 4000)
    assert restored(kafka, topic, tmp_path) <= BASE + 4 * LANE


@pytest.mark.timeout(240)
def test_large_messages(kafka: KafkaServer, tmp_path: Path, topic: str) -> None:
    """Messages of 10 MB: each is in memory a few times, and not all of them at once."""
    filled(kafka, topic, 4, 16, 10_000_000)
    assert restored(kafka, topic, tmp_path) <= BASE + 4 * (LANE + LARGE * 10_000_000)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_thousand_partitions(kafka: KafkaServer, tmp_path: Path, topic: str) -> None:
    """1,000 partitions, four of which are in work."""
    filled(kafka, topic, 1000, 50_000, 4000)
    assert restored(kafka, topic, tmp_path) <= BASE + 4 * LANE + 50 * MIB
