"""What retention did, and since when a tier can be restored, as figures.

The newest moment is no figure of its own: it is now, less `tallykeep_postgres_rpo_seconds`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from tallykeep.clock import Clock
from tallykeep.errors import NotFound
from tallykeep.metrics import Sample
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres import families
from tallykeep.systems.postgres.cluster import Cluster, Tier
from tallykeep.systems.postgres.journal import Entries, Journal, Retained
from tallykeep.systems.postgres.reach import Coverage, coverage_of
from tallykeep.systems.postgres.repository.entries import BackupEntry, RepositoryChain
from tallykeep.systems.postgres.repository.repository import Repository

_AGAIN = 300.0  # seconds after which a tier is looked at although nothing was done: WAL goes on, copies arrive


def oldest_moment(backups: Iterable[BackupEntry], coverage: Coverage) -> float | None:
    """Unix time since when every moment can be restored, up to where the tier stands; None where none can.

    A backup from before a gap does not count, though moments between the two can be restored from it.
    """
    newest, found = coverage.newest, []
    for entry in backups:
        reach = coverage.reach(entry)
        if newest and reach.usable and (reach.timeline, reach.end) == (newest.timeline, newest.end):
            found.append(entry.finished)
    return min(found, default=None)


class RetentionCollector:
    """Collector of one tier of one cluster: the journal each time; the tier after news, such as a gap, or a while."""

    name = "postgres_retention"

    def __init__(self, cluster: Cluster, tier: Tier, clock: Clock, interval: float = 30.0) -> None:
        self.target = f"{cluster.name}/{tier.number}"
        self.interval = interval
        self.timeout = 120.0
        self._cluster = cluster
        self._tier = tier
        self._clock = clock
        self._seen: tuple[Entries, int] | None = None  # None: the tier was not looked at, or could not be
        self._looked = 0.0
        self._oldest: float | None = None
        self._chain: RepositoryChain | None = None

    def verdicts(self) -> Sequence[Sample]:
        """None: what is told here are figures."""
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        """Look at the journal and at the tier. Raises: IntegrityError; StoreErrors."""
        entries = await in_thread(Journal(self._cluster.folder).read)
        await self._refresh(entries)
        done = entries.retention.get(self._tier.number, Retained())
        labels = {"cluster_name": self._cluster.name, "tier": self._tier.number}
        if done.latest:
            yield families.RETENTION_LATEST(done.latest, **labels)
        yield families.RETENTION_REFUSED(done.refused, **labels)
        yield families.RETENTION_BACKUPS(done.backups, **labels)
        yield families.RETENTION_FREED(done.freed, **labels)
        if self._oldest is not None:
            yield families.RECOVERY_START(self._oldest, **labels)

    async def _refresh(self, entries: Entries) -> None:
        now, seen = self._clock.monotonic(), (entries, len(await in_thread(self._cluster.archive.recorded_gaps)))
        if seen != self._seen or now - self._looked > _AGAIN:
            self._seen = None
            self._oldest = await self._look()
            self._seen, self._looked = seen, now

    async def _look(self) -> float | None:
        try:
            listed = await Repository.listed(self._tier.base, self._clock, self._tier.cipher, self._chain)
        except NotFound:  # nothing was ever kept there
            return None
        self._chain = listed.chain
        return oldest_moment(listed.backups.values(), await coverage_of(self._tier.wal))
