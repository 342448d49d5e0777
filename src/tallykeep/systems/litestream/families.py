"""The metric families of Litestream: the eleven published ones, and those that tell what no listing shows.

The published eleven are sums over all targets. Every other family has a label `target`: one target is one replica
of one database. A plain figure whose source is silent is withdrawn; a verdict says unknown instead. Alert rules
stand with the family they read and also fire while it is unknown or withdrawn.
Source: contract/metrics.tsv; Litestream 0.5.17.
"""

from __future__ import annotations

from tallykeep.metrics import UNKNOWN, Family, Kind
from tallykeep.systems.litestream import alerts
from tallykeep.units import BYTES, COUNT, FLAG, SECONDS, STATE, TIMESTAMP

_SUM = "summed over targets"
_BY_LEVEL = "published name: the unit stands before by_level"
_NOT_TOTAL = "published name: a gauge that only rises"

# The eleven published families.

LOCAL_FILES = Family(
    "ops_litestream_local_ltx_files", Kind.GAUGE, COUNT, (),
    f"LTX files in the local metadata directory, {_SUM}.",
)  # fmt: skip
LOCAL_BYTES = Family(
    "ops_litestream_local_ltx_bytes", Kind.GAUGE, BYTES, (),
    f"Total size of LTX files in the local metadata directory, {_SUM}.",
)  # fmt: skip
LOCAL_FILES_BY_LEVEL = Family(
    "ops_litestream_local_ltx_files_by_level", Kind.GAUGE, COUNT, ("level", "level_name"),
    f"LTX files by compaction level (local), {_SUM}.",
)  # fmt: skip
LOCAL_BYTES_BY_LEVEL = Family(
    "ops_litestream_local_ltx_bytes_by_level", Kind.GAUGE, BYTES, ("level", "level_name"),
    f"Size of LTX files by compaction level (local), {_SUM}.", legacy=_BY_LEVEL,
)  # fmt: skip
REMOTE_FILES = Family(
    "ops_litestream_remote_ltx_files", Kind.GAUGE, COUNT, (),
    f"LTX files in the remote replica, {_SUM}; 0 where no replica is configured.",
)  # fmt: skip
REMOTE_BYTES = Family(
    "ops_litestream_remote_ltx_bytes", Kind.GAUGE, BYTES, (),
    f"Total size of LTX files in the remote replica, {_SUM}; 0 where no replica is configured.",
)  # fmt: skip
REMOTE_FILES_BY_LEVEL = Family(
    "ops_litestream_remote_ltx_files_by_level", Kind.GAUGE, COUNT, ("level", "level_name"),
    f"LTX files by compaction level (remote), {_SUM}; 0 where no replica is configured.",
)  # fmt: skip
REMOTE_BYTES_BY_LEVEL = Family(
    "ops_litestream_remote_ltx_bytes_by_level", Kind.GAUGE, BYTES, ("level", "level_name"),
    f"Size of LTX files by compaction level (remote), {_SUM}; 0 where no replica is configured.", legacy=_BY_LEVEL,
)  # fmt: skip
LAST_SCRAPE = Family(
    "ops_litestream_last_scrape_timestamp_seconds", Kind.GAUGE, TIMESTAMP, (),
    "Unix time of the last successful scrape: every source of every target was read at or after it. "
    "0 before the first; it stays when a source fails.",
    alerts=alerts.LAST_SCRAPE,
)  # fmt: skip
SCRAPE_DURATION = Family(
    "ops_litestream_scrape_duration_seconds", Kind.GAUGE, SECONDS, (),
    "Duration of the last scrape: the longest of the latest readings of its sources, failed ones included.",
)  # fmt: skip
SCRAPE_ERRORS = Family(
    "ops_litestream_scrape_errors", Kind.GAUGE, COUNT, ("source",),
    "Total scrape errors by source (local, remote) since tallykeep started.", legacy=_NOT_TOTAL,
)  # fmt: skip

# What is watched.

TARGET_INFO = Family(
    "ops_litestream_target_info", Kind.GAUGE, FLAG, ("target", "database", "local", "replica", "kind"),
    "1 for each target, with its database file, its local LTX folder, its replica (without credentials) and the "
    "kind of replica; empty where it has none.",
)  # fmt: skip
FILES = Family(
    "ops_litestream_ltx_files", Kind.GAUGE, COUNT, ("target", "source", "level"),
    "LTX files of a target by source (local, remote) and compaction level.",
)  # fmt: skip
SIZE = Family(
    "ops_litestream_ltx_bytes", Kind.GAUGE, BYTES, ("target", "source", "level"),
    "Size of the LTX files of a target by source (local, remote) and compaction level.",
)  # fmt: skip
NEWEST_TXID = Family(
    "ops_litestream_newest_txid", Kind.GAUGE, COUNT, ("target", "source"),
    "Highest TXID among the LTX files of a target by source (local, remote), reachable by a restore or not. "
    "Withdrawn where there is no file.",
    alerts=alerts.NEWEST_TXID,
)  # fmt: skip
TEMPORARY_FILES = Family(
    "ops_litestream_temporary_files", Kind.GAUGE, COUNT, ("target", "source"),
    "Unfinished .ltx.tmp files by source. Normal for milliseconds; a killed Litestream leaves them on a file replica.",
)  # fmt: skip

# Can it be restored?

VERDICT = Family(
    "ops_litestream_replica_verdict", Kind.STATE_SET, STATE, ("target",),
    "Whether the replica can be restored to its newest TXID, by Litestream's own plan rules and by what sweep and "
    "drill have found since: restorable, unrestorable, or unknown while the replica cannot be listed.",
    states=("restorable", "unrestorable", UNKNOWN), alerts=alerts.VERDICT,
)  # fmt: skip
REASON = Family(
    "ops_litestream_replica_reason", Kind.GAUGE, FLAG, ("target", "reason"),
    "1 for each reason that holds against the replica: no_base, gap, stale, corrupt, missing_pages, "
    "malformed_database, empty, unreachable.",
    alerts=alerts.REASON,
)  # fmt: skip
RESTORABLE_TXID = Family(
    "ops_litestream_restorable_txid", Kind.GAUGE, COUNT, ("target",),
    "TXID a restore reaches now. Withdrawn while nothing can be restored.",
)  # fmt: skip
PLAN_FILES = Family(
    "ops_litestream_restore_plan_files", Kind.GAUGE, COUNT, ("target",),
    "LTX files a restore would fetch.",
)  # fmt: skip
PLAN_BYTES = Family(
    "ops_litestream_restore_plan_bytes", Kind.GAUGE, BYTES, ("target",),
    "Bytes a restore would fetch.",
)  # fmt: skip
GAPS = Family(
    "ops_litestream_txid_gaps", Kind.GAUGE, COUNT, ("target", "level", "covered"),
    "Runs of TXIDs missing from a level, by whether other levels hold them (covered true) or none does (false).",
    alerts=alerts.GAPS,
)  # fmt: skip
SNAPSHOT_TIME = Family(
    "ops_litestream_snapshot_timestamp_seconds", Kind.GAUGE, TIMESTAMP, ("target",),
    "Data time of the newest full snapshot. Withdrawn where there is none.",
    alerts=alerts.SNAPSHOT,
)  # fmt: skip
PITR_OLDEST = Family(
    "ops_litestream_pitr_oldest_timestamp_seconds", Kind.GAUGE, TIMESTAMP, ("target",),
    "Oldest moment a point-in-time restore can reach.",
)  # fmt: skip
PITR_NEWEST = Family(
    "ops_litestream_pitr_newest_timestamp_seconds", Kind.GAUGE, TIMESTAMP, ("target",),
    "Newest moment a point-in-time restore can reach: the data time of the restorable TXID.",
)  # fmt: skip

# What would be lost now?

RPO_COMMITS = Family(
    "ops_litestream_rpo_commits", Kind.GAUGE, COUNT, ("target",),
    "Commits in the database that the replica does not hold, counted exactly in the WAL. Withdrawn where the WAL "
    "does not tell: then ops_litestream_rpo_at_least stands.",
)  # fmt: skip
RPO_AT_LEAST = Family(
    "ops_litestream_rpo_at_least", Kind.GAUGE, COUNT, ("target", "reason"),
    "Commits that the replica lacks at the least, with the reason why the exact number cannot be told.",
)  # fmt: skip
RPO_WAL_BYTES = Family(
    "ops_litestream_rpo_wal_bytes", Kind.GAUGE, BYTES, ("target",),
    "Bytes of committed WAL that the replica does not hold.",
)  # fmt: skip
RPO_SECONDS = Family(
    "ops_litestream_rpo_seconds", Kind.GAUGE, SECONDS, ("target",),
    "Seconds since the newest data on the replica, at the moment of looking; 0 when the replica lacks nothing.",
    alerts=alerts.RPO,
)  # fmt: skip
LAG_TXIDS = Family(
    "ops_litestream_replica_lag_txids", Kind.GAUGE, COUNT, ("target",),
    "TXIDs of the local side beyond the restorable TXID of the replica.",
)  # fmt: skip

# Are the bytes sound?

SWEEP_RESULT = Family(
    "ops_litestream_sweep_result", Kind.STATE_SET, STATE, ("target",),
    "What reading the files has shown: sound (every file of the restore plan was read and is whole), corrupt, or "
    "unknown (not all of them have been read yet, or they cannot be).",
    states=("sound", "corrupt", UNKNOWN), alerts=alerts.SWEEP,
)  # fmt: skip
VERIFIED_FILES = Family(
    "ops_litestream_verified_files_total", Kind.COUNTER, COUNT, ("target",),
    "LTX files read and verified by the sweep.",
)  # fmt: skip
VERIFIED_BYTES = Family(
    "ops_litestream_verified_bytes_total", Kind.COUNTER, BYTES, ("target",),
    "Bytes of LTX files read and verified by the sweep.",
)  # fmt: skip
CORRUPT_FILES = Family(
    "ops_litestream_corrupt_files", Kind.GAUGE, COUNT, ("target", "level", "reason"),
    "Listed LTX files that are not sound, by level and by what is wrong with them.",
    alerts=alerts.CORRUPT,
)  # fmt: skip
UNVERIFIED_FILES = Family(
    "ops_litestream_unverified_files", Kind.GAUGE, COUNT, ("target",),
    "Listed LTX files that the sweep has not read yet.",
)  # fmt: skip
MISSING_PAGES = Family(
    "ops_litestream_plan_missing_pages", Kind.GAUGE, COUNT, ("target",),
    "Database pages that no file of the restore plan holds. Withdrawn until the whole plan has been read.",
    alerts=alerts.MISSING_PAGES,
)  # fmt: skip

# Does a restore work?

DRILL_RESULT = Family(
    "ops_litestream_drill_result", Kind.STATE_SET, STATE, ("target",),
    "Result of the last restore drill: ok, failed, inconclusive (it could not be carried through), or unknown "
    "(none has run).",
    states=("ok", "failed", "inconclusive", UNKNOWN), alerts=alerts.DRILL,
)  # fmt: skip
DRILL_LAST_SUCCESS = Family(
    "ops_litestream_drill_last_success_timestamp_seconds", Kind.GAUGE, TIMESTAMP, ("target",),
    "Unix time of the last restore drill that succeeded; 0 before the first.",
    alerts=alerts.DRILL_AGE,
)  # fmt: skip
DRILL_DURATION = Family(
    "ops_litestream_drill_duration_seconds", Kind.GAUGE, SECONDS, ("target",),
    "Duration of the last restore drill.",
)  # fmt: skip
DRILL_TXID = Family(
    "ops_litestream_drill_restored_txid", Kind.GAUGE, COUNT, ("target",),
    "TXID the last restore drill restored.",
)  # fmt: skip
DRILL_RUNS = Family(
    "ops_litestream_drill_runs_total", Kind.COUNTER, COUNT, ("target", "result"),
    "Restore drills by result (ok, failed, inconclusive).",
)  # fmt: skip
DRILL_MATCH = Family(
    "ops_litestream_drill_live_match", Kind.STATE_SET, STATE, ("target",),
    "Whether the image of the last restore drill equals the live database at its TXID: matches, differs, or unknown "
    "(the live database cannot be read, or has moved on too far to compare).",
    states=("matches", "differs", UNKNOWN), alerts=alerts.MATCH,
)  # fmt: skip
DRILL_MISMATCHED = Family(
    "ops_litestream_drill_mismatched_pages", Kind.GAUGE, COUNT, ("target",),
    "Pages of the last drill's image that differ from the live database.",
)  # fmt: skip

# How the stores are used.

STORE_REQUESTS = Family(
    "ops_litestream_store_requests_total", Kind.COUNTER, COUNT, ("target", "operation", "result"),
    "Requests tallykeep made to the replica, by operation (list, head, read, ...) and result (ok or an error code).",
)  # fmt: skip
STORE_BYTES = Family(
    "ops_litestream_store_read_bytes_total", Kind.COUNTER, BYTES, ("target",),
    "Bytes tallykeep read from the replica.",
)  # fmt: skip

PUBLISHED = (
    LOCAL_FILES, LOCAL_BYTES, LOCAL_FILES_BY_LEVEL, LOCAL_BYTES_BY_LEVEL,
    REMOTE_FILES, REMOTE_BYTES, REMOTE_FILES_BY_LEVEL, REMOTE_BYTES_BY_LEVEL,
    LAST_SCRAPE, SCRAPE_DURATION, SCRAPE_ERRORS,
)  # fmt: skip
FAMILIES = (
    *PUBLISHED,
    TARGET_INFO, FILES, SIZE, NEWEST_TXID, TEMPORARY_FILES,
    VERDICT, REASON, RESTORABLE_TXID, PLAN_FILES, PLAN_BYTES, GAPS, SNAPSHOT_TIME, PITR_OLDEST, PITR_NEWEST,
    RPO_COMMITS, RPO_AT_LEAST, RPO_WAL_BYTES, RPO_SECONDS, LAG_TXIDS,
    SWEEP_RESULT, VERIFIED_FILES, VERIFIED_BYTES, CORRUPT_FILES, UNVERIFIED_FILES, MISSING_PAGES,
    DRILL_RESULT, DRILL_LAST_SUCCESS, DRILL_DURATION, DRILL_TXID, DRILL_RUNS, DRILL_MATCH, DRILL_MISMATCHED,
    STORE_REQUESTS, STORE_BYTES,
)  # fmt: skip
