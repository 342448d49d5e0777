"""What tier 2 would lose with the primary and tier 1, and what waits to get there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tallykeep.clock import Clock
from tallykeep.errors import Unavailable, Unreachable
from tallykeep.metrics import Sample
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres import coverage, families, slot
from tallykeep.systems.postgres.cluster import TIER_2
from tallykeep.systems.postgres.collector import behind, shared
from tallykeep.systems.postgres.lag import Lag
from tallykeep.systems.postgres.level import Level
from tallykeep.systems.postgres.offload.consuming import QueueService
from tallykeep.systems.postgres.offload.standing import Standing
from tallykeep.systems.postgres.replication import Connection

_STARTING = 30.0  # seconds in which nobody wonders that nothing is known yet


class Tier2Collector:
    """Collector of one cluster's tier 2 by itself, whether the primary is up or not."""

    name = "postgres_tier2"

    def __init__(self, standing: Standing, interval: float) -> None:
        self.target = standing.cluster.name
        self.interval = interval
        self.timeout = 30.0
        self._standing = standing

    def verdicts(self) -> Sequence[Sample]:
        """None: what is told here are figures."""
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        """What is known; nothing before the first comparison. Raises: NotFound; IntegrityError, for a history."""
        standing, name = self._standing, self.target
        if standing.owned is None:
            return
        yield families.TIER2_OWNED(standing.owned, cluster_name=name)
        yield families.OFFLOAD_FAILED(len(standing.failed), cluster_name=name)
        if standing.position() is None:
            return
        history = await in_thread(standing.cluster.archive.history, standing.timeline)
        held = await standing.held()
        yield families.WAL_GAPS(len(coverage.gaps(held, history)), cluster_name=name, tier=TIER_2)
        if (reach := coverage.reach(held, history)) is not None:
            yield families.WAL_RANGE_START(reach.start, cluster_name=name, tier=TIER_2)
            yield families.WAL_RANGE_END(reach.end, cluster_name=name, tier=TIER_2)
            yield families.WAL_TIMELINE(standing.timeline, cluster_name=name, tier=TIER_2)


class Tier2LagCollector:
    """Collector of what would be lost with the primary and tier 1. Withdrawn when the primary cannot be asked."""

    name = "postgres_tier2_rpo"

    def __init__(self, standing: Standing, clock: Clock, interval: float) -> None:
        self.target = standing.cluster.name
        self.interval = interval
        self.timeout = 30.0
        self._standing = standing
        self._clock = clock
        self._lag = Lag()
        self._level = Level(standing.cluster.folder, TIER_2, clock)
        self._patient_until = clock.monotonic() + _STARTING

    def verdicts(self) -> Sequence[Sample]:
        """None: what is told here are figures."""
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        """Ask the primary where it is, and reckon how far behind tier 2 is. Raises: SourceErrors; Unavailable."""
        position = self._standing.position()
        if position is None:
            if self._standing.owned is None and self._clock.monotonic() > self._patient_until:
                raise Unavailable(f"{self.target}: tier 2 could not be looked at yet; the log says why.")
            return
        timeline, state = self._standing.timeline, await in_thread(self._primary)
        held = await in_thread(shared, self._standing.cluster.archive, timeline, position, state)
        seconds = await behind(self._lag, self._level, self._clock, state.lsn, held)
        yield families.RPO_BYTES(self._lag.bytes, cluster_name=self.target, tier=TIER_2)
        yield families.RPO_SECONDS(seconds, cluster_name=self.target, tier=TIER_2)

    def _primary(self) -> slot.ServerState:
        source = self._standing.cluster.source
        with Connection(source.conninfo, timeout=self.timeout / 2) as connection:
            return slot.look(connection, source.slot)


class QueueCollector:
    """Collector of the queue's streams."""

    name = "postgres_queue"
    target = "queue"

    def __init__(self, service: QueueService, clock: Clock, interval: float) -> None:
        self.interval = interval
        self._clock = clock
        self._patient_until = clock.monotonic() + _STARTING
        self.timeout = 15.0
        self._service = service

    def verdicts(self) -> Sequence[Sample]:
        """None: what is told here are figures."""
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        """Ask for every stream. Raises: Unreachable."""
        if self._service.queue is None:
            if self._clock.monotonic() > self._patient_until:
                raise Unreachable("There is no connection to the queue.")
            return
        for state in await self._service.queue.states():
            yield families.QUEUE_MESSAGES(state.messages, stream=state.stream)
            yield families.QUEUE_BYTES(state.bytes, stream=state.stream)
