"""`tallykeep kafka list | describe | status | validate` as processes, on backups of a real broker."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.support.kafka import KafkaServer
from tests.support.kafka_cli import KafkaCommands
from tests.support.kafka_corpus import a_record, fill, produce
from tests.support.kafka_live import backed_up, delete_topic

from tallykeep.clock import SystemClock
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.storage.memory import MemoryStore
from tallykeep.systems.kafka.validating import validate

pytestmark = pytest.mark.server


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder


@pytest.fixture
def commands(kafka: KafkaServer, topic: str, tmp_path: Path, backups: Path) -> KafkaCommands:
    """A backup of 90 records in three partitions by two runs."""
    found = KafkaCommands(tmp_path, kafka.bootstrap, {"backend": "filesystem", "path": str(backups)})
    found.settings["source"]["topics"] = {"include": [topic]}
    kafka.create_topic(topic, 3, retention_ms="123456789012345")
    for first in (0, 60):
        produce(kafka, topic, [(number % 2, a_record(number)) for number in range(first, first + 60 - first // 2)])
        assert found.done("backup")["status"] == "success"
    return found


def looked(*command: str) -> subprocess.CompletedProcess[str]:
    """A command without a settings file."""
    argv = [sys.executable, "-m", "tallykeep", "kafka", *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=150, check=False)


def objects(backups: Path) -> Iterator[Path]:
    """Every object of the backup that its manifest vouches for."""
    for path in sorted((backups / "daily").rglob("*")):
        if path.is_file() and path.relative_to(backups / "daily").parts[0] in ("manifest", "snapshots", "topics"):
            yield path


def test_list(commands: KafkaCommands, topic: str, backups: Path) -> None:
    """Backups are found by path alone, also one whose id has a slash; with -b the topics in one; a damaged one is
    listed as that, with status 6."""
    commands.settings["backup_id"] = "team/hourly"
    commands.done("backup")
    found = json.loads(looked("list", "-p", str(backups), "--json").stdout)["backups"]
    assert [(one["backup_id"], one["records"], one["complete"]) for one in found] == [
        ("daily", 90, True), ("team/hourly", 90, True),
    ]  # fmt: skip
    text = looked("list", "-p", str(backups)).stdout.splitlines()
    assert text[0].split()[:2] == ["BACKUP", "LAST"]
    assert text[1].startswith("daily ")
    [one] = json.loads(looked("list", "-p", str(backups), "-b", "daily", "--json").stdout)["topics"]
    assert (one["topic"], one["partitions"], one["records"], one["newest"]) == (topic, 3, 90, True)
    assert topic in looked("list", "-p", str(backups), "-b", "daily").stdout
    (backups / "daily/manifest/00000000000000000002").unlink()
    result = looked("list", "-p", str(backups))
    assert result.returncode == 6
    assert "00000000000000000002 is missing" in result.stdout
    assert looked("list", "-p", str(backups), "-b", "none").returncode == 6
    assert looked("list").returncode == 2


def test_list_in_s3(kafka: KafkaServer, topic: str, tmp_path: Path, seaweedfs: SeaweedFS, bucket: str) -> None:
    """The same in a bucket, whose listing has an order of its own."""
    storage = {
        "backend": "s3", "bucket": bucket, "prefix": "kafka", "endpoint": seaweedfs.endpoint, "region": "us-east-1",
        "access_key": seaweedfs.access_key, "secret_key": seaweedfs.secret_key, "allow_http": True,
    }  # fmt: skip
    commands = KafkaCommands(tmp_path, kafka.bootstrap, storage)
    commands.settings["source"]["topics"] = {"include": [topic]}
    kafka.create_topic(topic)
    produce(kafka, topic, [(0, a_record(1))])
    for backup_id in ("a", "a-b", "b/c", "topics"):
        commands.settings["backup_id"] = backup_id
        commands.done("backup")
    assert [one["backup_id"] for one in commands.done("list")["backups"]] == ["a", "a-b", "b/c", "topics"]
    assert commands.done("validate", "--deep", "-b", "b/c")["status"] == "sound"
    assert commands.done("status", "-b", "a")["source"]["lag_records"] == 0


def test_describe(commands: KafkaCommands, topic: str, backups: Path) -> None:
    """Runs, partitions with offsets and times, settings: as text, JSON and YAML, which say the same."""
    body = commands.done("describe")
    [found] = body["topics"]
    assert found["configs"]["retention.ms"] == "123456789012345"
    assert [(part["partition"], part["start"], part["end"], part["records"]) for part in found["partitions"]] == [
        (0, 0, 45, 45), (1, 0, 45, 45), (2, 0, 0, 0),
    ]  # fmt: skip
    assert found["partitions"][0]["min_timestamp"] == a_record(0).timestamp
    assert found["partitions"][1]["max_timestamp"] == a_record(89).timestamp
    assert [(run["complete"], run["records"]) for run in body["runs"]] == [(True, 60), (True, 30)]
    where = ("describe", "-p", str(backups), "-b", "daily")
    assert yaml.safe_load(looked(*where, "--format", "yaml").stdout) == body
    assert json.loads(looked(*where, "-f", "json").stdout) == body
    text = looked(*where).stdout
    for words in (f"topic {topic} (id {found['topic_id']}", "retention.ms = 123456789012345", "0 to 45", body["head"]):
        assert words in text
    assert json.loads(looked(*where, "--topic", f"{topic[:-1]}*", "--json").stdout)["topics"] == [found]
    assert looked(*where, "--topic", "nothing").returncode == 2
    assert looked(*where, "--topic", "~(").returncode == 2


def test_status(kafka: KafkaServer, commands: KafkaCommands, topic: str, backups: Path) -> None:
    """How old it is and how far the source is ahead, by partition; a topic that was made again, or is gone, is named;
    without a source nothing is asked, and one that does not answer is told with status 3."""
    body = commands.done("status")
    assert (body["records"], body["complete"], body["source"]["lag_records"]) == (90, True, 0)
    assert body["age_seconds"] < 120
    produce(kafka, topic, [(1, a_record(number)) for number in range(7)])
    body = commands.done("status")
    assert body["source"]["lag_records"] == 7
    assert [part["lag_records"] for part in body["source"]["partitions"]] == [0, 7, 0]
    assert "7 records ahead, in 1 partitions" in commands.run("status").stdout
    assert commands.run("validate", "--expect-sequence", body["expect_sequence"]).returncode == 0
    delete_topic(kafka, topic)
    assert {part["state"] for part in commands.done("status")["source"]["partitions"]} == {"deleted"}
    kafka.create_topic(topic, 3)
    produce(kafka, topic, [(0, a_record(0))])
    body = commands.done("status")["source"]
    assert [(part["state"], part["lag_records"]) for part in body["partitions"]] == [
        ("made again", 1), ("made again", 0), ("made again", 0),
    ]  # fmt: skip
    alone = looked("status", "-p", str(backups), "-b", "daily")
    assert alone.returncode == 0
    assert "source" not in alone.stdout
    commands.settings["source"]["bootstrap_servers"] = ["127.0.0.1:1"]
    commands.settings["source"]["connection"] = {"timeout": "2s"}
    result = commands.run("status", "--json")
    assert result.returncode == 3, result
    assert json.loads(result.stdout)["source"]["code"] == "KAFKA_CONNECTION_FAILED"


def test_status_watch(commands: KafkaCommands, kafka: KafkaServer, topic: str) -> None:
    """It looks again and again, a line of JSON each time, and ends in order when it is told to."""
    process = subprocess.Popen(
        commands.argv("status", "--watch", "0.2", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        assert json.loads(process.stdout.readline())["source"]["lag_records"] == 0
        produce(kafka, topic, [(0, a_record(1))])
        looks = (json.loads(process.stdout.readline())["source"]["lag_records"] for _ in range(200))
        assert next(lag for lag in looks if lag) == 1
        process.terminate()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (0, "")


def test_sound(kafka: KafkaServer, topic: str, tmp_path: Path, backups: Path) -> None:
    """The whole corpus, every kind of batch that there is: nothing to be found, by either look."""
    fill(kafka, topic, partitions=6)
    commands = KafkaCommands(tmp_path, kafka.bootstrap, {"backend": "filesystem", "path": str(backups)})
    commands.settings["source"]["topics"] = {"include": [f"{topic}-*"]}
    first = commands.done("backup")
    for name in ("codecs", "transactions"):
        produce(kafka, f"{topic}-{name}", [(0, a_record(number)) for number in range(10)])
    second = commands.done("backup")
    for flags in ((), ("--deep",)):
        body = commands.done("validate", *flags)
        assert (body["status"], body["problems"], body["notes"]) == ("sound", [], [])
        assert body["records"] >= first["records"] + second["records"] - 100
    assert body["segments_read"] == body["segments"] == first["segments"] + second["segments"]
    assert commands.run("validate", "--deep").stdout.splitlines()[-1] == "sound"


def test_changed_bytes(commands: KafkaCommands, backups: Path) -> None:
    """A byte changed in an object: --deep ends with status 6 and names the object; so does the look without it where
    an object is cut or gone. Seven objects, and the manifest's last."""
    rng = random.Random(5)
    where = ("validate", "-p", str(backups), "-b", "daily", "--json")
    vouched = list(objects(backups))
    last = max(path for path in vouched if path.parent.name == "manifest")
    for number, path in enumerate([*rng.sample(vouched, 7), last]):
        data = path.read_bytes()
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.chmod(0o644)
        content, flags = ((bytes(changed), ("--deep",)), (data[:-1], ()), (None, ()))[number % 3]
        path.unlink() if content is None else path.write_bytes(content)
        end = ("--expect-sequence", str(int(last.name))) if path == last else ()
        result = looked(*where, *flags, *end)
        told = [problem["message"] for problem in json.loads(result.stdout).get("problems", [])]
        assert result.returncode == 6, (path, result)
        assert any(path.name in message for message in told) or "holds no backup" in result.stderr, (path, told)
        path.write_bytes(data)
    assert looked(*where, "--deep").returncode == 0


def test_errors_are_counted(commands: KafkaCommands, backups: Path) -> None:
    """What validate finds is on /metrics while it stays up, by published codes; the exit status is 6."""
    [*_, segment] = [path for path in objects(backups) if path.suffix == ".batches"]
    segment.chmod(0o644)
    segment.write_bytes(segment.read_bytes()[:-1])
    commands.settings["metrics"]["keep_alive_seconds"] = 600
    process = subprocess.Popen(
        commands.argv("validate", "--deep"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        while not (line := process.stdout.readline()).startswith("NOT SOUND"):
            assert line
        with urllib.request.urlopen(f"http://127.0.0.1:{commands.settings['metrics']['port']}/metrics") as page:
            text = page.read().decode()
        process.terminate()
        assert process.wait(60) == 6
    finally:
        process.kill()
        process.communicate()
    counts = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith("kafka_backup_errors_total{")
              and 'operation="validate"' in line and '"VALIDATION_SEGMENT_CORRUPT"' in line]  # fmt: skip
    assert [float(count) >= 1 for count in counts] == [True], text


def test_nothing_to_look_at(backups: Path, tmp_path: Path) -> None:
    """No backup of that name: 6; no such folder: 5; neither path nor settings: 2."""
    for command in ("validate", "status", "describe"):
        assert looked(command, "-p", str(backups), "-b", "none").returncode == 6
        assert looked(command, "-p", str(tmp_path / "gone"), "-b", "x").returncode in (5, 6)
        assert looked(command).returncode == 2
        assert looked(command, "-p", str(backups)).returncode == 2
    assert looked("list", "-p", str(tmp_path / "gone")).returncode == 5
    assert looked("validate", "-p", str(backups), "-b", "x", "--expect-sequence", "many").returncode == 2


async def test_compacted_transactions(kafka: KafkaServer, topic: str) -> None:
    """Compaction takes records of transactions, and in time their markers: what is left is sound, whatever is left."""
    kafka.create_topic(
        topic, cleanup_policy="compact", segment_ms="300", min_cleanable_dirty_ratio="0.001", delete_retention_ms="100",
        max_compaction_lag_ms="300",
    )  # fmt: skip
    store = MemoryStore()
    producers = [kafka.producer(transactional_id=f"{topic}-{n}") for n in range(2)]
    for producer in producers:
        producer.init_transactions(60)
    for round_ in range(16):
        for number, producer in enumerate(producers):
            producer.begin_transaction()
            for n in range(6):
                producer.produce(topic, b"%d %d" % (round_, number), b"k%d" % (n if number else n + round_))
            producer.flush(60)
        for number, producer in enumerate(producers):
            (producer.abort_transaction if (round_ + number) % 3 else producer.commit_transaction)(60)
        await asyncio.sleep(0.7)
        if round_ % 5 == 4:
            await backed_up(kafka, store, topic)
    await backed_up(kafka, store, topic)
    async with asyncio.timeout(60):
        while True:
            late = MemoryStore()
            await backed_up(kafka, late, topic)
            if (await validate(late, SystemClock())).records < 16 * 12 / 2:  # else the cleaner has still to come
                break
    for one in (store, late):
        report = await validate(one, SystemClock(), deep=True)
        assert (report.problems, report.notes) == ([], [])
