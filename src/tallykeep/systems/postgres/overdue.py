"""When what is scheduled should have been done, as a figure: a day and a week are late by the same rule.

Counted from when it last succeeded: a base backup that is held, a verification that read every byte of each tier, a
drill that ended ok; where these never did, from the end of the first base backup.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from tallykeep.metrics import Sample
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres import families
from tallykeep.systems.postgres.cluster import Cluster
from tallykeep.systems.postgres.cron import following
from tallykeep.systems.postgres.figures import BaseCollector
from tallykeep.systems.postgres.journal import Entries, Journal, Verified
from tallykeep.systems.postgres.settings import PostgresSettings


class DueCollector:
    """Collector of one cluster's schedules."""

    name = "postgres_due"

    def __init__(self, cluster: Cluster, settings: PostgresSettings, base: BaseCollector) -> None:
        """`base` knows the base backups of tier 1."""
        self.target = cluster.name
        self.interval = settings.interval
        self.timeout = 30.0
        self._cluster = cluster
        self._settings = settings
        self._base = base
        self._journal = Journal(cluster.folder)

    def verdicts(self) -> Sequence[Sample]:
        """None: what is told here are figures."""
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        """Look into the journal."""
        entries = await in_thread(self._journal.read)
        for work, schedule, done in self._done(entries):
            if schedule and done:
                moment = following(schedule, done, self._settings.backup.timezone)
                yield families.DUE(moment, cluster_name=self.target, work=work)

    def _done(self, entries: Entries) -> Iterator[tuple[str, str, float]]:
        """What is done, its schedule, and when it last succeeded."""
        first, settings = self._base.first, self._settings
        if self._cluster.conninfo:
            yield "backup", settings.backup.schedule, self._base.newest
        verified = min(entries.verified.get(tier.number, Verified()).latest for tier in self._cluster.tiers)
        yield "verification", settings.verify.schedule, verified or first
        yield "drill", settings.drill.schedule, float(entries.drill.get("last_success", 0.0)) or first
