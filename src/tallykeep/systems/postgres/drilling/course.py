"""The steps of one drill: key, plan, programs, restore, recovery, examination. What is found stands in the result."""

from __future__ import annotations

from dataclasses import replace
from subprocess import SubprocessError

from tallykeep.clock import Clock
from tallykeep.errors import TallykeepError
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.cluster import Cluster
from tallykeep.systems.postgres.drilling import cold, examining, judging
from tallykeep.systems.postgres.drilling.claim import Claim, claim_of, provable
from tallykeep.systems.postgres.drilling.feeding import Feeder
from tallykeep.systems.postgres.drilling.programs import Programs, find
from tallykeep.systems.postgres.drilling.request import DrillRequest, Watch
from tallykeep.systems.postgres.drilling.result import DrillResult, Ended
from tallykeep.systems.postgres.drilling.scratch import Scratch, check_room
from tallykeep.systems.postgres.drilling.server import RestoredServer
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.restoring.restore import Plan, RestoreRequest, plan, restore
from tallykeep.systems.postgres.settings import PostgresSettings

_MAJOR = 10_000  # server_version_num of one


class Course:
    """One drill, in a folder of its own."""

    def __init__(
        self, cluster: Cluster, settings: PostgresSettings, request: DrillRequest, place: Scratch, clock: Clock,
        watch: Watch, result: DrillResult,
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._settings = settings
        self._request = request
        self._place = place
        self._clock = clock
        self._watch = watch
        self._result = result
        self.stage = ""

    async def run(self) -> None:
        """All of it. Raises nothing but what cancels it."""
        try:
            await self._run()
        except (Ended, TallykeepError, OSError, SubprocessError, ExceptionGroup) as error:
            ended = judging.judged(error)
            self._result.end(self.stage, ended.outcome, str(ended))

    async def _run(self) -> None:
        self._begin("key")
        result, settings = self._result, self._settings
        cluster = await cold.with_key(self._cluster, settings, self._request, result)
        await cold.check(cluster.tier(result.tier), self._clock)
        self._begin("plan")
        planned = await self._plan(cluster)
        claim = await claim_of(planned)
        self._begin("programs")
        programs = await in_thread(find, planned.entry.version // _MAJOR, settings.drill.bin)
        await in_thread(check_room, self._place, planned.entry.raw)
        await self._restore(cluster, planned)
        feeder = Feeder(planned.wal, claim, self._place, self._watch.advance)
        server = RestoredServer(programs, self._place, feeder, settings.drill.settings)
        try:
            await self._recover(planned, claim, feeder, server)
            since = self._clock.monotonic()
            await self._examine(server, programs)
            result.check_seconds = self._clock.monotonic() - since
        finally:
            await feeder.close()
            await in_thread(server.abandon)

    async def _plan(self, cluster: Cluster) -> Plan:
        """What to restore, tablespaces into the drill's folder. Raises: RestoreError and others."""
        owner = self._place.owner.name if self._place.owner else ""
        request = RestoreRequest(self._place.data, tiers=(self._result.tier,), owner=owner)
        planned = await plan(cluster, request, self._clock)
        entry, result = planned.entry, self._result
        result.backup, result.backup_name, result.version = entry.id, entry.name, entry.version
        spaces = (await planned.repository.files(entry)).tablespaces
        places = {space.oid: self._place.tablespace(space.oid) for space in spaces}
        return replace(planned, request=replace(request, backup=entry.id, tablespaces=places))

    async def _restore(self, cluster: Cluster, planned: Plan) -> None:
        self._begin("restore", planned.entry.raw)
        result, since = self._result, self._clock.monotonic()
        restored = await restore(cluster, planned, self._clock, self._watch.advance)
        result.restore_seconds = self._clock.monotonic() - since
        result.files, result.bytes = restored.files, restored.bytes
        await in_thread((self._place.data / "standby.signal").unlink, missing_ok=True)

    async def _recover(self, planned: Plan, claim: Claim, feeder: Feeder, server: RestoredServer) -> None:
        self._begin("recovery", claim.end - LSN.parse(planned.entry.start_lsn))
        result, since = self._result, self._clock.monotonic()
        await feeder.start()
        try:
            await server.recover(self._clock)
        finally:
            result.recovery_seconds = self._clock.monotonic() - since
            result.wal_segments = feeder.served
            for thing in server.without:
                result.notes.append(f"PostgreSQL was started without {thing}")
        reached = await in_thread(server.reached)
        result.timeline, result.recovered_lsn, result.commit_time = reached.timeline, str(reached.lsn), server.committed
        await self._compare(planned, claim, reached.lsn)

    async def _compare(self, planned: Plan, claim: Claim, reached: LSN) -> None:
        """See that everything was recovered that the tier says it holds."""
        result = self._result
        result.held_lsn = str(claim.end)
        if claim.newest > claim.end:
            result.notes.append(f"WAL is missing behind {claim.end}: what is held behind the gap cannot be reached")
        if reached >= claim.end:
            return
        whole = await provable(planned.wal, claim, reached)
        result.behind_bytes = max(0, whole - reached)
        if result.behind_bytes:
            result.problem(
                "recovery",
                f"recovery ended at {reached}, and the tier says that everything up to {claim.end} can be recovered: "
                f"records up to {whole} are there and whole",
            )

    async def _examine(self, server: RestoredServer, programs: Programs) -> None:
        drill, result = self._settings.drill, self._result
        result.amcheck = result.amcheck if drill.amcheck else examining.OFF
        if drill.amcheck:
            self._begin("amcheck")
            await examining.check_indexes(server, programs, self._place.folder, result, self._clock)
        self._begin("questions")
        await examining.ask(server, drill.questions, result, drill.timeout)
        self._begin("checksums", result.bytes)
        await in_thread(server.stop)
        await examining.check_pages(self._place.data, result, self._watch.advance)

    def _begin(self, stage: str, total: int = 0) -> None:
        self.stage = stage
        self._watch.stage(stage, total)
