"""What was done to protect a cluster, and the base backups that tier 1 holds, as figures.

Both are read from disk, so that work done by a command shows as well. Counts are those of the journal and go on over
restarts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from tallykeep.clock import Clock
from tallykeep.metrics import Family, Sample
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.chain_record import FOLDER
from tallykeep.systems.postgres import families
from tallykeep.systems.postgres.cluster import BASE, Cluster
from tallykeep.systems.postgres.journal import Backups, Entries, Journal, Verified
from tallykeep.systems.postgres.locks import BACKUP, is_held
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.repository.repository import Repository
from tallykeep.systems.postgres.verifier import Verifier

OUTCOMES = ("ok", "failed", "interrupted")
_AGAIN = 600.0  # seconds after which the manifest is read although it does not seem to have changed


class WorkCollector:
    """Collector of one cluster's journal."""

    name = "postgres_work"

    def __init__(self, cluster: Cluster, clock: Clock, interval: float, *, several: bool) -> None:
        """`several`: there are other clusters, whose figures are told apart by a label."""
        self.target = cluster.name
        self.interval = interval
        self.timeout = 30.0
        self._cluster = cluster
        self._clock = clock
        self._several = several

    def verdicts(self) -> Sequence[Sample]:
        """None: what is told here are figures."""
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        """Look at journal and locks."""
        entries, running = await in_thread(self._look)
        sample = self._sample
        yield sample(families.BACKUP_RUNNING, running)
        for family, value in _moments(entries.backups):
            if value:
                yield sample(family, value)
        for family, value in _counts(entries.backups):
            yield sample(family, value)
        for each in self._told(entries.backups):
            yield each
        for tier in self._cluster.tiers:
            found = entries.verified.get(tier.number, Verified())
            yield sample(families.CONSUMER_BACKUP_VERIFICATION_SUCCESS, found.successes, tier=tier.number)
            yield sample(families.CONSUMER_BACKUP_VERIFICATION_FAILURE, found.failures, tier=tier.number)
            if found.latest:
                labels = {"cluster_name": self._cluster.name, "tier": tier.number}
                yield families.VERIFICATION_SOUND(found.sound, **labels)
                yield families.VERIFICATION_TIME(found.latest, **labels)

    def _told(self, backups: Backups) -> Iterator[Sample]:
        """What Klio's families leave open."""
        labels = {"cluster_name": self._cluster.name}
        for outcome in OUTCOMES:
            yield families.BACKUP_RUNS(backups.outcomes.get(outcome, 0), **labels, outcome=outcome)
        for category, count in backups.categories.items():
            yield families.BACKUP_FAILURE_CATEGORIES(count, **labels, category=category)
        for stage, seconds in backups.stages.items():
            yield families.BACKUP_STAGE_SECONDS(seconds, **labels, stage=stage)

    def _look(self) -> tuple[Entries, bool]:
        folder = self._cluster.folder
        return Journal(folder).read(), is_held(folder / BACKUP)

    def _sample(self, family: Family, value: float, **labels: object) -> Sample:
        if self._several:
            return families.of_cluster(family)(value, **labels, cluster_name=self._cluster.name)
        return family(value, **labels)


def _moments(backups: Backups) -> Sequence[tuple[Family, float]]:
    """Figures that are absent before the first time."""
    return (
        (families.BACKUP_LATEST_START_TIME, backups.latest_start),
        (families.BACKUP_LATEST_COMPLETION_TIME, backups.latest_completion),
        (families.BACKUP_LATEST_FAILURE_TIME, backups.latest_failure),
        (families.BACKUP_LATEST_DURATION_SECONDS, backups.latest_duration),
    )


def _counts(backups: Backups) -> Sequence[tuple[Family, int]]:
    return (
        (families.BACKUP_SUCCESSES, backups.successes),
        (families.BACKUP_FAILURES, backups.failures),
        (families.BACKUP_VERIFICATIONS, backups.verifications),
        (families.BACKUP_VERIFICATION_FAILURES, backups.verification_failures),
    )


class WalProofCollector:
    """Collector of what the verifier of one cluster's WAL has found."""

    name = "postgres_wal_proof"

    def __init__(self, verifier: Verifier, target: str, interval: float) -> None:
        self.target = target
        self.interval = interval
        self.timeout = 30.0
        self._verifier = verifier

    def verdicts(self) -> Sequence[Sample]:
        """None: what is told here are figures."""
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        """What it knows now."""
        if self._verifier.verified is not None:
            yield families.WAL_VERIFIED(self._verifier.lsn, cluster_name=self.target)
        yield families.WAL_DAMAGED(len(self._verifier.damage), cluster_name=self.target)


class BaseCollector:
    """Collector of the base backups of one cluster in tier 1, by its manifest."""

    name = "postgres_base"

    def __init__(self, cluster: Cluster, clock: Clock, interval: float) -> None:
        self.target = cluster.name
        self.interval = interval
        self.timeout = 60.0
        self._cluster = cluster
        self._clock = clock
        self.first = 0.0  # when the first backup was finished, also one that is gone; 0 where there was none
        self._backups: Sequence[BackupEntry] = ()
        self._seen = -1  # when the manifest's folder was changed last
        self._read = float("-inf")

    @property
    def newest(self) -> float:
        """When the newest backup was finished; 0 where there is none."""
        return max((entry.finished for entry in self._backups), default=0.0)

    def verdicts(self) -> Sequence[Sample]:
        """None: what is told here are figures."""
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        """Read the manifest where it has changed. Raises: IntegrityError; StoreErrors."""
        await self._refresh()
        source = {"snapshot_source": self.target}
        yield families.BASE_SNAPSHOTS(len(self._backups), **source)
        if not self._backups:
            return
        newest = max(self._backups, key=lambda entry: entry.started)
        oldest = min(self._backups, key=lambda entry: entry.started)
        yield families.BASE_LATEST_SNAPSHOT_SIZE(newest.raw, **source)
        yield families.BASE_LATEST_SNAPSHOT_FILES(newest.files, **source)
        yield families.BASE_LATEST_SNAPSHOT_DIRS(newest.directories, **source)
        yield families.BASE_LATEST_SNAPSHOT_AGE(newest.started, **source)
        yield families.BASE_OLDEST_SNAPSHOT_AGE(oldest.started, **source)

    async def _refresh(self) -> None:
        changed, now = await in_thread(self._changed), self._clock.monotonic()
        if changed != self._seen or now - self._read > _AGAIN:
            self._seen = -1  # of a reading that fails nothing is kept
            repository = await _listed(self._cluster, self._clock)
            self._backups = list(repository.backups.values())
            self.first = min((entry.finished for entry in repository.known.values()), default=0.0)
            self._seen, self._read = changed, now

    def _changed(self) -> int:
        try:
            return (self._cluster.folder / BASE / FOLDER).stat().st_mtime_ns
        except FileNotFoundError:
            return 0


async def held_backups(cluster: Cluster, clock: Clock) -> list[BackupEntry]:
    """The backups of tier 1 that are promised, as they were made. Raises: IntegrityError; StoreErrors."""
    return list((await _listed(cluster, clock)).backups.values())


async def _listed(cluster: Cluster, clock: Clock) -> Repository:
    return await Repository.listed(cluster.tier1.base, clock, cluster.cipher)
