"""Alert rules of Litestream, as data on their families.

A rule that guards data also fires when its figure is not there: verdicts are never withdrawn and say unknown, so
"not restorable" covers a hung collector; for a withdrawn figure the rule asks whether the target that should have
it exists. `{n}` is the family's own name.
"""

from __future__ import annotations

from tallykeep.metrics import Alert

_WITH_LOCAL = 'ops_litestream_target_info{local!=""}'
_WITH_REPLICA = 'ops_litestream_target_info{kind!=""}'
_WITH_BOTH = 'ops_litestream_target_info{database!="",local!="",kind!=""}'
_UNKNOWN = 'ops_litestream_replica_verdict{ops_litestream_replica_verdict="unknown"}'
_WITH_DRILL = 'ops_litestream_drill_result{ops_litestream_drill_result="unknown"}'  # there whatever its value


_EACH = "max by (job, instance, target)"  # the same labels whatever fires: an alert goes on, and never starts anew


def _or_withdrawn(condition: str, targets: str, series: str = "{n}") -> str:
    """`condition`, or `series` is silent for one of the targets that should have it."""
    return f"{_EACH} ({condition}) or {_EACH} ({targets} unless on (job, instance, target) {series})"


def _or_unknown(condition: str) -> str:
    """`condition`, or the replica is unknown, so that nobody can say it does not hold."""
    return f"{_EACH} ({condition}) or {_EACH} ({_UNKNOWN} == 1)"


LAST_SCRAPE = (
    Alert(
        "LitestreamScrapeStale",
        "time() - {n} > on (job, instance) (120 + 3 * max by (job, instance) "
        '(tallykeep_collector_interval_seconds{collector=~"litestream_local|litestream_remote"}))',
        "tallykeep has not read every Litestream source for three intervals; see ops_litestream_scrape_errors.",
        hold="1m",
    ),
)
NEWEST_TXID = (
    Alert(
        "LitestreamLocalEmpty",
        f'{_EACH} ({_WITH_LOCAL} unless on (job, instance, target) {{n}}{{source="local"}})',
        "The local LTX folder of {{ $labels.target }} is empty, missing or cannot be read: Litestream has lost its "
        "place there, or never ran.",
    ),
)
VERDICT = (
    Alert(
        "LitestreamReplicaNotRestorable",
        '{n}{{n}="restorable"} == 0',
        "The replica of {{ $labels.target }} cannot be restored, or it is not known whether it can; see "
        "ops_litestream_replica_reason.",
        severity="critical",
    ),
)
REASON = (
    Alert(
        "LitestreamReplicaStale",
        _or_withdrawn('{n}{reason="stale"} == 1', _WITH_REPLICA, '{n}{reason="stale"}'),
        "The replica of {{ $labels.target }} is behind the local side, or cannot be told to be level with it.",
    ),
)
GAPS = (
    Alert(
        "LitestreamUncoveredGap",
        _or_withdrawn('{n}{covered="false"} > 0', _WITH_REPLICA, '{n}{covered="false"}'),
        "TXIDs are missing from the replica of {{ $labels.target }} and no level holds them.",
    ),
)
SNAPSHOT = (
    Alert(
        "LitestreamSnapshotOld",
        _or_withdrawn("time() - {n} > 172800", _WITH_REPLICA),
        "The newest snapshot of {{ $labels.target }} is older than 2 days, or none is known: restores take longer "
        "with every day.",
        hold="15m",
    ),
)
RPO = (
    Alert(
        "LitestreamRpoGrowing",
        _or_withdrawn("{n} > 300", _WITH_BOTH),
        "{{ $labels.target }} has commits that are missing from its replica for more than 5 minutes, or it cannot "
        "be told.",
    ),
)
SWEEP = (
    Alert(
        "LitestreamFilesUnverified",
        '{n}{{n}="sound"} == 0',
        "The files that a restore of {{ $labels.target }} needs are corrupt or could not be read for a day.",
        hold="1d",
    ),
)
CORRUPT = (
    Alert(
        "LitestreamCorruptFiles",
        _or_unknown("{n} > 0"),
        "The replica of {{ $labels.target }} holds corrupt files (ops_litestream_corrupt_files), or cannot be listed.",
        severity="critical",
    ),
)
MISSING_PAGES = (
    Alert(
        "LitestreamMissingPages",
        _or_unknown("{n} > 0"),
        "A restore of {{ $labels.target }} would lack pages that no file holds, or the replica cannot be listed.",
        severity="critical",
    ),
)
DRILL = (
    Alert(
        "LitestreamDrillFailed",
        '{n}{{n}="failed"} == 1',
        "The last restore drill of {{ $labels.target }} failed: a restore would not give a sound database.",
        hold="1m",
        severity="critical",
    ),
    Alert(
        "LitestreamDrillInconclusive",
        '{n}{{n}="ok"} == 0',
        "No restore drill of {{ $labels.target }} has been carried through for hours.",
        hold="6h",
    ),
)
DRILL_AGE = (
    Alert(
        "LitestreamDrillOld",
        _or_withdrawn("time() - {n} > 129600", _WITH_DRILL),
        "No restore drill of {{ $labels.target }} has succeeded for 36 hours.",
        hold="15m",
    ),
)
MATCH = (
    Alert(
        "LitestreamDrillDiffers",
        '{n}{{n}="differs"} == 1',
        "The restored image of {{ $labels.target }} is not what the live database holds: was it replaced under "
        "Litestream?",
        hold="1m",
        severity="critical",
    ),
    Alert(
        "LitestreamDrillNotCompared",
        '{n}{{n}="unknown"} == 1',
        "For three days no restored image of {{ $labels.target }} could be compared with the live database.",
        hold="3d",
    ),
)
