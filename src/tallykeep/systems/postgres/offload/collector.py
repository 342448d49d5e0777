"""What tier 2 would lose with the primary and tier 1, and what waits to get there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tallykeep.clock import Clock
from tallykeep.errors import Unavailable, Unreachable
from tallykeep.metrics import Sample
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres import families, slot
from tallykeep.systems.postgres.cluster import TIER_2
from tallykeep.systems.postgres.lag import Lag
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.offload.consuming import QueueService
from tallykeep.systems.postgres.offload.standing import Standing
from tallykeep.systems.postgres.replication import Connection


class Tier2Collector:
    """Collector of one cluster's tier 2. What is not known is withdrawn, and the alerts count on that."""

    name = "postgres_tier2"

    def __init__(self, standing: Standing, clock: Clock, interval: float) -> None:
        self.target = standing.cluster.name
        self.interval = interval
        self.timeout = 30.0
        self._standing = standing
        self._clock = clock
        self._lag = Lag()

    def verdicts(self) -> Sequence[Sample]:
        """None: what is told here are figures."""
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        """Ask the primary where it is, and reckon how far behind tier 2 is. Raises: SourceErrors; Unavailable."""
        standing, name = self._standing, self.target
        if standing.owned is None:
            raise Unavailable(f"{name}: tier 2 has not been looked at yet.")
        yield families.TIER2_OWNED(standing.owned, cluster_name=name)
        yield families.OFFLOAD_FAILED(len(standing.failed), cluster_name=name)
        position = standing.position()
        if position is None:
            return
        history = await in_thread(standing.cluster.archive.history, standing.timeline)
        yield families.WAL_GAPS(standing.gaps(history), cluster_name=name, tier=TIER_2)
        if (reach := standing.reach(history)) is not None:
            yield families.WAL_RANGE_START(reach.start, cluster_name=name, tier=TIER_2)
            yield families.WAL_RANGE_END(reach.end, cluster_name=name, tier=TIER_2)
        if standing.cluster.conninfo:
            primary = await in_thread(self._primary)
            seconds = self._lag.look(self._clock.monotonic(), primary, position)
            yield families.RPO_BYTES(self._lag.bytes, cluster_name=name, tier=TIER_2)
            yield families.RPO_SECONDS(seconds, cluster_name=name, tier=TIER_2)

    def _primary(self) -> LSN:
        source = self._standing.cluster.source
        with Connection(source.conninfo, timeout=self.timeout / 2) as connection:
            return slot.look(connection, source.slot).lsn


class QueueCollector:
    """Collector of the queue's streams."""

    name = "postgres_queue"
    target = "queue"

    def __init__(self, service: QueueService, interval: float) -> None:
        self.interval = interval
        self.timeout = 15.0
        self._service = service

    def verdicts(self) -> Sequence[Sample]:
        """None: what is told here are figures."""
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        """Ask for every stream. Raises: Unreachable."""
        if self._service.queue is None:
            raise Unreachable("There is no connection to the queue.")
        for state in await self._service.queue.states():
            yield families.QUEUE_MESSAGES(state.messages, stream=state.stream)
            yield families.QUEUE_BYTES(state.bytes, stream=state.stream)
