"""Alert rules of PostgreSQL protection, as data on their families.

The two stalls are told apart: nothing arrives from the primary (tier 1), and nothing goes on to object storage
(tier 2). Both are judged by what the primary has and tallykeep has not: the time of the last file alone would wake
somebody for every idle database. A rule also fires where its figure is withdrawn although the cluster is known, since
then nobody can say that it does not hold. `{n}` is the family's own name.
"""

from __future__ import annotations

from tallykeep.metrics import Alert

_CLUSTER = "job, instance, cluster_name"
_EACH = f"max by ({_CLUSTER})"  # the same labels whatever fires: an alert goes on, and never starts anew
_WAL = "klio_wal_written_total"  # there from the start, at 0
_TIER_2 = "klio_consumer_written_total"
_COMPLETED = "klio_backup_latest_completion_time_seconds"


def _behind(tier: str, seconds: int, known: str) -> str:
    """WAL of more than `seconds` is missing in the tier, or for a cluster with `known` it is not told how much."""
    return (
        f'{_EACH} ({{n}}{{tier="{tier}"}} > {seconds}) '
        f'or {_EACH} ({known} unless on ({_CLUSTER}) {{n}}{{tier="{tier}"}})'
    )


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
        _behind("2", 900, _TIER_2),
        "WAL of {{ $labels.cluster_name }} does not reach tier 2: object storage is more than 15 minutes behind, or "
        "nobody can tell. It is still arriving on tier 1 unless PostgresWalNotArriving fires as well.",
    ),
)
GAPS = (
    Alert(
        "PostgresWalGap",
        "{n} > 0",
        "WAL is missing inside what tier {{ $labels.tier }} holds of {{ $labels.cluster_name }}: no backup from before "
        "the gap reaches a moment after it. Take a base backup.",
        severity="critical",
    ),
)
SLOT = (
    Alert(
        "PostgresSlotNearlyLost",
        "{n} < 1073741824",
        "The replication slot of {{ $labels.cluster_name }} is within 1 GiB of max_slot_wal_keep_size: after that the "
        "primary removes WAL that tallykeep has not got.",
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
        "{n} > 172800",
        "The newest base backup of {{ $labels.snapshot_source }} is older than 2 days: restores take longer with "
        "every day.",
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
        "increase({n}[1d]) > 0",
        "A backup on tier {{ $labels.tier }} does not say what was written: verification has found corruption.",
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
DRILL_OLD = (
    Alert(
        "PostgresDrillOld",
        "time() - {n} > 259200",
        "No drill of {{ $labels.cluster_name }} has ended ok for 3 days: nothing proves that it can be restored.",
        hold="1d",
    ),
)
RETENTION_LATEST = (
    Alert(
        "PostgresRetentionStuck",
        "time() - {n} > 259200",
        "Retention of tier {{ $labels.tier }} of {{ $labels.cluster_name }} has not come to its end for 3 days, and "
        "what it should delete fills the storage: see the log, or run `tallykeep postgres retention`.",
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
