"""A backup run: everything from where the backup ends to where the cluster ended when the run began.

The writer's fence, the cluster's snapshot, then the data of all partitions, and a last record when every one of them
has reached the cut. Whoever is killed on the way leaves a chain whose end is the checkpoint; the next run goes on
there. Reading order: cutting, lanes (fetching, collecting), recovering, shipping, recording; course is what they
share, budget bounds the memory.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping

from tallykeep.clock import Clock
from tallykeep.errors import Conflict, SourceError, TallykeepError
from tallykeep.runtime.backoff import Backoff
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.digest import check_digest
from tallykeep.storage.store import Store
from tallykeep.systems.kafka.backup_request import BackupRequest, BackupResult, Figures
from tallykeep.systems.kafka.brokers import Brokers
from tallykeep.systems.kafka.chain import Chain
from tallykeep.systems.kafka.cluster import Cluster
from tallykeep.systems.kafka.course import Course
from tallykeep.systems.kafka.cutting import Cut, take_cut
from tallykeep.systems.kafka.fetching import Line
from tallykeep.systems.kafka.held import Held, Incarnation, add_up
from tallykeep.systems.kafka.lanes import Lane
from tallykeep.systems.kafka.manifest import CompleteEntry, Entry, SnapshotEntry
from tallykeep.systems.kafka.memory import keep_large_blocks
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.recording import Committer, append
from tallykeep.systems.kafka.recovering import recover
from tallykeep.systems.kafka.shipping import Shipping
from tallykeep.systems.kafka.snapshot import Snapshot
from tallykeep.systems.kafka.steps import reached
from tallykeep.systems.kafka.wire import Codec

log = logging.getLogger(__name__)


async def back_up(
    request: BackupRequest,
    cluster: Cluster,
    brokers: Brokers,
    store: Store,
    clock: Clock,
    figures: Figures,
    stop: asyncio.Event,
) -> BackupResult:
    """Back up what is selected, once. When `stop` is set, what has come is committed and the run ends.

    A partition that cannot be read is told in the result, and does not hold up the others.
    Raises: Fenced where another writer takes the backup over; ConfigError; SourceErrors; StoreErrors; IntegrityError.
    What had been committed before stays; the next run goes on there.
    """
    keep_large_blocks()
    try:
        result = await _Run(request, cluster, brokers, store, clock, figures, stop).run()
    except TallykeepError as error:
        figures.failed(error)
        figures.finished("failure")
        raise
    figures.finished("success" if result.complete else "failure")
    return result


class _Run:
    """One run."""

    def __init__(
        self,
        request: BackupRequest,
        cluster: Cluster,
        brokers: Brokers,
        store: Store,
        clock: Clock,
        figures: Figures,
        stop: asyncio.Event,
    ) -> None:
        self.nonce = secrets.token_hex(16)
        self._request, self._cluster, self._brokers, self._store = request, cluster, brokers, store
        self._clock, self._figures, self._stop = clock, figures, stop
        self._began = clock.monotonic()
        self._chain: Chain

    async def run(self) -> BackupResult:
        self._chain = await Chain.open(self._store, self._clock)
        reached("opened")
        await self._chain.take_over()
        reached("fenced")
        held = await in_thread(add_up, self._chain.records)
        cut = await self._cut(held)
        reached("cut")
        await self._begin(cut)
        course = Course(self._request, cut.readings, self._figures, self._clock)
        self._tell(cut, course)
        await self._read(course)
        result = self._result(cut, course)
        reached("reached")
        if result.complete:
            entry = CompleteEntry(self.nonce, result.records, result.bytes, result.stored, round(result.seconds, 3))
            await append(self._chain, [entry], self._clock)
            reached("completed")
        return result

    async def _cut(self, held: Mapping[Incarnation, Held]) -> Cut:
        """What there is to do; asked again while leaders move or brokers come back."""
        backoff = Backoff(0.2, 5.0)
        while True:
            try:
                return await take_cut(self._request, self._cluster, self._brokers, held, self.nonce, self._clock)
            except SourceError as error:
                patient = self._clock.monotonic() - self._began < self._request.patience
                if error.retry is None or not patient or self._stop.is_set():
                    raise
                self._figures.retried(error.code)
                await self._clock.sleep(backoff.delay())

    async def _begin(self, cut: Cut) -> None:
        """Make the snapshot durable, and commit it with where partitions begin and what was gone before."""
        entry = await self._store_snapshot(cut.snapshot)
        reached("snapshot stored")
        entries: list[Entry] = [entry, *cut.starts, *cut.gaps]
        await append(self._chain, entries, self._clock)
        reached("snapshot committed")

    async def _store_snapshot(self, snapshot: Snapshot) -> SnapshotEntry:
        data, entry = await in_thread(_encoded, snapshot)
        try:
            await self._store.create(entry.key, data)
        except Conflict:  # a lost reply: it is our own
            check_digest(f"{self._store.name}/{entry.key}", await self._store.read(entry.key), entry.hash)
        return entry

    def _tell(self, cut: Cut, course: Course) -> None:
        """What there is to do, and what cannot be done."""
        for name in cut.new_incarnations:
            log.warning("topic %r was deleted and made again since the last run: it begins anew in this backup", name)
        for gap in cut.gaps:
            course.lost(gap)
        course.tally.gaps += cut.gaps
        for topic in cut.snapshot.topics:
            for part in topic.partitions:
                place = Place(topic.name, part.partition)
                self._figures.targeted(place, max(part.end - part.start, 0))
                self._figures.unstable(place, part.high_watermark - part.end)
        for place, error in cut.failed.items():
            log.error("%s", error)
            course.unfinished[place] = error
            self._figures.failed(error)

    async def _read(self, course: Course) -> None:
        """Read every partition to the cut, and commit it."""
        try:
            async with asyncio.TaskGroup() as group:
                course.committer = Committer(
                    self._chain, self._cluster, self._clock, course.committed, course.replaced
                )  # fmt: skip
                course.shipping = Shipping(
                    self._store, course.committer, group, packs=self._request.pack is not Codec.NONE
                )
                committing = group.create_task(course.committer.run())
                beside = [
                    group.create_task(self._watch(course)),
                    group.create_task(recover(course, self._cluster, self._brokers)),
                ]
                await self._lanes(course)
                for task in beside:
                    task.cancel()
                course.close_all()
                await course.shipping.all_stored()
                course.committer.close()
                await committing
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _watch(self, course: Course) -> None:
        await self._stop.wait()
        course.stop()

    async def _lanes(self, course: Course) -> None:
        """Lanes to every broker that leads something, also to those that come to it later; until all is read."""
        known: set[int] = set()
        async with asyncio.TaskGroup() as group:
            while not course.over:
                for leader in set(course.leaders) - known:
                    if leader not in self._cluster.brokers:
                        course.strand(leader)
                        continue
                    known.add(leader)
                    for number in range(self._request.lanes):
                        line = Line(self._brokers, self._cluster.brokers, leader, number)
                        group.create_task(Lane(course, line).run())
                await course.change()

    def _result(self, cut: Cut, course: Course) -> BackupResult:
        topics, tally = cut.snapshot.topics, course.tally
        return BackupResult(
            self.nonce, len(topics), sum(len(topic.partitions) for topic in topics),
            tally.records, tally.bytes, tally.stored, tally.segments, tally.gaps, cut.new_incarnations,
            self._clock.monotonic() - self._began, bool(course.left), _reasons(course.unfinished),
        )  # fmt: skip


def _encoded(snapshot: Snapshot) -> tuple[bytes, SnapshotEntry]:
    data = snapshot.encode()
    return data, snapshot.entry(data)


def _reasons(errors: Mapping[Place, TallykeepError]) -> dict[Place, str]:
    return {place: str(error) for place, error in errors.items()}


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended a group of tasks."""
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
