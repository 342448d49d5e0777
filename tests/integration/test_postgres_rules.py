"""The alert rules of PostgreSQL protection, as promtool evaluates them over hours of figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.support.prometheus import need_prometheus, promtool

from tallykeep.exposition.rules import alert_rules
from tallykeep.systems.postgres.families import FAMILIES

pytestmark = pytest.mark.server

STEP = 4  # minutes between two samples, and two evaluations
LAST = 15  # the sample at which is looked: after an hour
CHANGE = 4  # the sample from which on something is away
ALWAYS = f"x{LAST}"
TARGET = 'job="tallykeep",instance="a:9090"'
CLUSTER = f'{{{TARGET},cluster_name="main"}}'
SOURCE = f'{{{TARGET},snapshot_source="main"}}'
TIER_1, TIER_2 = (f'{{{TARGET},cluster_name="main",tier="{tier}"}}' for tier in "12")
PLAIN = f"{{{TARGET}}}"
RPO, END = "tallykeep_postgres_rpo_seconds", "tallykeep_postgres_wal_range_end_position_bytes"
GAPS, SINCE = "tallykeep_postgres_wal_gaps", "tallykeep_postgres_recovery_start_timestamp_seconds"
RETAINED, REFUSED = "tallykeep_postgres_retention_latest_timestamp_seconds", "tallykeep_postgres_retention_refused"
SOUND, DRILLED = "tallykeep_postgres_verification_sound", "tallykeep_postgres_drill_last_success_timestamp_seconds"
WRITTEN, COPIED = "klio_wal_written_total", "klio_consumer_written_total"
COMPLETED, FAILED = "klio_backup_latest_completion_time_seconds", "klio_backup_latest_failure_time_seconds"

Figures = Mapping[str, str]
NOTHING = ""
WITHDRAWN = f"0+0x{CHANGE - 1} stale _x{LAST - CHANGE - 1}"


def constant(value: float) -> str:
    """One value for all the time."""
    return f"{value:g}+0{ALWAYS}"


def drill(state: str) -> Figures:
    """The state set of the latest drill."""
    name = "tallykeep_postgres_drill_result"
    return {
        f'{name}{{{TARGET},cluster_name="main",tier="2",{name}="{each}"}}': constant(float(each == state))
        for each in ("ok", "failed", "inconclusive", "unknown")
    }


def due(work: str) -> str:
    """When work should have been done; time begins at 0."""
    return f'tallykeep_postgres_due_timestamp_seconds{{{TARGET},cluster_name="main",work="{work}"}}'


# A database that nobody writes to: no WAL file for hours, the last one long ago.
IDLE: Figures = {
    f"up{PLAIN}": constant(1),
    f"{WRITTEN}{CLUSTER}": constant(7), f"klio_wal_latest_written_time_seconds{CLUSTER}": constant(0),
    f"{COPIED}{CLUSTER}": constant(7), f"klio_consumer_latest_written_time_seconds{CLUSTER}": constant(0),
    f"{RPO}{TIER_1}": constant(0), f"{RPO}{TIER_2}": constant(0),
    f"{END}{TIER_1}": constant(5000), f"{END}{TIER_2}": constant(5000),
    f"{GAPS}{TIER_1}": constant(0), f"{GAPS}{TIER_2}": constant(0),
    f"{SINCE}{TIER_1}": constant(100), f"{SINCE}{TIER_2}": constant(100),
    f"tallykeep_postgres_slot_retained_bytes{CLUSTER}": constant(0),
    f"tallykeep_postgres_slot_safe_bytes{CLUSTER}": constant(60e9),
    f"tallykeep_postgres_wal_damaged_segments{CLUSTER}": constant(0),
    f"tallykeep_postgres_offload_failed{CLUSTER}": constant(0),
    f"tallykeep_postgres_tier2_owned{CLUSTER}": constant(1),
    f"klio_base_snapshots{SOURCE}": constant(3), f"klio_base_latest_snapshot_age_seconds{SOURCE}": "0+240" + ALWAYS,
    f"{COMPLETED}{PLAIN}": constant(90),
    f"{RETAINED}{TIER_1}": constant(95), f"{RETAINED}{TIER_2}": constant(95),
    f"{REFUSED}{TIER_1}": constant(0), f"{REFUSED}{TIER_2}": constant(0),
    f"{SOUND}{TIER_1}": constant(1), f"{SOUND}{TIER_2}": constant(1),
    f"{DRILLED}{TIER_2}": constant(99), **drill("ok"),
    due("backup"): constant(500_000), due("verification"): constant(500_000), due("drill"): constant(7200),
}  # fmt: skip

# Begun a minute ago, with everything that a page has then; the first base backup takes its time.
FRESH: Figures = {
    f"up{PLAIN}": constant(1), f"{WRITTEN}{CLUSTER}": constant(0), f"{COPIED}{CLUSTER}": constant(0),
    f"{RPO}{TIER_1}": constant(0), f"{RPO}{TIER_2}": constant(0), f"{GAPS}{TIER_1}": constant(0),
    f"klio_base_snapshots{SOURCE}": constant(0), f"{REFUSED}{TIER_1}": constant(0), f"{RETAINED}{TIER_1}": constant(0),
    f"{DRILLED}{TIER_2}": constant(0), **drill("unknown"),
}  # fmt: skip

PRIMARY_DOWN: Figures = {f"{RPO}{TIER_1}": WITHDRAWN, f"{RPO}{TIER_2}": WITHDRAWN}
GROWING = f"0+240{ALWAYS}"
STATES: Mapping[str, tuple[Figures, set[str]]] = {
    "an idle database": ({}, set()),
    "no WAL arrives": ({f"{RPO}{TIER_1}": GROWING, f"{RPO}{TIER_2}": GROWING},
                       {"PostgresWalNotArriving", "PostgresWalNotOffloaded"}),
    "no WAL reaches tier 2": ({f"{RPO}{TIER_2}": GROWING, f"{END}{TIER_1}": "5000+9" + ALWAYS},
                              {"PostgresWalNotOffloaded"}),
    "the primary is down": (PRIMARY_DOWN, {"PostgresWalNotArriving"}),
    "the primary is down, and so was object storage before": (
        {**PRIMARY_DOWN, f"{END}{TIER_1}": constant(6000)}, {"PostgresWalNotArriving", "PostgresWalNotOffloaded"}),
    "nobody can say how tier 2 stands": ({f"{RPO}{TIER_2}": WITHDRAWN, f"{END}{TIER_2}": NOTHING},
                                         {"PostgresWalNotOffloaded"}),
    "a cluster without a connection": (
        {f"{name}{CLUSTER}": NOTHING for name in (WRITTEN, "klio_wal_latest_written_time_seconds",
         "tallykeep_postgres_slot_retained_bytes", "tallykeep_postgres_slot_safe_bytes")}
        | {f"{RPO}{TIER_1}": NOTHING, f"{RPO}{TIER_2}": NOTHING}, set()),
    "no tier 2": ({each: NOTHING for each in IDLE if 'tier="2"' in each or "consumer" in each or "tier2" in each},
                  set()),
    "the server is down": (dict.fromkeys(IDLE, WITHDRAWN) | {f"up{PLAIN}": f"1+0x{CHANGE - 1} 0+0x{LAST - CHANGE}"},
                           {"PostgresServerGone"}),
    "the server is gone with its address": (dict.fromkeys(IDLE, WITHDRAWN), {"PostgresServerGone"}),
    "the server has another address": (
        dict.fromkeys(IDLE, WITHDRAWN) | {each.replace("a:9090", "b:9090"): value for each, value in IDLE.items()},
        set()),
    "a gap": ({f"{GAPS}{TIER_1}": constant(1), f"{SINCE}{TIER_1}": NOTHING}, {"PostgresWalGap"}),
    "a gap in tier 2": ({f"{GAPS}{TIER_2}": constant(1), f"{SINCE}{TIER_2}": NOTHING}, {"PostgresWalGap"}),
    "object storage is away, after a gap that has a base backup behind it": (
        {f"{GAPS}{TIER_2}": constant(1), **dict.fromkeys((f"{each}{TIER_2}" for each in (SINCE, REFUSED, RETAINED)),
         WITHDRAWN)}, set()),
    "a gap with a base backup behind it": ({f"{GAPS}{TIER_1}": constant(1), f"{GAPS}{TIER_2}": constant(1)}, set()),
    "the slot fills the primary": ({f"tallykeep_postgres_slot_retained_bytes{CLUSTER}": constant(20e9)},
                                   {"PostgresSlotFillsPrimary"}),
    "the slot is nearly lost": ({f"tallykeep_postgres_slot_safe_bytes{CLUSTER}": constant(5e8),
                                 f"tallykeep_postgres_slot_retained_bytes{CLUSTER}": constant(6e8)},
                                {"PostgresSlotNearlyLost"}),
    "a small limit of the slot": ({f"tallykeep_postgres_slot_safe_bytes{CLUSTER}": constant(5e8)}, set()),
    "a backup failed after one that succeeded": ({f"{FAILED}{PLAIN}": constant(91)}, {"PostgresBackupFailed"}),
    "the first backup failed": ({f"{FAILED}{PLAIN}": constant(91), f"{COMPLETED}{PLAIN}": NOTHING},
                                {"PostgresBackupFailed"}),
    "a backup succeeded after one that failed": ({f"{FAILED}{PLAIN}": constant(80)}, set()),
    "no backup": ({f"klio_base_snapshots{SOURCE}": constant(0)}, {"PostgresNoBackup"}),
    "a backup of last week, and the next one is not due": (
        {f"klio_base_latest_snapshot_age_seconds{SOURCE}": "700000+240" + ALWAYS}, set()),
    "an old backup where none is scheduled": (
        {f"klio_base_latest_snapshot_age_seconds{SOURCE}": "700000+240" + ALWAYS, due("backup"): NOTHING},
        {"PostgresBackupOld"}),
    "a drill is late": ({due("drill"): constant(-85000)}, {"PostgresOverdue"}),
    "a drill is late, by less than a day": ({due("drill"): constant(-80000)}, set()),
    "verification found damage, a while ago": ({f"{SOUND}{TIER_2}": constant(0)}, {"PostgresBackupCorrupt"}),
    "never verified": ({f"{SOUND}{TIER_1}": NOTHING, f"{SOUND}{TIER_2}": NOTHING}, set()),
    "WAL is damaged": ({f"tallykeep_postgres_wal_damaged_segments{CLUSTER}": constant(1)}, {"PostgresWalDamaged"}),
    "copies were given up": ({f"tallykeep_postgres_offload_failed{CLUSTER}": constant(2)}, {"PostgresOffloadFailed"}),
    "tier 2 is another's": ({f"tallykeep_postgres_tier2_owned{CLUSTER}": constant(0)}, {"PostgresTier2Refused"}),
    "a drill failed": (drill("failed"), {"PostgresDrillFailed"}),
    "a drill was inconclusive, and there is another today": (drill("inconclusive"), set()),
    "no drills are held": ({f"{DRILLED}{TIER_2}": NOTHING, **drill("unknown")}, set()),
    "retention has never come to its end": ({f"{RETAINED}{TIER_2}": NOTHING}, {"PostgresRetentionStuck"}),
    "retention refuses": ({f"{REFUSED}{TIER_1}": constant(1)}, {"PostgresRetentionRefused"}),
}  # fmt: skip


def evaluated(folder: Path, cases: Mapping[str, tuple[Figures, set[str], int]], step: int = STEP) -> None:
    """See that promtool finds these alerts, and no other, firing at the sample of that number."""
    need_prometheus()
    (folder / "rules.yml").write_text(alert_rules({"postgres": FAMILIES}))
    tests = [
        {
            "name": name,
            "interval": f"{step}m",
            "input_series": [{"series": each, "values": values} for each, values in figures.items() if values],
            "promql_expr_test": [{
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": f"{sample * step}m",
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(alerts)],
            }],
        }
        for name, (figures, alerts, sample) in cases.items()
    ]  # fmt: skip
    document = {"rule_files": ["rules.yml"], "evaluation_interval": f"{step}m", "tests": tests}
    (folder / "tests.yml").write_text(json.dumps(document))  # JSON is YAML
    said = promtool("test", "rules", str(folder / "tests.yml"))
    assert said.returncode == 0, said.stdout.decode()


def test_alerts_fire_where_they_should_and_keep_still(tmp_path: Path) -> None:
    """Each state has its alerts, once each, and no other: an idle database none, each of the two stalls its own."""
    evaluated(tmp_path, {name: ({**IDLE, **changed}, alerts, LAST) for name, (changed, alerts) in STATES.items()})


def test_a_fresh_server_alarms_nobody(tmp_path: Path) -> None:
    """While the first base backup is taken nothing fires; where there is none after 15 minutes that is told."""
    evaluated(tmp_path, {"fresh": (FRESH, set(), 3), "later": (FRESH, {"PostgresNoBackup"}, 6)})


def test_a_drill_that_cannot_be_held_is_told_after_a_day(tmp_path: Path) -> None:
    """Inconclusive for a day, and none ended ok when one should have: both are told, as is what else was missed."""
    days = {each: values.replace(ALWAYS, "x100") for each, values in {**IDLE, **drill("inconclusive")}.items()}
    days[f"{RETAINED}{TIER_1}"] = "0+3600x100"
    late = {"PostgresDrillInconclusive", "PostgresOverdue", "PostgresRetentionStuck"}
    evaluated(tmp_path, {"days": (days, late, 100)}, step=60)
