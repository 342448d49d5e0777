"""Alert rules of PostgreSQL protection, as data on their families.

The two stalls are told apart: nothing arrives from the primary (tier 1), and nothing goes on to object storage
(tier 2). Both are judged by what the primary has and tallykeep has not: the time of the last file alone would wake
somebody for every idle database. A rule also fires where its figure is withdrawn although the cluster is known, since
then nobody can say that it does not hold; but a primary that cannot be asked is no stall of a tier 2 that holds all
that tier 1 does. `{n}` is the family's own name.
"""

from __future__ import annotations

from tallykeep.metrics import Alert

_CLUSTER = "job, instance, cluster_name"
_EACH = f"max by ({_CLUSTER})"  # the same labels whatever fires: an alert goes on, and never starts anew
_WAL = "klio_wal_written_total"  # there from the start, at 0
_TIER_2 = "klio_consumer_written_total"
_RECOVERABLE = "tallykeep_postgres_recovery_start_timestamp_seconds"
_REFUSED = "tallykeep_postgres_retention_refused"
_RETAINED = "tallykeep_postgres_slot_retained_bytes"
_END = "tallykeep_postgres_wal_range_end_position_bytes"
_DUE = "tallykeep_postgres_due_timestamp_seconds"
_COMPLETED = "klio_backup_latest_completion_time_seconds"


# Object storage that does not answer: its backups cannot be seen, and other alerts are for that.
_UNSEEN_TIER_2 = f'({{n}}{{tier="2"}} unless on ({_CLUSTER}, tier) {_REFUSED})'


def _behind(tier: str, seconds: int, known: str) -> str:
    """WAL of more than `seconds` is missing in the tier, or for a cluster with `known` it is not told how much."""
    return (
        f'{_EACH} ({{n}}{{tier="{tier}"}} > {seconds}) '
        f'or {_EACH} ({known} unless on ({_CLUSTER}) {{n}}{{tier="{tier}"}})'
    )


_BOTH_TIERS = f"({_WAL} and on ({_CLUSTER}) {_TIER_2})"  # without a connection to a primary there is nothing to miss
_ALL_OF_TIER_1 = f'({_END}{{tier="2"}} >= on ({_CLUSTER}) {_END}{{tier="1"}})'

RPO = (
    Alert(
        "PostgresWalNotArriving",
        _behind("1", 300, _WAL),
        "WAL of {{ $labels.cluster_name }} is not arriving: the primary is more than 5 minutes ahead, or cannot be "
        "asked. Replication has stopped, or the primary is down.",
        hold="2m",
        severity="critical",
    ),
    Alert(
        "PostgresWalNotOffloaded",
        _behind("2", 900, f"{_BOTH_TIERS} unless on ({_CLUSTER}) {_ALL_OF_TIER_1}"),
        "WAL of {{ $labels.cluster_name }} does not reach tier 2: object storage is more than 15 minutes behind, or "
        "nobody can tell. It is still arriving on tier 1 unless PostgresWalNotArriving fires as well.",
    ),
)
GONE = (
    Alert(
        "PostgresServerGone",
        # instances are named anew with each Pod, so a cluster is looked for under its name; where a scrape finds
        # nobody at an address that is still there, two clusters of one name are told apart as well
        "max by (job, cluster_name) (last_over_time({n}[1d]) and on (job, instance) (up == 0)) "
        "or (max by (job, cluster_name) (last_over_time({n}[1d])) unless on (job, cluster_name) {n})",
        "Nothing is heard of the tallykeep that protects {{ $labels.cluster_name }}: no WAL is received, and the slot "
        "keeps it on the primary, whose disk may fill. This ends a day after, also where it was taken away on purpose.",
        severity="critical",
    ),
)
GAPS = (
    Alert(
        "PostgresWalGap",
        f"{{n}} > 0 unless on ({_CLUSTER}, tier) {_RECOVERABLE} unless on ({_CLUSTER}, tier) {_UNSEEN_TIER_2}",
        "WAL is missing inside what tier {{ $labels.tier }} holds of {{ $labels.cluster_name }}: no backup reaches "
        "the newest moment. Take a base backup.",
        severity="critical",
    ),
)
SLOT = (
    Alert(
        "PostgresSlotNearlyLost",
        f"{{n}} < 1073741824 and on ({_CLUSTER}) {{n}} < on ({_CLUSTER}) {_RETAINED}",  # a small limit is no alarm
        "The replication slot of {{ $labels.cluster_name }} keeps more than half of max_slot_wal_keep_size, and less "
        "than 1 GiB of it is left: after that the primary removes WAL that tallykeep has not got.",
        severity="critical",
    ),
)
RETAINED = (
    Alert(
        "PostgresSlotFillsPrimary",
        "{n} > 17179869184",
        "The slot of tallykeep keeps more than 16 GiB of WAL on the primary of {{ $labels.cluster_name }}, and can "
        "fill its disk.",
    ),
)
BACKUP_FAILED = (
    Alert(
        "PostgresBackupFailed",
        f"({{n}} > on ({_CLUSTER}) {_COMPLETED}) or ({{n}} unless on ({_CLUSTER}) {_COMPLETED})",
        "The most recent base backup has failed, and none has succeeded since.",
    ),
)
BACKUP_OLD = (
    Alert(
        "PostgresBackupOld",
        f'{{n}} > 691200 unless on (job, instance) {_DUE}{{work="backup"}}',
        "The newest base backup of {{ $labels.snapshot_source }} is older than 8 days, and none is scheduled: restores "
        "take longer with every day.",
        hold="15m",
    ),
)
DUE = (
    Alert(
        "PostgresOverdue",
        "time() - {n} > 86400",
        "{{ $labels.cluster_name }}: a {{ $labels.work }} should have come to a good end more than a day ago, by its "
        "schedule, and has not: see the log, or `tallykeep postgres status`.",
        hold="15m",
    ),
)
NO_BACKUP = (
    Alert(
        "PostgresNoBackup",
        "{n} == 0",
        "There is no base backup of {{ $labels.snapshot_source }}: nothing can be restored, whatever WAL there is.",
        hold="15m",
        severity="critical",
    ),
)
WAL_DAMAGED = (
    Alert(
        "PostgresWalDamaged",
        "{n} > 0",
        "WAL of {{ $labels.cluster_name }} on local disk is not as it was written: bring the segments back from tier "
        "2, and look at the disk; `tallykeep postgres verify` names them.",
        severity="critical",
        hold="0m",
    ),
)
CORRUPT = (
    Alert(
        "PostgresBackupCorrupt",
        "{n} == 0",
        "What tier {{ $labels.tier }} holds of {{ $labels.cluster_name }} is not what was written: verification has "
        "found damage. `tallykeep postgres status` says what; this ends when all of the tier is found sound.",
        severity="critical",
        hold="0m",
    ),
)
OFFLOAD_FAILED = (
    Alert(
        "PostgresOffloadFailed",
        "{n} > 0",
        "{{ $value }} WAL files or base backups of {{ $labels.cluster_name }} could not be copied to tier 2 and were "
        "given up: see tallykeep postgres queue list-failed. They and everything behind them stay in tier 1.",
        hold="15m",
    ),
)
TIER2_OWNED = (
    Alert(
        "PostgresTier2Refused",
        "{n} == 0",
        "Nothing of {{ $labels.cluster_name }} goes to tier 2: it belongs to another server, or to another key. The "
        "log says whose, and what to do.",
        severity="critical",
    ),
)
DRILL = (
    Alert(
        "PostgresDrillFailed",
        '{n}{{n}="failed"} == 1',
        "The latest drill of {{ $labels.cluster_name }} failed: a restore from tier {{ $labels.tier }} would not give "
        "back what was promised. `tallykeep postgres status` says why.",
        severity="critical",
        hold="1m",
    ),
    Alert(
        "PostgresDrillInconclusive",
        '{n}{{n}="inconclusive"} == 1',
        "No drill of {{ $labels.cluster_name }} could be carried through for a day: whether it can be restored is not "
        "known. `tallykeep postgres status` says why.",
        hold="1d",
    ),
)
RETENTION_LATEST = (
    Alert(
        "PostgresRetentionStuck",
        f"time() - {{n}} > 259200 or ({_REFUSED} unless on ({_CLUSTER}, tier) {{n}})",
        "Retention of tier {{ $labels.tier }} of {{ $labels.cluster_name }} has not come to its end for 3 days, or "
        "never has, and what it should delete fills the storage: see the log, or run `tallykeep postgres retention`.",
        hold="15m",
    ),
)
RETENTION_REFUSED = (
    Alert(
        "PostgresRetentionRefused",
        "{n} > 0",
        "Retention of tier {{ $labels.tier }} of {{ $labels.cluster_name }} would let go of more than half of the "
        "backups, and does nothing. Look at the clock and the settings; `tallykeep postgres retention --dry-run` "
        "explains each backup, and --yes lets them go.",
    ),
)
