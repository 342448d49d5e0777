"""The two tiers compared, at the start and every ten minutes: what tier 2 lacks is queued, or copied at once.

This is what protection in tier 2 stands on; the queue is a hint. Where the queue is down, or takes messages and brings
nothing forward from one comparison to the next, what is missing is copied from here. Copied at once too, and outside
the queue: histories, which are tiny, and on a schedule of their own the WAL of segments that are not complete.
Memory: what tier 2 holds (standing.py), the manifests of both repositories, `parallel` segments of WAL.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from tallykeep.clock import Clock
from tallykeep.errors import ConfigError, IntegrityError, NotFound, Refused, TallykeepError
from tallykeep.runtime.backoff import Backoff
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.locks import BACKUP as BACKUP_LOCK
from tallykeep.systems.postgres.locks import is_held
from tallykeep.systems.postgres.lsn import history_name
from tallykeep.systems.postgres.offload.consuming import QueueService
from tallykeep.systems.postgres.offload.held import BackupsHeld, RemoteHeld, lacking, listed
from tallykeep.systems.postgres.offload.items import BACKUP, WAL, Item
from tallykeep.systems.postgres.offload.ownership import claim
from tallykeep.systems.postgres.offload.partial import copy_partial, drop_parts
from tallykeep.systems.postgres.offload.standing import Standing
from tallykeep.systems.postgres.offload.work import Worker
from tallykeep.systems.postgres.repository.entries import BackupEntry, RepositoryChain
from tallykeep.systems.postgres.repository.repository import Repository

_UNCLAIMED = 5.0  # seconds until the next look while tier 1 knows no cluster yet
_AGAIN = 30.0  # seconds until the next look while a backup is being taken
_REFUSED = 60.0  # seconds between two looks at a tier 2 that is another's
_BREATH = 2.0  # seconds between two comparisons that hints ask for, at least
_log = logging.getLogger(__name__)


class Reconciler:
    """Service of one cluster."""

    def __init__(
        self, standing: Standing, worker: Worker, queue: QueueService | None, every: float, clock: Clock, parallel: int,
        *, take_over: bool = False,
    ) -> None:  # fmt: skip
        """`queue`: None where everything is copied from here. `take_over`: at the first look, whoever tier 2 was."""
        self.name = f"postgres-offload-{standing.cluster.name}"
        self._standing = standing
        self._worker = worker
        self._queue = queue
        self._every = every
        self._clock = clock
        self._parallel = parallel
        self._take_over = take_over
        self._chains: tuple[RepositoryChain | None, RepositoryChain | None] = None, None
        self._before: set[Item] = set()  # what was missing at the last comparison
        self._copied = 0  # how much had been copied then
        self._woken = asyncio.Event()
        self._unfinished = False  # a backup is being taken that may not be told of
        self._said = ""

    async def run(self) -> None:
        """Compare until cancelled."""
        backoff = Backoff(1.0, 60.0)
        if self._queue is not None:
            await self._queue.tried.wait()
        while True:
            wait = self._every
            try:
                if not await self.compare():
                    wait = _UNCLAIMED
                elif self._unfinished:
                    wait = min(wait, _AGAIN)
                backoff.reset()
                self._said = ""
            except TallykeepError as error:
                settled = isinstance(error, Refused | ConfigError)
                wait = min(wait, _REFUSED if settled else backoff.delay())
                self._tell(error)
            await self._pause(wait)

    def wake(self) -> None:
        """There is something new that the queue does not know of: compare soon. On the loop."""
        self._woken.set()

    async def compare(self) -> bool:
        """Look at both tiers once, and see that what is missing comes; False while there is no cluster to copy.

        Raises: Refused and ConfigError where tier 2 is not ours to write; IntegrityError; StoreErrors.
        """
        standing = self._standing
        try:
            if not await claim(standing.cluster, standing.tier, self._clock, take_over=self._take_over):
                return False
        except (Refused, ConfigError):
            standing.refused()
            raise
        self._take_over = False
        failed = set(standing.failed)
        missing = await self._missing()
        for item in failed.difference(missing):
            await self._settled(item)
        await self._see_to(missing)
        self._before, self._copied = set(missing), standing.copied
        return True

    # --- what is missing

    async def _missing(self) -> Sequence[Item]:
        """WAL that tier 2 lacks, in its order, then base backups; histories and leftovers are seen to at once."""
        standing = self._standing
        cluster, tier = standing.cluster, standing.tier
        identity = await cluster.tier1.wal.identity()
        assert identity is not None, "it was claimed"
        backups = await self._backups()
        standing.begin()
        remote = await listed(tier.root, identity.segment_size)  # what comes meanwhile is missing at worst
        local = await in_thread(cluster.archive.segments)
        missing = lacking(local, remote, backups.floor, standing.proved)
        standing.compared(remote, missing)
        if remote.latest:
            self._worker.latest(cluster.name, remote.latest)
        self._worker.arrived(standing)
        await self._tidy(remote)
        await self._histories(remote)
        wal = [Item(WAL, cluster.name, segment.name) for segment in missing]
        taken = [id for id in backups.lacking if not await self._is_being_taken(backups.tier1.backups[id])]
        self._unfinished = len(taken) < len(backups.lacking)
        return [*wal, *(Item(BACKUP, cluster.name, id) for id in taken)]

    async def _is_being_taken(self, entry: BackupEntry) -> bool:
        """Whether a backup that tier 1 lists still waits for its WAL, or for being read: then who takes it tells us."""
        folder = self._standing.cluster.folder
        if not await in_thread(is_held, folder / BACKUP_LOCK):
            return False
        journal = await in_thread(Journal(folder).read)
        return entry.started >= journal.backups.latest_start

    async def _backups(self) -> BackupsHeld:
        """What the manifests of both tiers say, read on from where they were read to."""
        here, there = self._chains
        tier1 = await Repository.listed(self._standing.cluster.tier1.base, self._clock, chain=here)
        tier2 = await Repository.listed(self._standing.tier.base, self._clock, chain=there)
        self._chains = tier1.chain, tier2.chain
        return BackupsHeld(tier1, tier2)

    async def _tidy(self, remote: RemoteHeld) -> None:
        """Remove parts of segments that are whole there; where they were left, this process or one before had died."""
        for segment in [found for found in remote.parts if self._standing.has(found)]:
            await drop_parts(self._standing, segment)

    async def _histories(self, remote: RemoteHeld) -> None:
        cluster = self._standing.cluster
        for timeline in await in_thread(cluster.archive.timelines):
            if timeline not in remote.timelines:
                await self._worker.do(Item(WAL, cluster.name, history_name(timeline)))

    # --- seeing to it

    async def _see_to(self, missing: Sequence[Item]) -> None:
        """Queue it; copy it where the queue is down, or brings nothing forward."""
        stuck = bool(self._before & set(missing)) and self._standing.copied == self._copied
        rest = [item for item in missing if not self._standing.is_busy(item) and (stuck or not await self._ask(item))]
        if rest:
            await self._copy(rest)

    async def _ask(self, item: Item) -> bool:
        return self._queue is not None and await self._queue.ask(item)

    async def _copy(self, items: Sequence[Item]) -> None:
        """Copy now, several at a time, in order. What is wrong with one holds up no other; an outage ends it."""
        waiting = deque(items)

        async def work() -> None:
            while waiting:
                try:
                    await self._one(waiting.popleft())
                except TallykeepError:
                    waiting.clear()
                    raise

        for ended in await asyncio.gather(*(work() for _ in range(self._parallel)), return_exceptions=True):
            if isinstance(ended, BaseException):
                raise ended

    async def _one(self, item: Item) -> None:
        failed = item in self._standing.failed
        try:
            await self._worker.do(item)
            if failed:
                await self._settled(item)
        except (IntegrityError, NotFound) as error:
            self._standing.troubled(item, str(error), given_up=True)

    async def _settled(self, item: Item) -> None:
        """It had failed and is there, or is wanted no more: its dead letter goes, too."""
        self._standing.succeeded(item)
        if self._queue is not None:
            await self._queue.forget(item)

    async def _pause(self, seconds: float) -> None:
        """Wait, less where there is something that the queue does not know of."""
        await self._clock.sleep(min(_BREATH, seconds))
        waiting = [asyncio.ensure_future(self._woken.wait()), asyncio.ensure_future(self._sleep(seconds - _BREATH))]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            self._woken.clear()

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    def _tell(self, error: TallykeepError) -> None:
        """Log an error: once while it stays the same, but always that tier 2 is another's."""
        refused = isinstance(error, Refused)
        if refused or str(error) != self._said:
            _log.log(logging.ERROR if refused else logging.WARNING, "%s", error)
        self._said = str(error)


class PartialCopier:
    """Service of one cluster: WAL of segments that are not complete, at most once in so many seconds."""

    def __init__(self, standing: Standing, every: float, clock: Clock) -> None:
        self.name = f"postgres-partial-{standing.cluster.name}"
        self._standing = standing
        self._every = every
        self._clock = clock
        self._said = ""

    async def run(self) -> None:
        """Copy until cancelled; what fails is tried again the next time."""
        await self._standing.looked.wait()
        while True:
            try:
                await copy_partial(self._standing)
                self._said = ""
            except TallykeepError as error:
                if str(error) != self._said:
                    _log.warning("%s", error)
                self._said = str(error)
            await self._clock.sleep(self._every)
