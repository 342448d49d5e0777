"""PostgreSQL protection at work: every cluster's receiver, its figures, and what is done on a schedule.

One process does all of it, and one alone for each cluster on a machine: a second server is refused. Commands run
beside it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tallykeep.errors import ConfigError
from tallykeep.runtime.threads import in_thread
from tallykeep.runtime.work import Collector, Parts, Service
from tallykeep.systems.postgres.backing_up import Watching, run_backup
from tallykeep.systems.postgres.cluster import Cluster, clusters_of, prepare
from tallykeep.systems.postgres.collector import HeldCollector, WalCollector
from tallykeep.systems.postgres.drilling.figures import DrillCollector
from tallykeep.systems.postgres.drilling.service import drill_schedule
from tallykeep.systems.postgres.due import behind_gap, first_backup, last_backup, left_to_another
from tallykeep.systems.postgres.figures import BaseCollector, WalProofCollector, WorkCollector
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.locks import exclusive
from tallykeep.systems.postgres.offload.offload import Offload
from tallykeep.systems.postgres.overdue import DueCollector
from tallykeep.systems.postgres.receiver import Receiver
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.retention.figures import RetentionCollector
from tallykeep.systems.postgres.retention.service import RetentionService
from tallykeep.systems.postgres.scheduling import Schedule
from tallykeep.systems.postgres.settings import PostgresSettings
from tallykeep.systems.postgres.verifier import Verifier
from tallykeep.systems.system import Tools

SERVER = "server.lock"
_READY = 60.0  # seconds in which a receiver has begun, or a backup is tried without

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_postgres(settings: PostgresSettings, tools: Tools) -> AsyncIterator[Parts]:
    """Everything that protects the clusters of the settings.

    Raises: ConfigError, also for a key that is not the one the archive was written with; Conflict where another server
    is at work on a cluster; StoreErrors.
    """
    async with AsyncExitStack() as stack:
        clusters = _clusters(settings)
        for cluster in clusters:
            stack.push_async_callback(cluster.close)
            await prepare(cluster)
            stack.enter_context(exclusive(cluster.folder / SERVER, f"cluster {cluster.name} is protected"))
        offload = Offload(clusters, settings, tools.book, tools.clock)
        turns, several = _Turns(), len(clusters) > 1
        work = [_Protection(cluster, settings, tools, offload, turns, several=several) for cluster in clusters]
        collectors = [found for protection in work for found in protection.collectors()]
        services = [found for protection in work for found in protection.services()]
        retention = RetentionService(clusters, settings, tools.clock)
        yield Parts(
            collectors=(*collectors, *offload.collectors), services=(*services, *offload.services, retention)
        )  # fmt: skip


def check_postgres(settings: PostgresSettings) -> None:
    """What the settings lead to: the key, the stores, the connection strings. Nothing is sent. Raises: ConfigError."""
    _clusters(settings)


def _clusters(settings: PostgresSettings) -> list[Cluster]:
    clusters = clusters_of(settings)
    _check_zone(settings.backup.timezone)
    if not clusters:
        raise ConfigError(
            "postgres: there is nothing to protect: set TALLYKEEP_POSTGRES_URL, or name clusters in tallykeep.yaml"
        )
    for cluster in clusters:
        if cluster.conninfo:
            _ = cluster.source
    return clusters


def _check_zone(name: str) -> None:
    """Raises: ConfigError."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"postgres: backup: timezone: there is no time zone {name!r}, such as Europe/Berlin"
        ) from None


class _Turns:
    """What is done for one cluster at a time."""

    def __init__(self) -> None:
        self.backup = asyncio.Lock()
        self.verify = asyncio.Lock()
        self.drill = asyncio.Lock()


class _Protection:
    """One cluster and what is put to work on it."""

    def __init__(
        self, cluster: Cluster, settings: PostgresSettings, tools: Tools, offload: Offload, turns: _Turns, *,
        several: bool,
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._settings = settings
        self._tools = tools
        self._offload = offload
        self._turns = turns
        self._several = several
        self._receiver: Receiver | None = None
        if cluster.conninfo:
            self._receiver = Receiver(cluster.source, cluster.folder, cluster.cipher, tools.book, tools.clock)
            self._receiver.on_complete = partial(offload.segment_done, cluster)
        self._verifier = Verifier(cluster.name, cluster.archive, tools.clock)

    def collectors(self) -> Iterator[Collector]:
        """Its figures."""
        cluster, clock, every = self._cluster, self._tools.clock, self._settings.interval
        if self._receiver is not None:
            yield WalCollector(cluster.source, self._receiver, clock, every)
        yield HeldCollector(cluster.name, cluster.archive, every)
        yield WorkCollector(cluster, clock, every, several=self._several)
        base = BaseCollector(cluster, clock, every)
        yield base
        yield DueCollector(cluster, self._settings, base)
        yield WalProofCollector(self._verifier, cluster.name, every)
        drill = self._settings.drill
        yield DrillCollector(cluster, drill.tier, every, scheduled=bool(drill.schedule))
        for tier in cluster.tiers:
            yield RetentionCollector(cluster, tier, clock)

    def services(self) -> Iterator[Service]:
        """Its receiver first."""
        if self._receiver is not None:
            yield self._receiver
        yield self._verifier
        yield from self._schedules()

    def _schedules(self) -> Iterator[Schedule]:
        settings, cluster, clock = self._settings, self._cluster, self._tools.clock
        zone = settings.backup.timezone
        if settings.backup.schedule and cluster.conninfo:
            yield Schedule(
                f"backup-{cluster.name}", settings.backup.schedule, zone, clock, work=self._back_up,
                last=last_backup(cluster, clock), turn=self._turns.backup, at_once=True,
                urgent=behind_gap(cluster, clock),
            )  # fmt: skip
        if settings.drill.schedule:
            yield drill_schedule(cluster, settings, clock, self._turns.drill)
        if settings.verify.schedule:
            yield Schedule(
                f"verify-{cluster.name}", settings.verify.schedule, zone, clock, work=self._verify,
                last=self._last_verified, turn=self._turns.verify,
            )  # fmt: skip

    async def _back_up(self) -> None:
        """A base backup, once WAL arrives: without its WAL it would be worth nothing."""
        clock, deadline = self._tools.clock, self._tools.clock.monotonic() + _READY
        while self._receiver is not None and not self._receiver.streaming and clock.monotonic() < deadline:
            await clock.sleep(0.2)
        if await left_to_another(self._cluster, clock):
            _log.info("%s: a command took a base backup", self._cluster.name)
            return
        entry = await run_backup(self._cluster, self._settings, clock, watching=Watching(done=self._backed_up))
        _log.info("%s: base backup %s taken: %d bytes", self._cluster.name, entry.name, entry.raw)

    async def _backed_up(self, cluster: Cluster, entry: BackupEntry) -> None:
        self._offload.backup_done(cluster, entry.id)

    async def _verify(self) -> None:
        """Every byte of every tier."""
        from tallykeep.systems.postgres.verifying.verify import verify_tier  # numpy with it

        for tier in self._cluster.tiers:
            verdicts = await verify_tier(self._cluster, tier, self._tools.clock)
            for verdict in verdicts:
                for problem in verdict.problems:
                    _log.error("%s: tier %s: %s", self._cluster.name, tier.number, problem)
            _log.info("%s: tier %s was read, every byte: %d backups", self._cluster.name, tier.number, len(verdicts))

    async def _last_verified(self) -> float | None:
        """When every tier had been read; where one never was, when there was something to read."""
        found = (await in_thread(Journal(self._cluster.folder).read)).verified
        latest = [found[tier.number].latest if tier.number in found else 0.0 for tier in self._cluster.tiers]
        return min(latest) or await first_backup(self._cluster, self._tools.clock)
