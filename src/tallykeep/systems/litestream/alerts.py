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
_WITH_DRILL = 'ops_litestream_drill_result{ops_litestream_drill_result="unknown"}'  # there whatever its value


_SAME = "on (job, instance, target)"


def _or_withdrawn(condition: str, targets: str, series: str = "{n}") -> str:
    """`condition`, or `series` is silent for one of the targets that should have it."""
    return f"({condition}) or {_SAME} ({targets} unless {_SAME} {series})"


LAST_SCRAPE = (
    Alert(
        "LitestreamScrapeStale",
        "time() - {n} > 300",
        "tallykeep has not read every Litestream source for 5 minutes; see ops_litestream_scrape_errors.",
        hold="1m",
    ),
)
NEWEST_TXID = (
    Alert(
        "LitestreamLocalEmpty",
        f'{_WITH_LOCAL} unless {_SAME} {{n}}{{source="local"}}',
        "The local LTX folder of {{ $labels.target }} is empty, missing or cannot be read: Litestream has lost its "
        "place there, or never ran.",
    ),
)
VERDICT = (
    Alert(
        "LitestreamReplicaNotRestorable",
        '{n}{{n}="unrestorable"} == 1',
        "The replica of {{ $labels.target }} cannot be restored; see ops_litestream_replica_reason.",
        severity="critical",
    ),
    Alert(
        "LitestreamReplicaUnknown",
        '{n}{{n}="unknown"} == 1',
        "Whether the replica of {{ $labels.target }} can be restored is not known: it cannot be listed.",
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
        "The files that a restore of {{ $labels.target }} needs are corrupt or could not be read for an hour.",
        hold="1h",
    ),
)
CORRUPT = (
    Alert(
        "LitestreamCorruptFiles",
        "{n} > 0",
        "Level {{ $labels.level }} of the replica of {{ $labels.target }} holds corrupt files: {{ $labels.reason }}.",
        severity="critical",
    ),
)
MISSING_PAGES = (
    Alert(
        "LitestreamMissingPages",
        "{n} > 0",
        "A restore of {{ $labels.target }} would lack pages that no file holds.",
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
)
