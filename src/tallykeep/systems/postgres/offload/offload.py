"""`Offload`: everything that brings WAL and base backups to tier 2, as services and collectors.

    offload = Offload(clusters, settings, book, clock)
    offload.services, offload.collectors        for supervisor and runner; empty without a tier 2
    receiver.on_complete = partial(offload.segment_done, cluster)
    offload.backup_done(cluster, id)

Hints are never needed: what they say is found by the next comparison of the tiers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from tallykeep.clock import Clock
from tallykeep.metrics import Book
from tallykeep.runtime.work import Collector, Service
from tallykeep.systems.postgres.cluster import Cluster
from tallykeep.systems.postgres.lsn import Segment
from tallykeep.systems.postgres.offload.address import address_of, queue_folder
from tallykeep.systems.postgres.offload.collector import QueueCollector, Tier2Collector, Tier2LagCollector
from tallykeep.systems.postgres.offload.consuming import QueueService
from tallykeep.systems.postgres.offload.items import BACKUP, WAL, Item
from tallykeep.systems.postgres.offload.nats_server import NatsServer
from tallykeep.systems.postgres.offload.reconciling import PartialCopier, Reconciler
from tallykeep.systems.postgres.offload.standing import Standing
from tallykeep.systems.postgres.offload.work import Worker
from tallykeep.systems.postgres.settings import PostgresSettings


class Offload:
    """The way to tier 2 of all clusters that have one."""

    def __init__(
        self, clusters: Iterable[Cluster], settings: PostgresSettings, book: Book, clock: Clock, *,
        take_over: bool = False,
    ) -> None:  # fmt: skip
        """`take_over`: tier 2 becomes ours, whoever wrote to it before."""
        self.standings = {
            cluster.name: Standing(cluster, cluster.tier2) for cluster in clusters if cluster.tier2 is not None
        }
        parallel = settings.tier2.parallel
        self.worker = Worker(self.standings.values(), book, clock, parallel)
        self.queue = QueueService(self.worker, settings.queue, partial(address_of, settings), clock, parallel)
        self.nats = None if settings.queue.url else NatsServer(queue_folder(settings), clock)
        self.reconcilers = {
            name: Reconciler(
                standing, self.worker, self.queue, settings.queue.reconcile_every, clock, parallel, take_over=take_over
            )
            for name, standing in self.standings.items()
        }
        self.queue.unheard = self._unheard
        every = settings.tier2.partial_every
        self._partial = [PartialCopier(standing, every, clock) for standing in self.standings.values() if every]
        standings, interval = self.standings.values(), settings.interval
        self._collectors: list[Collector] = [Tier2Collector(standing, interval) for standing in standings]
        self._collectors += [
            Tier2LagCollector(standing, clock, interval) for standing in standings if standing.cluster.conninfo
        ]
        self._collectors.append(QueueCollector(self.queue, clock, interval))

    @property
    def services(self) -> Sequence[Service]:
        """For the supervisor. None where no cluster has a tier 2."""
        if not self.standings:
            return ()
        nats = () if self.nats is None else (self.nats,)
        return (*nats, self.queue, *self.reconcilers.values(), *self._partial)

    @property
    def collectors(self) -> Sequence[Collector]:
        """For the runner."""
        return self._collectors if self.standings else ()

    def segment_done(self, cluster: Cluster, segment: Segment) -> None:
        """Tier 1 holds a segment more. From any thread; never blocks, never raises."""
        standing = self.standings.get(cluster.name)
        if standing is not None:
            self.queue.hint(Item(WAL, cluster.name, segment.name), partial(standing.completed, segment))

    def backup_done(self, cluster: Cluster, id: str) -> None:
        """Tier 1 holds a base backup more. The same."""
        if cluster.name in self.standings:
            self.queue.hint(Item(BACKUP, cluster.name, id))

    def _unheard(self) -> None:
        for reconciler in self.reconcilers.values():
            reconciler.wake()
