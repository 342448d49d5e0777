"""What would be lost with the primary now, and what tallykeep costs it: asked for on the primary itself.

When the primary cannot be asked these figures are withdrawn, and the alerts count on that. So they are where its
position says nothing: another cluster's, one on a timeline that the archive knows nothing of, that of a standby to
which no primary sends WAL.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tallykeep.clock import Clock
from tallykeep.errors import NotFound, Unavailable
from tallykeep.metrics import Sample
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres import coverage, families, slot
from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.lag import Lag
from tallykeep.systems.postgres.level import Level
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.receiver import Receiver
from tallykeep.systems.postgres.replication import Connection
from tallykeep.systems.postgres.session import Source

TIER_1 = "1"


class WalCollector:
    """Collector of one cluster's tier 1."""

    name = "postgres_wal"

    def __init__(self, source: Source, receiver: Receiver, clock: Clock, interval: float = 10.0) -> None:
        self.target = source.cluster
        self.interval = interval
        self.timeout = 30.0
        self._source = source
        self._receiver = receiver
        self._clock = clock
        self._lag = Lag()
        self._level = Level(receiver.folder, TIER_1, clock)

    def verdicts(self) -> Sequence[Sample]:
        """None: what is told here are figures."""
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        """Ask the primary, and compare. Raises: SourceErrors; Unavailable; IntegrityError."""
        state = await in_thread(self._look)
        archive = Archive(self._receiver.folder, self._receiver.cipher)
        durable = await in_thread(shared, archive, *self._receiver.reached, state)
        seconds = await behind(self._lag, self._level, self._clock, state.lsn, durable)
        labels = {"cluster_name": self.target}
        yield families.RPO_BYTES(self._lag.bytes, **labels, tier=TIER_1)
        yield families.RPO_SECONDS(seconds, **labels, tier=TIER_1)
        if state.retained is not None:
            yield families.SLOT_RETAINED(state.retained, **labels)
        if state.slot is not None and state.slot.safe is not None:
            yield families.SLOT_SAFE(state.slot.safe, **labels)

    def _look(self) -> slot.ServerState:
        with Connection(self._source.conninfo, timeout=self.timeout / 2) as connection:
            return slot.look(connection, self._source.slot)


class HeldCollector:
    """Collector of the WAL that one cluster's tier 1 holds, whether its primary is up or not."""

    name = "postgres_wal_held"

    def __init__(self, cluster: str, archive: Archive, interval: float = 10.0) -> None:
        self.target = cluster
        self.interval = interval
        self.timeout = 30.0
        self._archive = archive

    def verdicts(self) -> Sequence[Sample]:
        """None: what is told here are figures."""
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        """Look at the archive. Raises: NotFound; IntegrityError."""
        missing, reach, timeline = await in_thread(held_wal, self._archive)
        labels = {"cluster_name": self.target, "tier": TIER_1}
        yield families.WAL_GAPS(len(missing), **labels)
        if reach is not None:
            yield families.WAL_RANGE_START(reach.start, **labels)
            yield families.WAL_RANGE_END(reach.end, **labels)
            yield families.WAL_TIMELINE(timeline, **labels)


async def behind(lag: Lag, level: Level, clock: Clock, primary: LSN, held: LSN) -> float:
    """Seconds since a tier held all that the primary had, also from before this process began."""
    if not lag.asked and (age := await in_thread(level.age)) is not None:
        lag.recall(clock.monotonic() - age)
    seconds = lag.look(clock.monotonic(), primary, held)
    if not lag.bytes:
        await in_thread(level.reached)
    return seconds


def shared(archive: Archive, timeline: int, position: LSN, server: slot.ServerState) -> LSN:
    """How far what is held up to `position` of `timeline` is that of a server. Blocks.

    Raises: Unavailable where nobody can say; IntegrityError.
    """
    _see_measure(archive, server)
    if server.timeline == timeline or not server.timeline or not timeline:  # a standby, or an archive without WAL
        return position
    try:
        left = archive.history(server.timeline).left(timeline)
    except NotFound:
        left = None
    if left is None:
        raise Unavailable(
            f"{archive.folder}: the server is on timeline {server.timeline}, and what is held on {timeline}: nothing "
            "of the server's own has arrived; the receiver's log says why."
        )
    return min(position, left)


def _see_measure(archive: Archive, server: slot.ServerState) -> None:
    """See that the server's position is one to measure by. Raises: Unavailable; IntegrityError."""
    identity = archive.identity
    if identity is not None and server.system_id not in (0, identity.system_id):
        raise Unavailable(
            f"{archive.folder}: holds WAL of the system {identity.system_id}, and the server that answers is "
            f"{server.system_id}: it is another cluster."
        )
    if server.standby and not server.following:
        raise Unavailable(
            f"{archive.folder}: the server that answers is a standby to which no primary sends WAL: how far the "
            "primary is cannot be told."
        )


def held_wal(archive: Archive) -> tuple[list[coverage.Gap], coverage.Range | None, int]:
    """Gaps along the line to the newest timeline, the stretch that reaches its end, and that timeline. Blocks."""
    held = archive.held()
    last = coverage.newest(held)
    if last is None:
        return [], None, 0
    history = archive.history(last.timeline)
    return coverage.gaps(held, history), coverage.reach(held, history), last.timeline
