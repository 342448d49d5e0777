"""The steps of one drill: key, plan, programs, restore, recovery, examination. What is found stands in the result."""

from __future__ import annotations

from dataclasses import replace
from subprocess import SubprocessError

from tallykeep.clock import Clock
from tallykeep.errors import TallykeepError
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.cluster import Cluster
from tallykeep.systems.postgres.drilling import cold, examining
from tallykeep.systems.postgres.drilling.request import DrillRequest
from tallykeep.systems.postgres.drilling.result import DrillResult
from tallykeep.systems.postgres.restoring.restore import RestoreRequest
from tallykeep.systems.postgres.settings import PostgresSettings
from tallykeep.systems.postgres.throwaway import judging
from tallykeep.systems.postgres.throwaway.ended import Ended
from tallykeep.systems.postgres.throwaway.making import Making
from tallykeep.systems.postgres.throwaway.programs import Programs
from tallykeep.systems.postgres.throwaway.scratch import Scratch
from tallykeep.systems.postgres.throwaway.server import RestoredServer
from tallykeep.systems.postgres.throwaway.watch import Watch


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
        drill = replace(
            settings.drill, settings=("timezone=UTC", *settings.drill.settings)
        )  # in which answers are told
        making = Making(cluster, self._place, drill, self._clock)
        self._begin("plan")
        entry = (await making.plan(RestoreRequest(self._place.data, tiers=(result.tier,)))).entry
        result.backup, result.backup_name, result.version = entry.id, entry.name, entry.version
        self._begin("programs")
        await making.find_programs()
        await self._restore(making)
        async with making.running(self._watch.advance) as server:
            await self._recover(making)
            since = self._clock.monotonic()
            await self._examine(server, making.programs)
            result.check_seconds = self._clock.monotonic() - since

    async def _restore(self, making: Making) -> None:
        self._begin("restore", making.planned.entry.raw)
        result, since = self._result, self._clock.monotonic()
        restored = await making.restore(self._watch.advance)
        result.restore_seconds = self._clock.monotonic() - since
        result.files, result.bytes = restored.files, restored.bytes

    async def _recover(self, making: Making) -> None:
        self._begin("recovery", making.wal_bytes)
        result, since = self._result, self._clock.monotonic()
        try:
            recovered = await making.recover()
        finally:
            result.recovery_seconds = self._clock.monotonic() - since
            result.wal_segments = making.feeder.served
            result.notes += making.server.notes
        result.timeline, result.commit_time = recovered.timeline, recovered.committed
        result.recovered_lsn, result.held_lsn = str(recovered.lsn), str(making.claim.end)
        if making.claim.missing:
            result.notes.append(making.claim.missing)
        result.behind_bytes, told = await making.behind(recovered.lsn)
        if told:
            result.problem("recovery", told)

    async def _examine(self, server: RestoredServer, programs: Programs) -> None:
        drill, result = self._settings.drill, self._result
        result.amcheck = result.amcheck if drill.amcheck else examining.OFF
        if drill.amcheck:
            self._begin("amcheck")
            await examining.check_indexes(server, programs, self._place.folder, result, self._clock)
        self._begin("questions")
        await examining.ask(server, drill.questions_to(self._cluster.name), result, drill.timeout)
        self._begin("checksums", result.bytes)
        await in_thread(server.stop)
        await examining.check_pages(self._place.data, result, self._watch.advance)

    def _begin(self, stage: str, total: int = 0) -> None:
        self.stage = stage
        self._watch.stage(stage, total)
