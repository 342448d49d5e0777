"""Settings files of kafka-backup: read as they are, and never believed to say what is not done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tallykeep.config.load import Config
from tallykeep.config.model import Secret
from tallykeep.errors import ConfigError
from tallykeep.systems.kafka.commands import backup_request, restore_request
from tallykeep.systems.kafka.config_file import expander, read_settings
from tallykeep.systems.kafka.failures import Missing, Unparsable
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.settings import KafkaSettings, SecuritySection
from tallykeep.systems.kafka.stores import of_path
from tallykeep.systems.kafka.wire import Codec

THEIRS = """
mode: backup
backup_id: daily-001
source:
  bootstrap_servers:
    - kafka-1:9092
    - kafka-2:9092,kafka-3:9092
  security:
    security_protocol: SASL_SSL
    sasl_mechanism: SCRAM-SHA-512
    sasl_username: ${KAFKA_USER:-alice}
    sasl_password: ${KAFKA_PASSWORD}
    ssl_ca_location: /certs/ca.pem
  topics:
    include: ["orders*", "~^payments-[0-9]+$"]
    exclude: [orders-scratch]
storage:
  backend: s3
  bucket: backups
  region: eu-central-1
  prefix: kafka
backup:
  segment_max_bytes: 134217728
  segment_max_interval_ms: 60000
  compression: zstd
  compression_level: 7
  start_offset: earliest
  stop_at_current_offsets: true
  include_offset_headers: true
  max_concurrent_partitions: 8
  checkpoint_interval_secs: 5
restore:
  time_window_start: 1700000000000
  topic_mapping:
    orders: orders-restored
  partition_mapping:
    0: 3
  source_partitions: [0]
  produce_acks: -1
  produce_batch_size: 1000
metrics:
  port: 9090
  keep_alive_seconds: 15
  max_partition_labels: 100
offset_storage:
  backend: sqlite
  db_path: ./offsets.db
"""


def _never(path: Path | None) -> Config:
    raise AssertionError(path)


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], KafkaSettings]:
    """What a file with this text says."""
    monkeypatch.setenv("KAFKA_PASSWORD", "s3cr3t: {")

    def read(text: str) -> KafkaSettings:
        (tmp_path / "kafka.yaml").write_text(text)
        return read_settings(tmp_path / "kafka.yaml", _never)

    return read


def test_their_file_is_read(read: Callable[[str], KafkaSettings]) -> None:
    """Every key of a kafka-backup file has its meaning; what a variable holds stays one text."""
    settings = read(THEIRS)
    assert settings.source.servers == ("kafka-1:9092", "kafka-2:9092", "kafka-3:9092")
    security = settings.source.security.security()
    assert (security.protocol, security.mechanism, security.username) == ("SASL_SSL", "SCRAM-SHA-512", "alice")
    assert security.password == Secret("s3cr3t: {")
    assert security.ca_file == Path("/certs/ca.pem")
    assert (settings.storage.bucket, settings.metrics.port, settings.metrics.keep_alive_seconds) == (
        "backups",
        9090,
        15,
    )
    request = backup_request(settings)
    assert request.topics.include == ("orders*", "~^payments-[0-9]+$")
    assert (request.segment_bytes, request.segment_seconds, request.pack) == (134_217_728, 60.0, Codec.ZSTD)
    assert request.level == 7
    assert (request.start, request.exact, request.groups, request.partitions) == ("earliest", True, True, 8)


def test_what_a_restore_is_asked_for(read: Callable[[str], KafkaSettings]) -> None:
    """Mappings, window and partitions reach the restore as numbers and names."""
    request = restore_request(read(THEIRS))
    assert request.topic_mapping == {"orders": "orders-restored"}
    assert request.partition_mapping == {0: 3}
    assert request.source_partitions == (0,)
    assert request.window.first == 1_700_000_000_000
    assert 1_700_000_000_000 in request.window
    assert not request.reset_offsets


def test_what_is_not_needed_is_answered(read: Callable[[str], KafkaSettings]) -> None:
    """Each key that nothing needs any more is named, with what replaces it."""
    said = list(read(THEIRS).needless())
    assert [line.partition(":")[0] for line in said] == [
        "backup.include_offset_headers", "backup.checkpoint_interval_secs", "restore.produce_batch_size",
        "metrics.max_partition_labels", "offset_storage",
    ]  # fmt: skip
    assert "the manifest" in said[-1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("backup: {continuous: true}", "continuous"),
        ("backup: {stop_at_current_offsets: false}", "stop_at_current_offsets"),
        ("restore: {rate_limit_bytes_per_sec: 1000}", "rate_limit_bytes_per_sec"),
        ("restore: {repartitioning: {orders: {strategy: murmur2}}}", "repartitioning"),
        ("restore: {purge_topics: true}", "purge_topics"),
        ("restore: {produce_acks: 1}", "produce_acks"),
        ("storage: {backend: memory}", "backend"),
        ("backup: {compression: gzip}", "compression"),
        ("source: {security: {sasl_mechanism: GSSAPI}}", "sasl_mechanism"),
        ("source: {security: {security_protocol: SASL_SSL}}", "sasl_username"),
        ("source: {security: {sasl_password: '${NOT_SET_ANYWHERE}'}}", "NOT_SET_ANYWHERE"),
        ("restore: {topic_mapping: [orders]}", "topic_mapping"),
        ("restore: {partition_mapping: {zero: 1}}", "partition_mapping"),
    ],
)
def test_what_there_is_not_is_refused(read: Callable[[str], KafkaSettings], text: str, words: str) -> None:
    """A key that asks for what is not done is an error, never ignored."""
    with pytest.raises(ConfigError, match=words):
        read(text)


def test_every_mistake_at_once(read: Callable[[str], KafkaSettings]) -> None:
    """Three mistakes are three lines, each with its place in the file."""
    with pytest.raises(ConfigError) as caught:
        read("bakup_id: x\nmode: sideways\nmetrics:\n  port: 70000\n")
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        "kafka.yaml:1", "kafka.yaml:2", "kafka.yaml:4",
    ]  # fmt: skip
    assert "did you mean backup_id?" in caught.value.problems[0]


def test_what_is_no_settings_file(read: Callable[[str], KafkaSettings]) -> None:
    """Broken YAML and an empty file are told apart from wrong settings."""
    with pytest.raises(Unparsable, match="not YAML"):
        read("backup: {")
    with pytest.raises(Missing):
        read("")
    with pytest.raises(Unparsable, match="cannot be read"):
        read_settings(Path("/nowhere/kafka.yaml"), _never)


def test_a_secret_may_be_a_file(tmp_path: Path) -> None:
    """sasl_password_file holds the password; both at once contradict each other."""
    (tmp_path / "password").write_text("s3cr3t\n")
    section = SecuritySection(sasl_password_file=tmp_path / "password")
    assert section.security().password == Secret("s3cr3t")
    with pytest.raises(ValueError, match="either"):
        SecuritySection(sasl_password=Secret("x"), sasl_password_file=tmp_path / "password")


def test_variables() -> None:
    """${NAME} and ${NAME:-default} are replaced, an empty variable counts as not set, and $NAME stays as it is."""
    expand = expander({"A": "1", "B": ""})
    assert expand("${A}-${B:-2}-${C:-}-$A") == "1-2--$A"
    with pytest.raises(ValueError, match="C is not set"):
        expand("${C}")


@pytest.mark.parametrize(
    ("path", "backend", "where"),
    [
        ("/backups", "filesystem", "/backups"),
        ("file:///backups", "filesystem", "/backups"),
        ("s3://bucket/some/prefix", "s3", "bucket some/prefix"),
    ],
)
def test_paths(path: str, backend: str, where: str) -> None:
    """-p names a folder or a bucket."""
    storage = of_path(path)
    assert storage.backend == backend
    assert (str(storage.path) if storage.path else f"{storage.bucket} {storage.prefix}") == where


def test_a_place_is_shown_as_kafka_does() -> None:
    """Topic and number, with a dash between them."""
    assert str(Place("orders", 3)) == "orders-3"
