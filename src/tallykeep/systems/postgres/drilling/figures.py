"""How the latest drill ended, as figures, by whichever process it was held: read from the journal.

The verdict is unknown until there is one. What a drill has found is a fact about the past and stays, with its date.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from tallykeep.errors import Malformed
from tallykeep.metrics import UNKNOWN, Family, Sample
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres import families
from tallykeep.systems.postgres.cluster import TIER_1, TIER_2, Cluster
from tallykeep.systems.postgres.drilling.request import COLD
from tallykeep.systems.postgres.drilling.result import OUTCOMES
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.lsn import LSN

_STAGES = {"restore": "restore_seconds", "recovery": "recovery_seconds", "check": "check_seconds"}


class DrillCollector:
    """Collector of one cluster's drills."""

    name = "postgres_drill"

    def __init__(self, cluster: Cluster, tier: str, interval: float, *, scheduled: bool = True) -> None:
        """`tier`: the one that settings choose: cold, 1 or 2. Without a schedule no drill is ever due."""
        self.target = cluster.name
        self.interval = interval
        self.timeout = 30.0
        self._scheduled = scheduled
        self._journal = Journal(cluster.folder)
        self._tier = tier if tier != COLD else TIER_1 if cluster.tier2 is None else TIER_2

    def verdicts(self) -> Sequence[Sample]:
        """Unknown."""
        return (families.DRILL_RESULT(UNKNOWN, cluster_name=self.target, tier=self._tier),)

    async def collect(self) -> AsyncIterator[Sample]:
        """Look into the journal."""
        entries = await in_thread(self._journal.read)
        for outcome in OUTCOMES:
            yield families.DRILL_RUNS(entries.drills.get(outcome, 0), cluster_name=self.target, outcome=outcome)
        labels = {"cluster_name": self.target, "tier": str(entries.drill.get("tier", self._tier))}
        told = entries.drill.get("outcome")
        yield families.DRILL_RESULT(told if told in OUTCOMES else UNKNOWN, **labels)
        if self._scheduled:
            yield families.DRILL_LAST_SUCCESS(float(entries.drill.get("last_success", 0.0)), **labels)
        for sample in _latest(entries.drill, labels):
            yield sample


def _latest(drill: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[Sample]:
    """What there is to say of the latest drill; a figure that it did not come to is absent."""
    for stage, name in _STAGES.items():
        if drill.get(name):
            yield families.DRILL_DURATION(float(drill[name]), **labels, stage=stage)
    for family, value in _figures(drill):
        yield family(value, **labels)


def _figures(drill: Mapping[str, Any]) -> Iterator[tuple[Family, float]]:
    if drill.get("finished"):
        yield families.DRILL_TIME, float(drill["finished"])
    if drill.get("bytes"):
        yield families.DRILL_RESTORED, float(drill["bytes"])
    if drill.get("commit_time"):
        yield families.DRILL_COMMIT, float(drill["commit_time"])
    try:
        position = LSN.parse(str(drill.get("recovered_lsn", "")))
    except Malformed:
        return
    yield families.DRILL_POSITION, position
    yield families.DRILL_BEHIND, float(drill.get("behind_bytes", 0))
