"""The metric families of PostgreSQL protection: the 25 published ones, and those that say what would be lost.

Their published names are OpenTelemetry's, with dots and the meter `klio`; the first name of each is what a Prometheus
page shows, the standard translation of the second. With more than one cluster those without `cluster_name` or
`snapshot_source` gain the label `cluster_name`: see `of_cluster`.
Source: contract/metrics.tsv; Klio 0.0.15.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from tallykeep.metrics import UNKNOWN, Family, Kind
from tallykeep.systems.postgres import alerts
from tallykeep.units import BYTES, COUNT, FLAG, SECONDS, STATE, TIMESTAMP, Unit

_BYTES = Unit("_bytes", "By", "bytes")
_SECONDS = Unit("_seconds", "s", "s")
_MOMENT = Unit("_seconds", "s", "dateTimeFromNow")  # Unix time
_PLAIN = Unit("", "", "short")

_CLUSTER = ("cluster_name",)
_SOURCE = ("snapshot_source",)

# A backup, from its start to its end.

BACKUP_RUNNING = Family(
    "klio_backup_running", Kind.GAUGE, _PLAIN, (),
    "Whether a backup is running (1) or not (0).", otel="klio.backup.running",
)  # fmt: skip
BACKUP_LATEST_START_TIME = Family(
    "klio_backup_latest_start_time_seconds", Kind.GAUGE, _MOMENT, (),
    "Unix time when the most recent backup started.", otel="klio.backup.latest_start_time",
)  # fmt: skip
BACKUP_LATEST_COMPLETION_TIME = Family(
    "klio_backup_latest_completion_time_seconds", Kind.GAUGE, _MOMENT, (),
    "Unix time when the most recent backup completed successfully.", otel="klio.backup.latest_completion_time",
)  # fmt: skip
BACKUP_LATEST_FAILURE_TIME = Family(
    "klio_backup_latest_failure_time_seconds", Kind.GAUGE, _MOMENT, (),
    "Unix time when the most recent backup failed.", otel="klio.backup.latest_failure_time",
    alerts=alerts.BACKUP_FAILED,
)  # fmt: skip
BACKUP_LATEST_DURATION_SECONDS = Family(
    "klio_backup_latest_duration_seconds", Kind.GAUGE, _SECONDS, (),
    "Duration of the most recent backup.", otel="klio.backup.latest_duration_seconds",
)  # fmt: skip
BACKUP_SUCCESSES = Family(
    "klio_backup_successes_total", Kind.COUNTER, _PLAIN, (),
    "Successful backups.", otel="klio.backup.successes",
)  # fmt: skip
BACKUP_FAILURES = Family(
    "klio_backup_failures_total", Kind.COUNTER, _PLAIN, (),
    "Failed backups.", otel="klio.backup.failures",
)  # fmt: skip
BACKUP_VERIFICATIONS = Family(
    "klio_backup_verifications_total", Kind.COUNTER, _PLAIN, (),
    "Backup verification attempts.", otel="klio.backup.verifications",
)  # fmt: skip
BACKUP_VERIFICATION_FAILURES = Family(
    "klio_backup_verification_failures_total", Kind.COUNTER, _PLAIN, (),
    "Backup verification failures.", otel="klio.backup.verification_failures",
)  # fmt: skip

# What Klio's families leave open of a backup.

BACKUP_RUNS = Family(
    "tallykeep_postgres_backup_runs_total", Kind.COUNTER, COUNT, ("cluster_name", "outcome"),
    "Base backups by outcome (ok, failed, interrupted).",
)  # fmt: skip
BACKUP_FAILURE_CATEGORIES = Family(
    "tallykeep_postgres_backup_failures_by_category_total", Kind.COUNTER, COUNT, ("cluster_name", "category"),
    "Base backups that failed, by the code of the error: unreachable, refused, unavailable, denied, integrity, restore "
    "(its WAL did not come) and others. Absent before the first of its kind.",
)  # fmt: skip
BACKUP_STAGE_SECONDS = Family(
    "tallykeep_postgres_backup_stage_seconds", Kind.GAUGE, SECONDS, ("cluster_name", "stage"),
    "Duration of the latest base backup that ended, by stage: copy (its files), wal (waiting for its WAL), verify. A "
    "stage that it did not come to is absent.",
)  # fmt: skip

# WAL as it arrives: tier 1.

WAL_WRITTEN_SIZE = Family(
    "klio_wal_written_size_bytes_total", Kind.COUNTER, _BYTES, _CLUSTER,
    "Bytes of WAL written to disk (tier 1).", otel="klio.wal.written_size",
)  # fmt: skip
WAL_WRITTEN = Family(
    "klio_wal_written_total", Kind.COUNTER, _PLAIN, _CLUSTER,
    "WAL files written to disk (tier 1).", otel="klio.wal.written", alerts=alerts.GONE,
)  # fmt: skip
WAL_LATEST_WRITTEN_TIME = Family(
    "klio_wal_latest_written_time_seconds", Kind.GAUGE, _MOMENT, _CLUSTER,
    "Unix time of the WAL file most recently written to disk.", otel="klio.wal.latest_written_time",
)  # fmt: skip

# What goes on to tier 2, and what verification found.

CONSUMER_WRITTEN_SIZE = Family(
    "klio_consumer_written_size_bytes_total", Kind.COUNTER, _BYTES, _CLUSTER,
    "Bytes of WAL written to tier 2.", otel="klio.consumer.written_size",
)  # fmt: skip
CONSUMER_WRITTEN = Family(
    "klio_consumer_written_total", Kind.COUNTER, _PLAIN, _CLUSTER,
    "WAL files written to tier 2.", otel="klio.consumer.written",
)  # fmt: skip
CONSUMER_LATEST_WRITTEN_TIME = Family(
    "klio_consumer_latest_written_time_seconds", Kind.GAUGE, _MOMENT, _CLUSTER,
    "Unix time of the WAL file most recently written to tier 2.", otel="klio.consumer.latest_written_time",
)  # fmt: skip
CONSUMER_BACKUP_VERIFICATION_SUCCESS = Family(
    "klio_consumer_backup_verification_success_total", Kind.COUNTER, _PLAIN, ("tier",),
    "Successful backup verifications, by tier.", otel="klio.consumer.backup_verification_success",
)  # fmt: skip
CONSUMER_BACKUP_VERIFICATION_FAILURE = Family(
    "klio_consumer_backup_verification_failure_total", Kind.COUNTER, _PLAIN, ("tier",),
    "Failed backup verifications (corruption detected), by tier.", otel="klio.consumer.backup_verification_failure",
)  # fmt: skip

# Base snapshots held.

BASE_SNAPSHOTS = Family(
    "klio_base_snapshots", Kind.GAUGE, _PLAIN, _SOURCE,
    "Base snapshots held.", otel="klio.base.snapshots", alerts=alerts.NO_BACKUP,
)  # fmt: skip
BASE_LATEST_SNAPSHOT_SIZE = Family(
    "klio_base_latest_snapshot_size_bytes", Kind.GAUGE, _BYTES, _SOURCE,
    "Size of the latest base snapshot, ignoring compression and deduplication.", otel="klio.base.latest_snapshot_size",
)  # fmt: skip
BASE_LATEST_SNAPSHOT_FILES = Family(
    "klio_base_latest_snapshot_files", Kind.GAUGE, _PLAIN, _SOURCE,
    "Files in the latest base snapshot.", otel="klio.base.latest_snapshot_files",
)  # fmt: skip
BASE_LATEST_SNAPSHOT_DIRS = Family(
    "klio_base_latest_snapshot_dirs", Kind.GAUGE, _PLAIN, _SOURCE,
    "Directories in the latest base snapshot.", otel="klio.base.latest_snapshot_dirs",
)  # fmt: skip
BASE_LATEST_SNAPSHOT_AGE = Family(
    "klio_base_latest_snapshot_age_seconds", Kind.GAUGE, _SECONDS, _SOURCE,
    "Age of the latest base snapshot.", otel="klio.base.latest_snapshot_age", age=True,
    alerts=alerts.BACKUP_OLD,
)  # fmt: skip
BASE_OLDEST_SNAPSHOT_AGE = Family(
    "klio_base_oldest_snapshot_age_seconds", Kind.GAUGE, _SECONDS, _SOURCE,
    "Age of the oldest base snapshot.", otel="klio.base.oldest_snapshot_age", age=True,
)  # fmt: skip

# What waits to go to tier 2.

QUEUE_MESSAGES = Family(
    "klio_queue_messages", Kind.GAUGE, _PLAIN, ("stream",),
    "Messages stored in the JetStream queue.", otel="klio.queue.messages",
)  # fmt: skip
QUEUE_BYTES = Family(
    "klio_queue_bytes", Kind.GAUGE, _BYTES, ("stream",),
    "Bytes stored in the JetStream queue.", otel="klio.queue.bytes",
)  # fmt: skip

PUBLISHED = (
    BACKUP_RUNNING,
    BACKUP_LATEST_START_TIME,
    BACKUP_LATEST_COMPLETION_TIME,
    BACKUP_LATEST_FAILURE_TIME,
    BACKUP_LATEST_DURATION_SECONDS,
    BACKUP_SUCCESSES,
    BACKUP_FAILURES,
    BACKUP_VERIFICATIONS,
    BACKUP_VERIFICATION_FAILURES,
    WAL_WRITTEN_SIZE,
    WAL_WRITTEN,
    WAL_LATEST_WRITTEN_TIME,
    CONSUMER_WRITTEN_SIZE,
    CONSUMER_WRITTEN,
    CONSUMER_LATEST_WRITTEN_TIME,
    CONSUMER_BACKUP_VERIFICATION_SUCCESS,
    CONSUMER_BACKUP_VERIFICATION_FAILURE,
    BASE_SNAPSHOTS,
    BASE_LATEST_SNAPSHOT_SIZE,
    BASE_LATEST_SNAPSHOT_FILES,
    BASE_LATEST_SNAPSHOT_DIRS,
    BASE_LATEST_SNAPSHOT_AGE,
    BASE_OLDEST_SNAPSHOT_AGE,
    QUEUE_MESSAGES,
    QUEUE_BYTES,
)

# What would be lost now, and what stands in the way. Tier: "1" is local disk, "2" object storage.

_TIER = ("cluster_name", "tier")

RPO_BYTES = Family(
    "tallykeep_postgres_rpo_bytes", Kind.GAUGE, BYTES, _TIER,
    "Bytes of WAL that the primary has and the tier does not hold durably, by the primary's own position. What would "
    "be lost with the primary now.",
)  # fmt: skip
RPO_SECONDS = Family(
    "tallykeep_postgres_rpo_seconds", Kind.GAUGE, SECONDS, _TIER,
    "Seconds since the tier last held all WAL that the primary had; 0 while it does, also on an idle database. Time in "
    "which no server looked counts.",
    alerts=alerts.RPO,
)  # fmt: skip
WAL_GAPS = Family(
    "tallykeep_postgres_wal_gaps", Kind.GAUGE, COUNT, _TIER,
    "Stretches of WAL that are missing between the first and the last that the tier holds.", alerts=alerts.GAPS,
)  # fmt: skip
SLOT_RETAINED = Family(
    "tallykeep_postgres_slot_retained_bytes", Kind.GAUGE, BYTES, _CLUSTER,
    "Bytes of WAL that the slot of tallykeep keeps on the primary.", alerts=alerts.RETAINED,
)  # fmt: skip
SLOT_SAFE = Family(
    "tallykeep_postgres_slot_safe_bytes", Kind.GAUGE, BYTES, _CLUSTER,
    "Bytes of WAL that the primary can write before the slot is lost (pg_replication_slots.safe_wal_size). Absent "
    "without max_slot_wal_keep_size.",
    alerts=alerts.SLOT,
)  # fmt: skip
WAL_VERIFIED = Family(
    "tallykeep_postgres_wal_verified_position_bytes", Kind.GAUGE, BYTES, _CLUSTER,
    "Position in WAL (the LSN as a number) up to which every complete segment on local disk has been read back, and "
    "its records proved or found damaged (tallykeep_postgres_wal_damaged_segments). Absent before the first.",
)  # fmt: skip
WAL_DAMAGED = Family(
    "tallykeep_postgres_wal_damaged_segments", Kind.GAUGE, COUNT, _CLUSTER,
    "Segments on local disk that were found damaged when they were read back.", alerts=alerts.WAL_DAMAGED,
)  # fmt: skip
VERIFICATION_SOUND = Family(
    "tallykeep_postgres_verification_sound", Kind.GAUGE, FLAG, _TIER,
    "Whether the latest verification of the tier found every byte as it was written (1), or damage (0), as does one of "
    "a single backup since. Absent before the first.",
    alerts=alerts.CORRUPT,
)  # fmt: skip
VERIFICATION_TIME = Family(
    "tallykeep_postgres_verification_timestamp_seconds", Kind.GAUGE, TIMESTAMP, _TIER,
    "Unix time when every byte of the tier had been read last. Absent before the first time.",
)  # fmt: skip
DUE = Family(
    "tallykeep_postgres_due_timestamp_seconds", Kind.GAUGE, TIMESTAMP, (*_CLUSTER, "work"),
    "Unix time when scheduled work should have been done next, counted from when it last came to a good end: backup, "
    "verification (every tier), drill (ended ok). Absent where it is not scheduled, and before the first base backup.",
    alerts=alerts.DUE,
)  # fmt: skip
OFFLOAD_FAILED = Family(
    "tallykeep_postgres_offload_failed", Kind.GAUGE, COUNT, _CLUSTER,
    "WAL files and base backups that were given up on their way to tier 2, and are not there yet.",
    alerts=alerts.OFFLOAD_FAILED,
)  # fmt: skip
TIER2_OWNED = Family(
    "tallykeep_postgres_tier2_owned", Kind.GAUGE, FLAG, _CLUSTER,
    "Whether tier 2 is this server's to write (1), or another's (0).", alerts=alerts.TIER2_OWNED,
)  # fmt: skip

# Drills: restores for practice. Tier: the one that the latest restored from.

DRILL_RESULT = Family(
    "tallykeep_postgres_drill_result", Kind.STATE_SET, STATE, _TIER,
    "How the latest drill ended: ok, failed (a restore would not give back what was promised), inconclusive (it could "
    "not be carried through), or unknown (none was held).",
    states=("ok", "failed", "inconclusive", UNKNOWN), alerts=alerts.DRILL,
)  # fmt: skip
DRILL_TIME = Family(
    "tallykeep_postgres_drill_timestamp_seconds", Kind.GAUGE, TIMESTAMP, _TIER,
    "Unix time when the latest drill ended.",
)  # fmt: skip
DRILL_LAST_SUCCESS = Family(
    "tallykeep_postgres_drill_last_success_timestamp_seconds", Kind.GAUGE, TIMESTAMP, _TIER,
    "Unix time when a drill last ended ok; 0 before the first. Absent where none is scheduled.",
)  # fmt: skip
DRILL_DURATION = Family(
    "tallykeep_postgres_drill_duration_seconds", Kind.GAUGE, SECONDS, (*_TIER, "stage"),
    "Duration of the latest drill by stage: restore (files of the base backup), recovery (WAL, until PostgreSQL took "
    "queries), check. The first two are the recovery time.",
)  # fmt: skip
DRILL_RESTORED = Family(
    "tallykeep_postgres_drill_restored_bytes", Kind.GAUGE, BYTES, _TIER,
    "Bytes of the base backup that the latest drill restored.",
)  # fmt: skip
DRILL_POSITION = Family(
    "tallykeep_postgres_drill_recovered_position_bytes", Kind.GAUGE, BYTES, _TIER,
    "Position in WAL (the LSN as a number) that the latest drill recovered to.",
)  # fmt: skip
DRILL_BEHIND = Family(
    "tallykeep_postgres_drill_behind_bytes", Kind.GAUGE, BYTES, _TIER,
    "Bytes of WAL that the tier held for recovery, and that the latest drill did not recover.",
)  # fmt: skip
DRILL_COMMIT = Family(
    "tallykeep_postgres_drill_commit_timestamp_seconds", Kind.GAUGE, TIMESTAMP, _TIER,
    "Unix time of the last transaction that the latest drill recovered. Absent where WAL held none.",
)  # fmt: skip
DRILL_RUNS = Family(
    "tallykeep_postgres_drill_runs_total", Kind.COUNTER, COUNT, ("cluster_name", "outcome"),
    "Drills by outcome (ok, failed, inconclusive).",
)  # fmt: skip

# What is kept, and for how long.

RECOVERY_START = Family(
    "tallykeep_postgres_recovery_start_timestamp_seconds", Kind.GAUGE, TIMESTAMP, _TIER,
    "Unix time since when every moment can be restored from the tier, up to what it holds of WAL now. Absent while "
    "none can.",
)  # fmt: skip
RETENTION_LATEST = Family(
    "tallykeep_postgres_retention_latest_timestamp_seconds", Kind.GAUGE, TIMESTAMP, _TIER,
    "Unix time when retention last came to its end.", alerts=alerts.RETENTION_LATEST,
)  # fmt: skip
RETENTION_REFUSED = Family(
    "tallykeep_postgres_retention_refused", Kind.GAUGE, FLAG, _TIER,
    "Whether the last run of retention did nothing (1), since more than half of the backups would have gone.",
    alerts=alerts.RETENTION_REFUSED,
)  # fmt: skip
RETENTION_BACKUPS = Family(
    "tallykeep_postgres_retention_backups_total", Kind.COUNTER, COUNT, _TIER,
    "Base backups that retention has let go of.",
)  # fmt: skip
RETENTION_FREED = Family(
    "tallykeep_postgres_retention_freed_bytes_total", Kind.COUNTER, BYTES, _TIER,
    "Bytes of base backups and WAL that retention has deleted.",
)  # fmt: skip

# WAL as it arrives, and what is held of it.

WAL_FLUSH = Family(
    "tallykeep_postgres_wal_flush_seconds", Kind.HISTOGRAM, SECONDS, _CLUSTER,
    "How long it took to make received WAL durable: what a synchronous commit waits for besides the network.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)  # fmt: skip
WAL_RANGE_START = Family(
    "tallykeep_postgres_wal_range_start_position_bytes", Kind.GAUGE, BYTES, _TIER,
    "Position in WAL (the LSN as a number) from which on the tier holds all of it without a gap: a base backup that "
    "began there or later can be recovered to any moment since.",
)  # fmt: skip
WAL_RANGE_END = Family(
    "tallykeep_postgres_wal_range_end_position_bytes", Kind.GAUGE, BYTES, _TIER,
    "Position in WAL (the LSN as a number) up to which the tier holds it: how far a recovery comes.",
)  # fmt: skip

OFFLOAD_SECONDS = Family(
    "tallykeep_postgres_offload_seconds", Kind.HISTOGRAM, SECONDS, ("cluster_name", "kind"),
    "How long it took to copy a WAL file (wal) or a base backup (backup) to tier 2, those that were copied.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0),
)  # fmt: skip
WAL_TIMELINE = Family(
    "tallykeep_postgres_wal_timeline", Kind.GAUGE, COUNT, _TIER,
    "Timeline of the newest WAL that the tier holds. It rises when a standby is promoted.",
)  # fmt: skip

FAMILIES = (
    *PUBLISHED,
    BACKUP_RUNS,
    BACKUP_FAILURE_CATEGORIES,
    BACKUP_STAGE_SECONDS,
    OFFLOAD_SECONDS,
    WAL_TIMELINE,
    RPO_BYTES,
    RPO_SECONDS,
    WAL_GAPS,
    SLOT_RETAINED,
    SLOT_SAFE,
    WAL_VERIFIED,
    WAL_DAMAGED,
    VERIFICATION_SOUND,
    VERIFICATION_TIME,
    DUE,
    OFFLOAD_FAILED,
    TIER2_OWNED,
    DRILL_RESULT,
    DRILL_TIME,
    DRILL_LAST_SUCCESS,
    DRILL_DURATION,
    DRILL_RESTORED,
    DRILL_POSITION,
    DRILL_BEHIND,
    DRILL_COMMIT,
    DRILL_RUNS,
    RECOVERY_START,
    RETENTION_LATEST,
    RETENTION_REFUSED,
    RETENTION_BACKUPS,
    RETENTION_FREED,
    WAL_FLUSH,
    WAL_RANGE_START,
    WAL_RANGE_END,
)


@cache
def of_cluster(family: Family) -> Family:
    """The family as it is with more than one cluster: the label `cluster_name` besides, where nothing else tells."""
    told = {"cluster_name", "snapshot_source"} & set(family.labels)
    return family if told else replace(family, labels=(*family.labels, "cluster_name"))
