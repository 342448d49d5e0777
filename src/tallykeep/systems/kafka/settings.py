"""Settings of Kafka backups: the YAML that users of kafka-backup have, key for key.

A key that means the same here is read. One that is not needed any more is taken, and what replaces it is said. One
that asks for what there is not is refused: nobody is to believe in a rate limit or an encryption that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from tallykeep.config.model import Secret, group, setting, several, table
from tallykeep.config.parse import FLAG, PATH, PORT, TEXT, duration, integer, one_of, size
from tallykeep.systems.kafka.security import Security

_WHOLE = integer(low=0)
_MS = integer(low=1)
_NEEDLESS = "Needed for nothing"


@dataclass(frozen=True, slots=True)
class SecuritySection:
    """How to come to a cluster."""

    security_protocol: str = setting(
        "PLAINTEXT", parse=one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"), help="As in Kafka's own clients."
    )
    sasl_mechanism: str = setting(
        "PLAIN", parse=one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"), help="With a SASL protocol."
    )
    sasl_username: str = setting("", help="User.")
    sasl_password: Secret = setting(Secret(""), parse=Secret, help="Password; better ${VARIABLE} than the text itself.")
    sasl_password_file: Path | None = setting(None, parse=PATH, help="File that holds the password.")
    ssl_ca_location: Path | None = setting(
        None, parse=PATH, help="CA that the brokers' certificates come from; without it the system's."
    )
    ssl_certificate_location: Path | None = setting(None, parse=PATH, help="Our certificate, for mutual TLS.")
    ssl_key_location: Path | None = setting(
        None, parse=PATH, help="Its key; without it, it is in the certificate's file."
    )

    def __post_init__(self) -> None:
        if self.sasl_password and self.sasl_password_file:
            raise ValueError("give either sasl_password or sasl_password_file")
        if self.security_protocol.startswith("SASL") and not self.sasl_username:
            raise ValueError(f"{self.security_protocol} needs sasl_username")
        if self.ssl_key_location and not self.ssl_certificate_location:
            raise ValueError("ssl_key_location means nothing without ssl_certificate_location")

    def security(self) -> Security:
        """What connections are opened with. Reads the password's file. Raises: OSError."""
        password = self.sasl_password
        if self.sasl_password_file is not None:
            password = Secret(self.sasl_password_file.read_text(encoding="utf-8").rstrip("\r\n"))
        return Security(
            self.security_protocol, self.sasl_mechanism, self.sasl_username, password,
            self.ssl_ca_location, self.ssl_certificate_location, self.ssl_key_location,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class TopicsSection:
    """Which topics."""

    include: tuple[str, ...] = several(parse=TEXT, help="Names, globs (orders-*) and ~regexes; without any, all.")
    exclude: tuple[str, ...] = several(parse=TEXT, help="The same; they win.")


@dataclass(frozen=True, slots=True)
class ConnectionSection:
    """How brokers are connected to."""

    connections_per_broker: int = setting(2, parse=integer(1, 16), help="Connections that data is read by.")
    timeout: float = setting("30", parse=duration(low=0.1), help="Time after which a question to a broker has failed.")


@dataclass(frozen=True, slots=True)
class ClusterSection:
    """A Kafka cluster."""

    bootstrap_servers: tuple[str, ...] = several(parse=TEXT, help="HOST:PORT of some of its brokers.")
    security: SecuritySection = group(SecuritySection, help="How to come to it.")
    topics: TopicsSection = group(TopicsSection, help="Topics to back up (source) or to restore (target).")
    connection: ConnectionSection = group(ConnectionSection, help="Connections.")

    @property
    def servers(self) -> tuple[str, ...]:
        """Each bootstrap server, also of those written as one text with commas."""
        return tuple(part.strip() for text in self.bootstrap_servers for part in text.split(",") if part.strip())


@dataclass(frozen=True, slots=True)
class StorageSection:
    """Where backups are kept."""

    backend: str = setting("filesystem", parse=one_of("filesystem", "s3", "azure", "gcs"), help="Kind of storage.")
    path: Path | None = setting(None, parse=PATH, help="filesystem: the folder.")
    prefix: str = setting("", help="What every key begins with.")
    bucket: str = setting("", help="s3, gcs: the bucket.")
    region: str = setting("", help="s3: its region. Told by the endpoint or AWS_REGION where it is not given.")
    endpoint: str = setting("", help="s3, azure, gcs: URL of what speaks the protocol, where it is not the vendor's.")
    access_key: str = setting("", help="s3: access key id. Without it AWS_* variables and roles.")
    secret_key: Secret = setting(Secret(""), parse=Secret, help="s3: secret access key.")
    path_style: bool = setting(True, help="s3: bucket in the path of requests.")
    allow_http: bool | None = setting(
        None, parse=FLAG, help="Needed for nothing: whether TLS is used is said by the endpoint."
    )
    ca_file: Path | None = setting(None, parse=PATH, help="s3: CA of the endpoint's certificate.")
    account_name: str = setting("", help="azure: storage account.")
    container_name: str = setting("", help="azure: container.")
    account_key: Secret = setting(Secret(""), parse=Secret, help="azure: key of the account.")
    sas_token: Secret = setting(Secret(""), parse=Secret, help="azure: a shared access signature instead.")
    service_account_path: Path | None = setting(
        None, parse=PATH, help="gcs: file of a service account. Without it the application default credentials."
    )
    timeout: float = setting("60", parse=duration(low=0.1), help="Time after which a request to storage has failed.")


@dataclass(frozen=True, slots=True)
class BackupSection:
    """How topics are backed up."""

    segment_max_bytes: int = setting("64MiB", parse=size(low=1 << 20), help="Size at which a segment is closed.")
    segment_max_interval_ms: int = setting(60_000, parse=_MS, help="Age at which a segment is closed.")
    segment_max_records: int = setting(0, parse=_WHOLE, help="Records at which a segment is closed; 0: any number.")
    fetch_max_bytes: int = setting("16MiB", parse=size(low=1 << 10), help="Asked for in one request.")
    memory_max_bytes: int = setting(
        "256MiB", parse=size(low=32 << 20), help="What answers and open segments may take, all together."
    )
    compression: str = setting(
        "zstd", parse=one_of("zstd", "lz4", "none"),
        help="What batches are packed with that the producer did not compress. Others stay as they are.",
    )  # fmt: skip
    compression_level: int = setting(3, parse=integer(1, 19), help="Of zstd: 1, quick, to 19, small.")
    accounting: str = setting(
        "exact", parse=one_of("exact", "wire"),
        help="exact: uncompressed bytes are counted, which also proves every batch readable; wire: bytes as they come.",
    )  # fmt: skip
    start_offset: str = setting(
        "earliest", parse=one_of("earliest", "latest"), help="Where topics begin that the backup does not know yet."
    )
    stop_at_current_offsets: bool = setting(
        True, help="Always so: a backup ends at the offsets that held when it began."
    )
    continuous: bool = setting(False, help="Not offered: run backups by a timer, each goes on where the last ended.")
    include_internal_topics: bool = setting(False, help="Take Kafka's own topics too.")
    internal_topics: tuple[str, ...] = several(parse=TEXT, help="Which of them; without any, all that are included.")
    max_concurrent_partitions: int = setting(8, parse=integer(1, 1000), help="Partitions that are read at a time.")
    consumer_group_snapshot: bool = setting(True, help="Save the offsets of consumer groups as well.")
    patience: float = setting(
        "60", parse=duration(low=1), help="Time without any progress after which a partition is given up."
    )
    include_offset_headers: bool | None = setting(
        None, parse=FLAG, help="Needed for nothing: records are never changed, and the offset map has every offset."
    )
    checkpoint_interval_secs: int | None = setting(
        None, parse=_WHOLE, help="Needed for nothing: the manifest is the checkpoint, and segments enter it at once."
    )
    sync_interval_secs: int | None = setting(None, parse=_WHOLE, help="Needed for nothing, as the one before.")
    poll_interval_ms: int | None = setting(
        None, parse=_WHOLE, help="Needed for nothing: brokers answer when there is something."
    )
    source_cluster_id: str = setting("", help="Needed for nothing: the cluster says its id itself.")

    def __post_init__(self) -> None:
        if self.continuous:
            raise ValueError("continuous is not offered: run `tallykeep kafka backup` by a timer")
        if not self.stop_at_current_offsets:
            raise ValueError("stop_at_current_offsets is always true: a backup has an exact end")


@dataclass(frozen=True, slots=True)
class RestoreSection:
    """How topics are restored."""

    time_window_start: int | None = setting(None, parse=integer(), help="First moment to restore: Unix milliseconds.")
    time_window_end: int | None = setting(
        None, parse=integer(), help="Last moment to restore, itself included: Unix milliseconds."
    )
    source_partitions: tuple[int, ...] = several(parse=_WHOLE, help="Partitions to restore; without any, all.")
    partition_mapping: Mapping[int, int] = table(
        keys=_WHOLE, values=_WHOLE, allowed="source: target", help="Partitions that change their number."
    )
    topic_mapping: Mapping[str, str] = table(
        keys=TEXT, values=TEXT, allowed="source: target", help="Topics that change their name."
    )
    create_topics: bool = setting(True, help="Make topics that are not there, with the settings they had.")
    default_replication_factor: int | None = setting(
        None, parse=integer(1, 32767), help="Copies of topics that are made; without it as many as they had."
    )
    max_concurrent_partitions: int = setting(8, parse=integer(1, 1000), help="Partitions that are written at a time.")
    produce_timeout_ms: int = setting(30_000, parse=_MS, help="Time in which a broker has to take a batch.")
    produce_acks: int = setting(-1, parse=integer(-1, -1), help="-1: every replica in sync. Nothing else is safe.")
    consumer_groups: tuple[str, ...] = several(
        parse=TEXT, help="Groups (names, globs) whose offsets are set; without any, all of the backup."
    )
    reset_consumer_offsets: bool = setting(False, help="Set the offsets of these groups once the data is in.")
    consumer_group_strategy: str = setting(
        "skip", parse=one_of("skip", "header-based"),
        help="skip: leave groups alone, unless reset_consumer_offsets. header-based: set them, by the offset map.",
    )  # fmt: skip
    checkpoint_state: Path | None = setting(
        None, parse=PATH, help="Folder that remembers restores, to go on with; in the state directory without it."
    )
    verify: bool = setting(True, help="Read the target back and compare.")
    dry_run: bool = setting(False, help="Say what would be done, and do nothing.")
    include_original_offset_header: bool | None = setting(
        None, parse=FLAG, help="Needed for nothing: records are never changed."
    )
    produce_batch_size: int | None = setting(None, parse=_WHOLE, help="Needed for nothing: batches stay as they were.")
    checkpoint_interval_secs: int | None = setting(
        None, parse=_WHOLE, help="Needed for nothing: the target tells what it has."
    )
    offset_report: Path | None = setting(None, parse=PATH, help="File to write the offset map to as well.")


@dataclass(frozen=True, slots=True)
class MetricsSection:
    """/metrics while a command runs."""

    enabled: bool = setting(True, help="Serve it.")
    port: int = setting(8080, parse=PORT, help="Port; 0: any free one.")
    bind_address: str = setting("0.0.0.0", help="Address.")  # noqa: S104 - the published default
    path: str = setting("/metrics", parse=one_of("/metrics"), help="Path.")
    update_interval_ms: int = setting(500, parse=_MS, help="Time between two looks at rates.")
    keep_alive_seconds: int = setting(0, parse=_WHOLE, help="Go on serving so long after the work is done.")
    max_partition_labels: int | None = setting(None, parse=_WHOLE, help="Needed for nothing: every partition is told.")


@dataclass(frozen=True, slots=True)
class OffsetStorageSection:
    """Where kafka-backup kept its offsets: the manifest does that here."""

    backend: str = setting("", help="Needed for nothing: the manifest is the checkpoint.")
    db_path: str = setting("", help="Needed for nothing.")
    s3_key: str = setting("", help="Needed for nothing.")
    sync_interval_secs: int | None = setting(None, parse=_WHOLE, help="Needed for nothing.")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """One backup, or one restore of it."""

    mode: str = setting("", parse=one_of("backup", "restore"), help="What the file is for; commands check it.")
    backup_id: str = setting("", help="Name of the backup.")
    source: ClusterSection = group(ClusterSection, help="Cluster that is backed up.")
    target: ClusterSection = group(ClusterSection, help="Cluster that is restored to.")
    storage: StorageSection = group(StorageSection, help="Where backups are kept.")
    backup: BackupSection = group(BackupSection, help="How topics are backed up.")
    restore: RestoreSection = group(RestoreSection, help="How topics are restored.")
    metrics: MetricsSection = group(MetricsSection, help="/metrics while a command runs.")
    offset_storage: OffsetStorageSection = group(OffsetStorageSection, help="Read, and needed for nothing.")

    def needless(self) -> Iterator[str]:
        """What was given and is not needed here, with what replaces it."""
        yield from _needless("backup", self.backup)
        yield from _needless("restore", self.restore)
        yield from _needless("metrics", self.metrics)
        yield from _needless("storage", self.storage)
        if self.offset_storage != OffsetStorageSection():
            yield "offset_storage: needed for nothing: the manifest of the backup is its checkpoint."


def _needless(name: str, section: object) -> Iterator[str]:
    for field in fields(section):  # type: ignore[arg-type]
        help_ = field.metadata["tallykeep"].help
        if help_.startswith(_NEEDLESS) and getattr(section, field.name) != field.default:
            yield f"{name}.{field.name}: {help_[0].lower()}{help_[1:]}"
