"""The published families of kafka-backup, exactly, and every one of them with true figures on /metrics."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.kafka import KafkaServer
from tests.support.kafka_cli import KafkaCommands
from tests.support.kafka_corpus import a_record, produce

from tallykeep.metrics import Family
from tallykeep.runtime.processes import ManagedProcess
from tallykeep.systems.kafka.families import FAMILIES, OPERATOR

with (Path(__file__).parent / "data" / "metrics.tsv").open(newline="") as file:
    ROWS = {row["name"]: row for row in csv.DictReader(file, delimiter="\t") if row["system"] == "kafka"}
PUBLISHED = [family for family in FAMILIES if family.name in ROWS]
KEPT_UP = 600  # seconds for which a command goes on serving; ended earlier by the test


def test_every_published_family_is_declared() -> None:
    """The catalogue has every name of the contract, the operator's five among them."""
    assert {family.name for family in PUBLISHED} == set(ROWS)
    assert {family.name for family in OPERATOR} == {name for name in ROWS if "_operator_" in name}


@pytest.mark.parametrize("family", PUBLISHED, ids=lambda family: family.name)
def test_published_family_is_as_published(family: Family) -> None:
    """Type, unit, labels and buckets are those of the contract."""
    row = ROWS[family.name]
    assert family.kind.value == row["type"]
    assert list(family.labels) == [label for label in row["labels"].split(",") if label]
    assert family.unit.suffix.strip("_").removesuffix("timestamp_") == row["unit"]
    if row["buckets"]:
        assert list(family.buckets) == [float(bound) for bound in row["buckets"].split(",")]


class Page:
    """What a command serves."""

    def __init__(self, url: str) -> None:
        with urlopen(f"{url}/metrics", timeout=60) as reply:
            text = reply.read().decode()
        self._samples = [s for family in text_string_to_metric_families(text) for s in family.samples]

    @property
    def names(self) -> set[str]:
        """Of every sample."""
        return {sample.name for sample in self._samples}

    def sum(self, name: str, **labels: str) -> float:
        """Over the samples with these labels."""
        found = [s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items()]
        assert found, f"no {name} with {labels}"
        return sum(found)


@pytest.fixture
def commands(kafka: KafkaServer, topic: str, tmp_path: Path) -> KafkaCommands:
    """A backup of one topic with three partitions, one of them empty, and 700 records."""
    kafka.create_topic(topic, 3)
    produce(kafka, topic, [(number % 2, a_record(number, 1000)) for number in range(700)], compression_type="lz4")
    commands = KafkaCommands(tmp_path, kafka.bootstrap, {"backend": "filesystem", "path": str(tmp_path)})
    commands.settings["source"]["topics"] = {"include": [topic]}
    commands.settings["metrics"]["keep_alive_seconds"] = KEPT_UP
    return commands


def served(commands: KafkaCommands, command: str) -> Iterator[Page]:
    """The page of a command that has done its work, and goes on serving."""
    log = commands.folder / f"{command}.log"
    process = ManagedProcess(commands.argv(command), cwd=commands.folder, log=log)
    url = f"http://127.0.0.1:{commands.settings['metrics']['port']}"
    process.start()
    try:
        process.wait_ready(lambda: "completed successfully" in log.read_text(), 60)
        yield Page(url)
    finally:
        process.stop(timeout=10)


@pytest.mark.server
def test_what_backup_and_restore_serve(kafka: KafkaServer, topic: str, commands: KafkaCommands) -> None:
    """Each family of backups and restores is there, with the figures of what was done."""
    place = {"topic": topic, "backup_id": "daily"}
    for page in served(commands, "backup"):
        assert page.sum("kafka_backup_records_total", **place) == 700
        assert page.sum("kafka_backup_records_total", partition="2", **place) == 0
        assert page.sum("kafka_backup_bytes_total", **place) > 700_000
        stored = sum(path.stat().st_size for path in commands.folder.rglob("*.batches"))
        assert page.sum("kafka_backup_compressed_bytes_total", **place) == stored
        assert page.sum("kafka_backup_segments_total", **place) == 2
        assert page.sum("kafka_backup_lag_records", **place) == 0
        ratio = page.sum("kafka_backup_bytes_total", **place) / stored
        assert page.sum("kafka_backup_compression_ratio", algorithm="lz4") == pytest.approx(ratio)
        assert page.sum("kafka_backup_duration_seconds_count", backup_id="daily", status="success") == 1
        written = sum(path.stat().st_size for path in (commands.folder / "daily").rglob("*") if path.is_file())
        assert page.sum("kafka_backup_storage_write_bytes_total", backend="filesystem") >= written
        assert page.sum("kafka_backup_snapshot_records_target") == 700
        assert page.sum("kafka_backup_snapshot_records_remaining") == 0
        for operation in ("segment", "manifest", "checkpoint"):
            assert page.sum("kafka_backup_storage_write_latency_seconds_count", operation=operation) > 0
        kinds = ("kafka_backup_throughput_records_per_second", "kafka_backup_throughput_bytes_per_second")
        assert all(page.sum(name, backup_id="daily") == 0 for name in kinds)
    commands.settings["restore"]["topic_mapping"] = {topic: f"{topic}-back"}
    for page in served(commands, "restore"):
        target = {"topic": f"{topic}-back", "backup_id": "daily"}
        assert page.sum("kafka_restore_records_total", **target) == 700
        assert page.sum("kafka_restore_bytes_total", **target) > 700_000
        assert page.sum("kafka_restore_progress_percent", backup_id="daily") == 100
        assert page.sum("kafka_restore_eta_seconds") == page.sum("kafka_restore_throughput_records_per_second") == 0
        assert page.sum("kafka_restore_duration_seconds_count", status="success") == 1
        assert page.sum("kafka_backup_storage_read_bytes_total", backend="filesystem") > stored


@pytest.mark.server
def test_errors_are_counted_by_their_published_codes(commands: KafkaCommands) -> None:
    """A backup that finds no broker counts KAFKA_CONNECTION_FAILED, and ends with the published status."""
    commands.settings["source"]["bootstrap_servers"] = ["127.0.0.1:1"]
    commands.settings["source"]["connection"] = {"timeout": 1}
    del commands.settings["metrics"]["keep_alive_seconds"]
    result = commands.run("backup", "--json")
    assert result.returncode == 3
    assert "KAFKA_CONNECTION_FAILED" in result.stdout
