"""What Kafka backups and restores tell: the published kafka_* families, and what they left out.

Everything is counted by the commands while they run, and served by them on /metrics. Counters of a backup count what is
durable: an object that no record of the manifest names has not been backed up.
Source: contract/metrics.tsv.
"""

from __future__ import annotations

from tallykeep.metrics import Alert, Family, Kind
from tallykeep.units import BYTES, COUNT, FLAG, PERCENT, SECONDS, TIMESTAMP

_PLACE = ("topic", "partition", "backup_id")
_LONG = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_RESET = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_SHORT = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# Backups

RECORDS = Family("kafka_backup_records_total", Kind.COUNTER, COUNT, _PLACE, "Records backed up and durable.")
BACKUP_BYTES = Family(
    "kafka_backup_bytes_total",
    Kind.COUNTER,
    BYTES,
    _PLACE,
    "Bytes of record batches backed up, uncompressed; exact, unless `accounting: wire` asks for bytes as they came.",
)
COMPRESSED = Family(
    "kafka_backup_compressed_bytes_total",
    Kind.COUNTER,
    BYTES,
    ("topic", "backup_id"),
    "Bytes of segments written to storage.",
)
SEGMENTS = Family("kafka_backup_segments_total", Kind.COUNTER, COUNT, _PLACE, "Segments created and durable.")
DURATION = Family(
    "kafka_backup_duration_seconds",
    Kind.HISTOGRAM,
    SECONDS,
    ("backup_id", "status"),
    "Duration of backup runs; status: success, failure.",
    buckets=_LONG,
)
RECORD_RATE = Family(
    "kafka_backup_throughput_records_per_second",
    Kind.GAUGE,
    COUNT,
    ("backup_id",),
    "Records a second over the last ten seconds; 0 once a run has ended.",
)
BYTE_RATE = Family(
    "kafka_backup_throughput_bytes_per_second",
    Kind.GAUGE,
    COUNT,
    ("backup_id",),
    "Bytes a second, uncompressed, over the last ten seconds; 0 once a run has ended.",
)
LAG = Family(
    "kafka_backup_lag_records",
    Kind.GAUGE,
    COUNT,
    _PLACE,
    "Offsets between what is durable and the high watermark as last seen.",
    alerts=(
        Alert(
            "KafkaBackupLagging",
            "{n} > 100000",
            "Backup {{ $labels.backup_id }} is {{ $value }} records behind the end of {{ $labels.topic }}-"
            "{{ $labels.partition }}.",
            hold="10m",
        ),
    ),
)
COMPRESSION = Family(
    "kafka_backup_compression_ratio",
    Kind.GAUGE,
    COUNT,
    ("backup_id", "algorithm"),
    "Bytes uncompressed divided by bytes stored, by what stored bytes are compressed with, by us or by the producer: "
    "zstd, lz4, gzip, snappy, none.",
)
UNSTABLE = Family(
    "kafka_backup_unstable_records",
    Kind.GAUGE,
    COUNT,
    _PLACE,
    "Offsets between the last stable offset and the high watermark: a transaction that nobody ends keeps them from "
    "being read, and so from being backed up.",
    alerts=(
        Alert(
            "KafkaBackupHeldUpByTransaction",
            "{n} > 0",
            "An open transaction keeps the end of {{ $labels.topic }}-{{ $labels.partition }} from being backed up; "
            "kafka-transactions.sh find-hanging tells whose it is.",
            hold="30m",
        ),
    ),
)
GAPS = Family(
    "kafka_backup_offset_gaps_total",
    Kind.COUNTER,
    COUNT,
    _PLACE,
    "Ranges of offsets that were gone from the log before they could be backed up.",
    alerts=(
        Alert(
            "KafkaBackupGap",
            "increase({n}[1d]) > 0",
            "Records of {{ $labels.topic }}-{{ $labels.partition }} were deleted before they were backed up: back up "
            "more often, or keep them longer.",
            hold="0m",
            severity="critical",
        ),
    ),
)
SKIPPED = Family(
    "kafka_backup_offsets_skipped_total",
    Kind.COUNTER,
    COUNT,
    _PLACE,
    "Offsets in those ranges.",
)
SNAPSHOT_TARGET = Family(
    "kafka_backup_snapshot_records_target",
    Kind.GAUGE,
    COUNT,
    ("backup_id",),
    "Offsets between where the run began and the ends it is to reach, all partitions together.",
)
SNAPSHOT_REMAINING = Family(
    "kafka_backup_snapshot_records_remaining",
    Kind.GAUGE,
    COUNT,
    ("backup_id",),
    "How many of them are not durable yet; 0 when a run is complete.",
)
LAST_COMMIT = Family(
    "kafka_backup_last_commit_timestamp_seconds",
    Kind.GAUGE,
    TIMESTAMP,
    ("backup_id",),
    "Unix time at which the manifest last took up segments.",
)

# Restores

RESTORED = Family(
    "kafka_restore_records_total",
    Kind.COUNTER,
    COUNT,
    _PLACE,
    "Records that the target has acknowledged (topic and partition of the target, backup_id of the source).",
)
RESTORED_BYTES = Family(
    "kafka_restore_bytes_total",
    Kind.COUNTER,
    BYTES,
    ("topic", "backup_id"),
    "Bytes of these records' batches, uncompressed as far as the backup counted them.",
)
RESTORE_DURATION = Family(
    "kafka_restore_duration_seconds",
    Kind.HISTOGRAM,
    SECONDS,
    ("backup_id", "status"),
    "Duration of restores; status: success, failure.",
    buckets=_LONG,
)
RESTORE_PROGRESS = Family(
    "kafka_restore_progress_percent",
    Kind.GAUGE,
    PERCENT,
    ("backup_id",),
    "How much of what is to be restored the target has acknowledged, 0 to 100.",
)
RESTORE_RATE = Family(
    "kafka_restore_throughput_records_per_second",
    Kind.GAUGE,
    COUNT,
    ("backup_id",),
    "Records a second over the last ten seconds; 0 once a restore has ended.",
)
RESTORE_ETA = Family(
    "kafka_restore_eta_seconds",
    Kind.GAUGE,
    SECONDS,
    ("backup_id",),
    "Time left at the rate so far. Not there before there is a rate; 0 once a restore has ended.",
)

# Offsets of consumer groups

RESET_PARTITIONS = Family(
    "kafka_offset_reset_partitions_total",
    Kind.COUNTER,
    COUNT,
    ("consumer_group", "status"),
    "Partitions whose committed offset was set; status: success, failure.",
)
RESET_DURATION = Family(
    "kafka_offset_reset_duration_seconds",
    Kind.HISTOGRAM,
    SECONDS,
    ("consumer_group", "status"),
    "Duration of setting all offsets of a group.",
    buckets=_RESET,
)
RESET_LATENCY = Family(
    "kafka_offset_reset_latency_seconds",
    Kind.HISTOGRAM,
    SECONDS,
    ("consumer_group",),
    "Time until a partition's offset was set and read back.",
    buckets=_SHORT,
)
RESET_PERCENTILE = Family(
    "kafka_offset_reset_latency_percentile_seconds",
    Kind.GAUGE,
    SECONDS,
    ("consumer_group", "percentile"),
    "The same as exact percentiles: p50, p90, p99.",
)

# Errors and storage

ERRORS = Family(
    "kafka_backup_errors_total",
    Kind.COUNTER,
    COUNT,
    ("operation", "error_type"),
    "Errors that a command gave up over; operation: backup, restore, validate, offset_reset; error_type: the codes of "
    "the guide.",
    alerts=(
        Alert(
            "KafkaBackupFailed",
            '{n}{operation="backup"} > 0',
            "A Kafka backup has failed ({{ $labels.error_type }}): its command says more, and is to be run again.",
            severity="critical",
        ),
    ),
)
RETRIES = Family(
    "kafka_backup_retries_total",
    Kind.COUNTER,
    COUNT,
    ("operation", "reason"),
    "Requests made again; reason: the code of what went wrong.",
)
STORAGE_WRITTEN = Family(
    "kafka_backup_storage_write_bytes_total",
    Kind.COUNTER,
    BYTES,
    ("backend", "backup_id"),
    "Bytes written to storage, manifest and indexes included; backend: filesystem, s3, azure, gcs.",
)
STORAGE_WRITE = Family(
    "kafka_backup_storage_write_latency_seconds",
    Kind.HISTOGRAM,
    SECONDS,
    ("backend", "operation"),
    "Time of one write. operation: segment (segments and their indexes), checkpoint (records of the manifest: its end "
    "is the checkpoint), manifest (what a run saw of the cluster, offset maps, probes).",
    buckets=_SHORT,
)
STORAGE_READ_BYTES = Family(
    "kafka_backup_storage_read_bytes_total",
    Kind.COUNTER,
    BYTES,
    ("backend", "backup_id"),
    "Bytes read from storage.",
)
STORAGE_READ = Family(
    "kafka_backup_storage_read_latency_seconds",
    Kind.HISTOGRAM,
    SECONDS,
    ("backend",),
    "Time of one read.",
    buckets=_SHORT,
)
STORAGE_ERRORS = Family(
    "kafka_backup_storage_errors_total",
    Kind.COUNTER,
    COUNT,
    ("backend", "operation", "error"),
    "Requests that storage failed; operation: list, head, read, create, delete; error: not_found, denied, "
    "unavailable, corrupt, conflict. Of these, conflict and not_found may be answers to a question.",
)

# A Kubernetes operator's: names that are kept for it

_OPERATOR = " Kept for a Kubernetes operator; nothing emits it yet."
OPERATOR = (
    Family(
        "kafka_backup_operator_reconciliations_total",
        Kind.COUNTER,
        COUNT,
        ("kind", "result"),
        "Reconciliation loops; result: success, failure, requeue." + _OPERATOR,
    ),
    Family(
        "kafka_backup_operator_reconciliation_errors_total",
        Kind.COUNTER,
        COUNT,
        ("kind",),
        "Reconciliation errors." + _OPERATOR,
    ),
    Family(
        "kafka_backup_operator_reconcile_duration_seconds",
        Kind.HISTOGRAM,
        SECONDS,
        ("kind",),
        "Duration of a reconciliation loop." + _OPERATOR,
        buckets=_SHORT,
    ),
    Family("kafka_backup_operator_managed_resources", Kind.GAUGE, COUNT, ("kind",), "Managed resources." + _OPERATOR),
    Family("kafka_backup_operator_health", Kind.GAUGE, FLAG, (), "1 healthy, 0 unhealthy." + _OPERATOR),
)

FAMILIES = (
    RECORDS, BACKUP_BYTES, COMPRESSED, SEGMENTS, DURATION, RECORD_RATE, BYTE_RATE, LAG, COMPRESSION, UNSTABLE, GAPS,
    SKIPPED, SNAPSHOT_TARGET, SNAPSHOT_REMAINING, LAST_COMMIT, RESTORED, RESTORED_BYTES, RESTORE_DURATION,
    RESTORE_PROGRESS, RESTORE_RATE, RESTORE_ETA, RESET_PARTITIONS, RESET_DURATION, RESET_LATENCY, RESET_PERCENTILE,
    ERRORS, RETRIES, STORAGE_WRITTEN, STORAGE_WRITE, STORAGE_READ_BYTES, STORAGE_READ, STORAGE_ERRORS, *OPERATOR,
)  # fmt: skip
