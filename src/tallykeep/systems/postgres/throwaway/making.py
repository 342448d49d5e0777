"""From a backup to a running server that is thrown away: planned, restored, recovered. The steps of drills and `open`.

Everything lies in one scratch folder. What is asked of the server, and when it goes, is for whoever made it.
Memory: that of a restore, four packs, and then of two WAL segments; PostgreSQL's own is some 200 MiB.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import NamedTuple

from tallykeep.clock import Clock
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.basebackup.putting import files_of
from tallykeep.systems.postgres.cluster import Cluster
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.restoring.recovery import target
from tallykeep.systems.postgres.restoring.restore import Plan, Restored, RestoreRequest, plan, restore
from tallykeep.systems.postgres.settings import DrillSettings
from tallykeep.systems.postgres.throwaway.claim import Claim, claim_of, provable
from tallykeep.systems.postgres.throwaway.feeding import Feeder
from tallykeep.systems.postgres.throwaway.programs import Programs, find
from tallykeep.systems.postgres.throwaway.scratch import Scratch, check_room
from tallykeep.systems.postgres.throwaway.server import RestoredServer

_MAJOR = 10_000  # server_version_num of one


class Recovered(NamedTuple):
    """How far a server has come."""

    timeline: int  # that recovery ended on
    lsn: LSN  # the first position that it did not replay
    committed: float  # Unix seconds of the last transaction that was recovered; 0: there was none


class Making:
    """One server in a scratch folder. The steps are taken in their order."""

    planned: Plan
    claim: Claim
    programs: Programs
    feeder: Feeder
    server: RestoredServer

    def __init__(self, cluster: Cluster, place: Scratch, settings: DrillSettings, clock: Clock) -> None:
        self._cluster = cluster
        self._place = place
        self._settings = settings
        self._clock = clock

    async def plan(self, request: RestoreRequest) -> Plan:
        """What to restore, all of it into the scratch folder, tablespaces too. Raises: RestoreError and others."""
        owner = self._place.owner.name if self._place.owner else ""
        planned = await plan(self._cluster, replace(request, target=self._place.data, owner=owner), self._clock)
        spaces = (await files_of(planned.repository, planned.entry, planned.others)).tablespaces
        places = {space.oid: self._place.tablespace(space.oid) for space in spaces}
        whole = replace(planned.request, backup=planned.entry.id, tablespaces=places)
        self.planned = replace(planned, request=whole)
        self.claim = await claim_of(planned)
        return self.planned

    async def find_programs(self) -> None:
        """PostgreSQL of the backup's major, and room for it. Raises: Ended."""
        entry = self.planned.entry
        self.programs = await in_thread(find, entry.version // _MAJOR, self._settings.bin)
        await in_thread(check_room, self._place, entry.raw)

    async def restore(self, advance: Callable[[int], None]) -> Restored:
        """Put the files there. Raises: as `restore` does."""
        restored = await restore(self._cluster, self.planned, self._clock, advance)
        await in_thread((self._place.data / "standby.signal").unlink, missing_ok=True)
        return restored

    @asynccontextmanager
    async def running(self, advance: Callable[[int], None], port: int | None = None) -> AsyncIterator[RestoredServer]:
        """A server on what was restored, and its WAL; `recover` starts it, and it ends with the context.

        `port`: of 127.0.0.1, where it takes connections there as well; 0: a free one.
        """
        end = target(self.planned.request)
        self.feeder = Feeder(self.planned.wal, self.claim, self._place, end, advance)
        self.server = RestoredServer(self.programs, self._place, self.feeder, self._settings.settings, port)
        try:
            yield self.server
        finally:
            await self.feeder.close()
            await in_thread(self.server.abandon)

    async def recover(self) -> Recovered:
        """Start the server; it is promoted when this returns. Raises: Ended; what reading WAL raises."""
        await self.feeder.start()
        await self.server.recover(self._clock)
        timeline, lsn = await in_thread(self.server.reached)
        return Recovered(timeline, lsn, self.server.committed)

    @property
    def wal_bytes(self) -> int:
        """How much there is to recover."""
        return self.claim.end - LSN.parse(self.planned.entry.start_lsn)

    async def behind(self, reached: LSN) -> tuple[int, str]:
        """Bytes of whole records that are held and were not recovered, and what is to be said of them."""
        claim = self.claim
        whole = reached if reached >= claim.end else await provable(self.planned.wal, claim, reached)
        if whole <= reached:
            return 0, ""
        return whole - reached, (
            f"recovery ended at {reached}, and the tier says that everything up to {claim.end} can be recovered: "
            f"records up to {whole} are there and whole"
        )
