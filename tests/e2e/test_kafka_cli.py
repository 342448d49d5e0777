"""`tallykeep kafka` as people and timers run it: real Kafka, real S3 and folders, real processes, real scrapes."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_INVALID, Consumer, TopicPartition
from tests.support.kafka import PASSWORD, USER, KafkaServer, running
from tests.support.kafka_cli import KafkaCommands
from tests.support.kafka_corpus import a_record, produce, seen
from tests.support.kafka_live import delete_topic
from tests.support.kafka_page import Page, watch

from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.runtime.processes import free_port
from tallykeep.systems.kafka.connection import CLIENT_ID, Connection, Security

pytestmark = pytest.mark.server

OPERATOR = "kafka_backup_operator_"
with (Path(__file__).parents[1] / "contract/data/metrics.tsv").open(newline="") as file:
    PUBLISHED = {row["name"] for row in csv.DictReader(file, delimiter="\t") if row["system"] == "kafka"}


@pytest.fixture(params=["filesystem", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Mapping[str, object]:
    """Settings of a place for backups."""
    if request.param == "filesystem":
        (tmp_path / "backups").mkdir()
        return {"backend": "filesystem", "path": str(tmp_path / "backups")}
    weed: SeaweedFS = request.getfixturevalue("seaweedfs")
    return {
        "backend": "s3", "bucket": request.getfixturevalue("bucket"), "prefix": "kafka", "endpoint": weed.endpoint,
        "region": "us-east-1", "access_key": weed.access_key, "secret_key": weed.secret_key, "allow_http": True,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Mapping[str, object]:
    (tmp_path / "backups").mkdir()
    return {"backend": "filesystem", "path": str(tmp_path / "backups")}


def fill(kafka: KafkaServer, topic: str, count: int = 400, partitions: int = 2, **settings: object) -> None:
    kafka.create_topic(topic, partitions)
    produce(kafka, topic, [(number % partitions, a_record(number)) for number in range(count)], **settings)


def commands(tmp_path: Path, kafka: KafkaServer, storage: Mapping[str, object], topic: str) -> KafkaCommands:
    found = KafkaCommands(tmp_path, kafka.bootstrap, storage)
    found.settings["source"]["topics"] = {"include": [topic]}
    return found


@contextmanager
def started(tallykeep: KafkaCommands, command: str, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The command as it runs; ended afterwards if it has not."""
    argv = tallykeep.argv(command, *more)
    with subprocess.Popen(
        argv, cwd=tallykeep.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def slowly_read(kafka: KafkaServer, rate: int) -> Iterator[None]:
    """The broker lets us read `rate` bytes a second, once ten times as much have gone."""

    async def limit(rate: float | None) -> None:
        """AlterClientQuotas, version 0, for our client id."""
        value = struct.pack(">d?", rate or 0.0, rate is None)
        entity = b"\0\0\0\1" + text("client-id") + text(CLIENT_ID)
        body = b"\0\0\0\1" + entity + b"\0\0\0\1" + text("consumer_byte_rate") + value + b"\0"
        host, _, port = kafka.bootstrap.partition(":")
        connection = await Connection.open(host, int(port), Security())
        answer = await connection.request(49, 0, body)
        assert struct.unpack_from(">iih", answer)[1:] == (1, 0)
        connection.close()

    def text(word: str) -> bytes:
        return struct.pack(">h", len(word)) + word.encode()

    asyncio.run(limit(rate))
    try:
        yield
    finally:
        asyncio.run(limit(None))


def commit(kafka: KafkaServer, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Let the group have read so far."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "log_level": 0})
    wanted = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
    consumer.commit(offsets=wanted, asynchronous=False)
    consumer.close()


def committed(kafka: KafkaServer, group: str, topic: str) -> dict[int, int]:
    """How far the group has read."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "log_level": 0})
    found = consumer.committed([TopicPartition(topic, partition) for partition in (0, 1)], timeout=60)
    consumer.close()
    return {place.partition: place.offset for place in found}


def delete_records(kafka: KafkaServer, topic: str, before: Mapping[int, int]) -> None:
    """Let the log begin there."""
    asked = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
    admin = kafka.admin()  # its requests end with it
    for future in admin.delete_records(asked).values():
        future.result(60)


def page_after(tallykeep: KafkaCommands, command: str, duration: str) -> Page:
    """What a command serves once it has observed that histogram; ended then, its status is 0."""
    tallykeep.settings["metrics"]["keep_alive_seconds"] = 600
    with started(tallykeep, command, "--json") as process:
        page = watch(tallykeep.settings["metrics"]["port"], lambda page: page.sum(f"{duration}_count") > 0)[-1]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return page


def test_a_topic_is_lost_and_comes_back(
    kafka: KafkaServer, topic: str, tmp_path: Path, storage: Mapping[str, object]
) -> None:
    """Backed up, deleted and restored by two commands, a topic has the same records at the same offsets; a second
    backup goes on where the first ended."""
    fill(kafka, topic)
    tallykeep = commands(tmp_path, kafka, storage, topic)
    first = tallykeep.done("backup")
    assert (first["status"], first["records"], first["topics"], first["partitions"]) == ("success", 400, 1, 2)
    produce(kafka, topic, [(0, a_record(number)) for number in range(400, 450)])
    assert tallykeep.done("backup")["records"] == 50
    before = seen(kafka, [topic])
    delete_topic(kafka, topic)
    restored = tallykeep.done("restore")
    assert (restored["status"], restored["sent"], restored["verified"]) == ("success", 450, 450)
    assert seen(kafka, [topic]) == before


def test_the_summary_is_the_one_people_know(
    kafka: KafkaServer, topic: str, tmp_path: Path, folder: Mapping[str, object]
) -> None:
    """A backup ends with the published block on standard output, and everything else goes to standard error."""
    fill(kafka, topic)
    result = commands(tmp_path, kafka, folder, topic).run("backup")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:2] == ["Backup completed successfully", "\u2500" * 32]
    words = [line.partition(":")[0] for line in lines[2:6]]
    assert words == ["Records", "Duration", "Throughput", "Compressed"]
    assert lines[2].split() == ["Records:", "400"]
    assert lines[4].endswith("records/sec")
    assert lines[5].endswith("x ratio)")
    assert "metrics are at http://127.0.0.1:" in result.stderr


def test_the_figures_go_out_as_opentelemetry(
    kafka: KafkaServer, topic: str, tmp_path: Path, folder: Mapping[str, object]
) -> None:
    """A command that ends sends what it counted, and its span, before it does."""
    fill(kafka, topic)
    exporters = {"OTEL_METRICS_EXPORTER": "console", "OTEL_TRACES_EXPORTER": "console"}
    result = commands(tmp_path, kafka, folder, topic).run("backup", env=exporters)
    assert result.returncode == 0, result.stderr
    assert '"kafka_backup_records_total"' in result.stdout
    assert '"value": 200' in result.stdout
    assert '"backup.id": "daily"' in result.stdout


def test_quiet_says_nothing_but_the_result(
    kafka: KafkaServer, topic: str, tmp_path: Path, folder: Mapping[str, object]
) -> None:
    """With --quiet standard error stays empty."""
    fill(kafka, topic, 10)
    result = commands(tmp_path, kafka, folder, topic).run("backup", "--quiet")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.fixture
def unread(tmp_path: Path) -> Iterator[KafkaServer]:
    """A broker of its own: what was read of it in the last seconds counts against a quota."""
    (tmp_path / "broker").mkdir()
    with running(tmp_path / "broker") as server:
        yield server


def test_the_page_tells_the_truth_while_a_backup_runs_and_after_it(
    unread: KafkaServer, topic: str, tmp_path: Path, folder: Mapping[str, object]
) -> None:
    """Scraped all the while, counters only grow, what is done and what is left add up to the target; at the end every
    figure is what the manifest, the topic and the files say."""
    kafka = unread
    fill(kafka, topic, 3000, batch_size=4000)
    produce(kafka, topic, [(n % 2, a_record(n, 1000)) for n in range(3000)], compression_type="lz4", batch_size=4000)
    tallykeep = commands(tmp_path, kafka, folder, topic)
    tallykeep.settings["metrics"]["keep_alive_seconds"] = 600
    tallykeep.settings["source"]["connection"] = {"connections_per_broker": 1}
    tallykeep.settings["backup"] = {
        "fetch_max_bytes": "16KiB", "segment_max_records": 500, "max_concurrent_partitions": 1,
    }  # fmt: skip
    with slowly_read(kafka, 38_000), started(tallykeep, "backup", "--json") as process:
        pages = watch(
            tallykeep.settings["metrics"]["port"],
            lambda page: page.sum("kafka_backup_duration_seconds_count", backup_id="daily") > 0,
        )
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    told = json.loads(out)
    grown = [page.sum("kafka_backup_records_total") for page in pages]
    assert grown == sorted(grown)
    assert any(0 < grown_to < 6000 for grown_to in grown), "no page was seen in the middle of the run"
    for page in pages:
        target = page.sum("kafka_backup_snapshot_records_target")
        left = page.sum("kafka_backup_snapshot_records_remaining")
        assert page.sum("kafka_backup_records_total") == target - left
    middle = next(page for page, done in zip(pages, grown, strict=True) if 0 < done < 6000)
    assert middle.sum("kafka_backup_lag_records", topic=topic) > 0
    _check_backup(pages[-1], topic, told, "filesystem")


def _check_backup(page: Page, topic: str, told: Mapping[str, float], backend: str) -> None:
    """The page of a backup that has ended, against the topic and against what the command said."""
    id = "daily"
    for partition in ("0", "1"):
        where = {"topic": topic, "partition": partition, "backup_id": id}
        assert page.value("kafka_backup_records_total", **where) == 3000
        assert page.value("kafka_backup_lag_records", **where) == 0
        assert page.value("kafka_backup_unstable_records", **where) == 0
        assert page.value("kafka_backup_offset_gaps_total", **where) == 0
    assert page.sum("kafka_backup_segments_total") == told["segments"] > 2
    assert page.sum("kafka_backup_bytes_total") == told["bytes"] > 3000 * 1000
    assert page.value("kafka_backup_compressed_bytes_total", topic=topic, backup_id=id) == told["stored_bytes"]
    ratios = page.series("kafka_backup_compression_ratio")
    assert {dict(labels)["algorithm"] for labels in ratios} == {"lz4", "zstd"}
    assert all(ratio > 1 for ratio in ratios.values())
    assert page.value("kafka_backup_duration_seconds_count", backup_id=id, status="success") == 1
    seconds = page.value("kafka_backup_duration_seconds_sum", backup_id=id, status="success")
    assert seconds >= told["seconds"] - 0.001
    assert page.value("kafka_backup_throughput_records_per_second", backup_id=id) == 0
    assert page.value("kafka_backup_snapshot_records_remaining", backup_id=id) == 0
    written = page.value("kafka_backup_storage_write_bytes_total", backend=backend, backup_id=id)
    assert written > told["stored_bytes"]
    latency = "kafka_backup_storage_write_latency_seconds_count"
    assert page.value(latency, backend=backend, operation="segment") == 2 * told["segments"]
    assert page.value(latency, backend=backend, operation="checkpoint") >= 3
    assert page.value(latency, backend=backend, operation="manifest") >= 1


def test_what_is_written_is_what_is_there(
    kafka: KafkaServer, topic: str, tmp_path: Path, folder: Mapping[str, object]
) -> None:
    """Bytes written by the page are the bytes of the files, but for the probe that a store refuses."""
    fill(kafka, topic)
    tallykeep = commands(tmp_path, kafka, folder, topic)
    page = page_after(tallykeep, "backup", "kafka_backup_duration_seconds")
    files = [path for path in (tmp_path / "backups/daily").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    written = page.sum("kafka_backup_storage_write_bytes_total")
    assert 0 <= written - size < 100
    segments = sum(path.stat().st_size for path in files if path.suffix == ".batches")
    assert page.sum("kafka_backup_compressed_bytes_total") == segments > 0


def test_a_restore_is_told_while_it_runs_and_after_it(
    kafka: KafkaServer, topic: str, tmp_path: Path, folder: Mapping[str, object]
) -> None:
    """Progress only grows and ends at 100; records, bytes and duration are those of the restore, by target."""
    fill(kafka, topic, 3000)
    tallykeep = commands(tmp_path, kafka, folder, topic)
    stored = tallykeep.done("backup")
    tallykeep.settings["metrics"]["keep_alive_seconds"] = 600
    tallykeep.settings["restore"]["topic_mapping"] = {topic: f"{topic}-back"}
    with started(tallykeep, "restore", "--json") as process:
        pages = watch(
            tallykeep.settings["metrics"]["port"], lambda page: page.sum("kafka_restore_duration_seconds_count") > 0
        )
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["sent"] == 3000
    progress = [page.sum("kafka_restore_progress_percent") for page in pages]
    assert progress == sorted(progress)
    last = pages[-1]
    where = {"topic": f"{topic}-back", "backup_id": "daily"}
    for partition in ("0", "1"):
        assert last.value("kafka_restore_records_total", partition=partition, **where) == 1500
    assert last.value("kafka_restore_bytes_total", **where) == stored["bytes"]
    assert last.value("kafka_restore_progress_percent", backup_id="daily") == 100
    assert last.value("kafka_restore_duration_seconds_count", backup_id="daily", status="success") == 1
    assert last.value("kafka_restore_throughput_records_per_second", backup_id="daily") == 0
    assert last.value("kafka_restore_eta_seconds", backup_id="daily") == 0
    read = last.value("kafka_backup_storage_read_bytes_total", backend="filesystem", backup_id="daily")
    assert read >= stored["stored_bytes"]


def test_groups_go_on_with_the_next_unread_record(
    kafka: KafkaServer, topic: str, tmp_path: Path, storage: Mapping[str, object]
) -> None:
    """With reset_consumer_offsets a restore sets each group to the record it would have read next, although offsets
    are others; the page tells how many, how long, and in which percentiles. Backup and restore together have served
    every family of the contract but the operator's."""
    fill(kafka, topic, 100, 2)
    delete_records(kafka, topic, {0: 20, 1: 20})
    group = f"{topic}-readers"
    commit(kafka, group, topic, {0: 30, 1: 50})
    tallykeep = commands(tmp_path, kafka, storage, topic)
    told = page_after(tallykeep, "backup", "kafka_backup_duration_seconds").families
    delete_topic(kafka, topic)
    tallykeep.settings["restore"] |= {"reset_consumer_offsets": True, "consumer_groups": [group]}
    page = page_after(tallykeep, "restore", "kafka_restore_duration_seconds")
    published = {name for name in PUBLISHED if not name.startswith(OPERATOR)}
    assert not published - told - page.families, "families of the contract that nothing served"
    assert committed(kafka, group, topic) == {0: 10, 1: 30}
    assert page.value("kafka_offset_reset_partitions_total", consumer_group=group, status="success") == 2
    assert page.value("kafka_offset_reset_duration_seconds_count", consumer_group=group, status="success") == 1
    assert page.value("kafka_offset_reset_latency_seconds_count", consumer_group=group) == 2
    mean = page.value("kafka_offset_reset_latency_seconds_sum", consumer_group=group) / 2
    fast, slow = (
        page.value("kafka_offset_reset_latency_percentile_seconds", consumer_group=group, percentile=p)
        for p in ("p50", "p99")
    )
    assert 0 < fast <= mean <= slow


def test_what_a_backup_holds_can_be_asked(
    kafka: KafkaServer, topic: str, tmp_path: Path, storage: Mapping[str, object]
) -> None:
    """list, describe, status and validate --deep answer for the backup that a settings file names."""
    fill(kafka, topic)
    tallykeep = commands(tmp_path, kafka, storage, topic)
    tallykeep.done("backup")
    for command in ("list", "describe", "status", "validate --deep"):
        result = tallykeep.run(command)
        assert result.returncode == 0, (command, result.stdout, result.stderr)
        assert "daily" in result.stdout
    (listed,) = tallykeep.done("list")["backups"]
    assert (listed["backup_id"], listed["records"], listed["complete"]) == ("daily", 400, True)
    (described,) = tallykeep.done("describe")["topics"]
    assert [(part["start"], part["end"]) for part in described["partitions"]] == [(0, 200), (0, 200)]
    assert tallykeep.done("status")["source"]["lag_records"] == 0
    assert tallykeep.done("validate --deep")["status"] == "sound"


def test_a_changed_byte_is_found(kafka: KafkaServer, topic: str, tmp_path: Path, folder: Mapping[str, object]) -> None:
    """validate --deep names the segment with the flipped byte, and ends with 6; so does a restore from it."""
    fill(kafka, topic, 100, 1)
    tallykeep = commands(tmp_path, kafka, folder, topic)
    tallykeep.done("backup")
    (segment,) = (tmp_path / "backups").rglob("*.batches")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.chmod(0o600)
    segment.write_bytes(data)
    result = tallykeep.run("validate", "--deep")
    assert result.returncode == 6
    assert segment.name in result.stdout + result.stderr
    tallykeep.settings["restore"]["topic_mapping"] = {topic: f"{topic}-back"}
    assert tallykeep.done("restore", status=6)["error"]["code"] == "VALIDATION_SEGMENT_CORRUPT"


def test_groups_can_be_set_afterwards(
    kafka: KafkaServer, topic: str, tmp_path: Path, folder: Mapping[str, object]
) -> None:
    """After a restore that left groups alone, offsets plan shows where each goes on, and apply sets it."""
    fill(kafka, topic, 100, 2)
    group = f"{topic}-readers"
    commit(kafka, group, topic, {0: 30, 1: 50})
    tallykeep = commands(tmp_path, kafka, folder, topic)
    tallykeep.done("backup")
    tallykeep.settings["restore"]["topic_mapping"] = {topic: f"{topic}-back"}
    tallykeep.done("restore")
    only = ("--group", group)
    assert group in tallykeep.run("offsets plan", *only).stdout
    assert "kafka-consumer-groups" in tallykeep.run("offsets script", *only).stdout
    tallykeep.done("offsets apply", "--dry-run", *only)
    assert committed(kafka, group, f"{topic}-back") == {0: OFFSET_INVALID, 1: OFFSET_INVALID}
    tallykeep.done("offsets apply", *only)
    assert committed(kafka, group, f"{topic}-back") == {0: 30, 1: 50}


def test_ctrl_c_keeps_what_is_done(
    kafka: KafkaServer, topic: str, tmp_path: Path, folder: Mapping[str, object]
) -> None:
    """Interrupted in the middle, a backup commits what it has, says so, and ends with 130; the next run brings the
    rest, and nothing twice."""
    fill(kafka, topic, 3000, batch_size=4000)
    tallykeep = commands(tmp_path, kafka, folder, topic)
    tallykeep.settings["backup"] = {"fetch_max_bytes": "16KiB", "segment_max_records": 500}
    with slowly_read(kafka, 10_000), started(tallykeep, "backup", "--json") as process:
        watch(tallykeep.settings["metrics"]["port"], lambda page: page.sum("kafka_backup_records_total") > 0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    first = json.loads(out)
    assert (process.returncode, first["status"]) == (130, "interrupted"), err
    assert 0 < first["records"] < 3000
    second = tallykeep.done("backup")
    assert first["records"] + second["records"] == 3000


def test_a_dry_run_changes_nothing(
    kafka: KafkaServer, topic: str, tmp_path: Path, folder: Mapping[str, object]
) -> None:
    """A restore's --dry-run says what it would do, and ends with 6 where it would be refused, as the restore does."""
    fill(kafka, topic, 10)
    tallykeep = commands(tmp_path, kafka, folder, topic)
    tallykeep.done("backup")
    plan = tallykeep.done("restore", "--dry-run", status=6)
    assert plan["refused"] is True
    assert "TARGET_NOT_EMPTY" in {found["code"] for found in plan["findings"]}
    assert tallykeep.done("restore", status=6)["error"]["code"] == "RESTORE_REFUSED"
    tallykeep.settings["restore"]["topic_mapping"] = {topic: f"{topic}-back"}
    plan = tallykeep.done("restore", "--dry-run")
    assert (plan["refused"], plan["records"]) == (False, 10)
    assert f"{topic}-back" not in kafka.admin().list_topics(timeout=60).topics


MISTAKES = [
    ("backup", {"storage": {"bukket": "x"}}, 2, "CONFIG_INVALID_VALUE", "did you mean bucket?"),
    ("backup", {"backup": {"continuous": True}}, 2, "CONFIG_INVALID_VALUE", "run `tallykeep kafka backup` by a timer"),
    ("backup", {"mode": "restore"}, 2, "CONFIG_INVALID_VALUE", "not for `tallykeep kafka backup`"),
    ("backup", {"backup_id": ""}, 2, "CONFIG_MISSING_REQUIRED", "backup_id"),
    ("backup", {"source": {"bootstrap_servers": []}}, 2, "CONFIG_MISSING_REQUIRED", "source.bootstrap_servers"),
    ("backup", {"storage": {"path": "/nowhere"}}, 5, "STORAGE_NOT_FOUND", "/nowhere"),
    ("backup", {"source": {"topics": {"include": ["nothing"]}}}, 1, "KAFKA_TOPIC_NOT_FOUND", "'nothing'"),
    ("backup", {"source": {"topics": {"include": ["~("]}}}, 2, "CONFIG_INVALID_TOPICS", "~("),
    ("restore", {"backup_id": "other"}, 6, "VALIDATION_BACKUP_NOT_FOUND", "no backup"),
    (
        "restore", {"restore": {"time_window_start": 5, "time_window_end": 1}}, 6, "VALIDATION_PITR_INVALID",
        "time_window_end",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("command", "change", "status", "code", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes_have_the_published_codes_and_statuses(
    kafka: KafkaServer, tmp_path: Path, folder: Mapping[str, object], command: str,
    change: dict[str, object], status: int, code: str, words: str,
) -> None:  # fmt: skip
    """Each mistake ends with the status that users of kafka-backup know, and its code and reason stand in both
    outputs."""
    tallykeep = commands(tmp_path, kafka, folder, "*")
    for key, value in change.items():
        if isinstance(value, dict):
            tallykeep.settings.setdefault(key, {}).update(value)
        else:
            tallykeep.settings[key] = value
    result = tallykeep.run(command, "--json")
    assert result.returncode == status, (result.returncode, result.stderr)
    error = json.loads(result.stdout)["error"]
    assert error["code"] == code
    assert words in error["message"]
    assert f"tallykeep: {code}: " in result.stderr


def test_what_kafka_refuses_has_its_own_status(
    kafka: KafkaServer, tmp_path: Path, folder: Mapping[str, object]
) -> None:
    """A wrong password ends with 4, no broker with 3."""
    tallykeep = commands(tmp_path, kafka, folder, "*")
    source = tallykeep.settings["source"]
    source["connection"] = {"timeout": 60}
    source["bootstrap_servers"] = [kafka.address("SASL_PLAINTEXT")]
    source["security"] = {
        "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_username": USER, "sasl_password": "${KAFKA_PASSWORD:-wrong}",
    }  # fmt: skip
    assert tallykeep.done("backup", status=4)["error"]["code"] == "KAFKA_AUTH_FAILED"
    assert tallykeep.run("backup", env={"KAFKA_PASSWORD": PASSWORD}).returncode in (0, 1)
    source["bootstrap_servers"] = [f"127.0.0.1:{free_port()}"]
    source["connection"] = {"timeout": 5}  # for which a broker that is away is waited for
    assert tallykeep.done("backup", status=3)["error"]["code"] == "KAFKA_CONNECTION_FAILED"
    source["connection"] = {"timeout": 60}
    source["bootstrap_servers"] = [kafka.address("SSL")]
    source["security"] = {"security_protocol": "SSL"}
    assert tallykeep.done("backup", status=4)["error"]["code"] == "KAFKA_SSL_ERROR"
    source["security"]["ssl_ca_location"] = str(kafka.ca_file)
    assert tallykeep.run("backup").returncode in (0, 1)
