"""The demo's last act: every payment that was committed has to come back from S3 alone; and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tallykeep.demo.page import Page
from tallykeep.demo.payments import CLUSTER, Payments
from tallykeep.demo.summary import Outcome, Summary
from tallykeep.systems.postgres import families as f
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.units import format_bytes, format_duration

Check = Callable[[Page], bool]


def is_protected(summary: Summary) -> list[tuple[Outcome, Check]]:
    """What the page has to show while payments come in."""

    def taken(page: Page) -> bool:
        return sum(page.values(f.BACKUP_SUCCESSES.name)) > 0 and sum(page.values(f.BACKUP_VERIFICATIONS.name)) > 0

    def near(page: Page) -> bool:
        behind = page.values(f.RPO_SECONDS.name, cluster_name=CLUSTER)
        return len(behind) == 2 and max(behind) < 10

    return [
        (summary.expect("PostgreSQL: a base backup was taken, and every byte of it read back"), taken),
        (summary.expect("PostgreSQL: WAL in the folder and on S3 is seconds behind, or less"), near),
    ]


def is_in_tier2(lsn: LSN) -> Check:
    """Whether object storage holds all WAL up to there."""
    return lambda page: max(page.values(f.WAL_RANGE_END.name, cluster_name=CLUSTER, tier="2"), default=0) >= lsn


def play_drill(
    payments: Payments, lsn: LSN, outcome: Outcome, say: Callable[[str], None], config: Path,
    environment: Mapping[str, str],
) -> str:  # fmt: skip
    """Hold the drill; a line for people of what it came to."""
    begun = time.monotonic()
    status, told, said = payments.drill(config, environment)
    if status or not told["cold"] or LSN.parse(told["recovered_lsn"]) < lsn:
        outcome.detail = f"tallykeep postgres drill ended with {status}: {told.get('problem') or said}"
        return ""
    outcome.after = time.monotonic() - begun
    seconds = format_duration(told["recovery_time_seconds"])
    say(f"tallykeep postgres drill: recovered from S3 alone in {seconds}, to the last payment")
    return (
        f"{payments.count:,} payments; from S3 alone back in {seconds}, to {told['recovered_lsn']}: "
        f"{format_bytes(told['bytes'])} of files, {told['wal_segments']} WAL segments; indexes and pages sound"
    )
