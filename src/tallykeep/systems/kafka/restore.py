"""A restore: topics made ready, batches sent, read back and compared, settings put back, offsets mapped.

Each step is written down before it is taken or can be told from the target, so that a restore which was cut anywhere
is gone on with by the same command: nothing is lost, nothing is there twice. Memory is bounded: for each of the
partitions in work (max_concurrent_partitions) two pieces of a segment and what waits to be sent, some 20 MiB.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tallykeep.clock import Clock
from tallykeep.errors import Conflict, RestoreError, StoreError, TallykeepError
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.kafka.offset_map import OffsetMap
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.producing import Lane, Producing
from tallykeep.systems.kafka.restore_plan import Figures, PlannedPartition, RestorePlan
from tallykeep.systems.kafka.restore_state import PartitionState, Phase, RestoreState, StateFolder
from tallykeep.systems.kafka.restoring.outgoing import Outgoing, Stint, unexpected_end
from tallykeep.systems.kafka.restoring.resuming import certain_end, ends_of, forgotten, new_producer_id, settle
from tallykeep.systems.kafka.restoring.stream import PartitionStream
from tallykeep.systems.kafka.restoring.targets import LeaderBook, check_same, finish, intentions, prepare
from tallykeep.systems.kafka.restoring.tasks import at_once, patiently
from tallykeep.systems.kafka.snapshot import Snapshot
from tallykeep.systems.kafka.steps import RestoreStep, reached
from tallykeep.systems.kafka.verify import Reader, compare

if TYPE_CHECKING:
    from tallykeep.systems.kafka.brokers import Brokers
    from tallykeep.systems.kafka.cluster import Cluster


_PATIENCE = 60.0  # seconds for which the cluster is asked again, where that may help
_T = TypeVar("_T")
_STEPS: dict[Phase, RestoreStep] = {
    "begun": "restore begun",
    "data_in": "restore data_in",
    "verified": "restore verified",
    "put_back": "restore put_back",
    "complete": "restore complete",
}


@dataclass(slots=True)
class RestoreResult:
    """What has come of it."""

    run: str
    topics: int
    partitions: int
    records: int = 0  # in the target, of this restore, whenever they were sent
    sent: int = 0  # records of them that were sent now
    bytes: int = 0  # sent now, uncompressed as far as the backup knows
    verified: int | None = None  # records that were read back and found equal; None: not looked at
    seconds: float = 0.0
    interrupted: bool = False
    offset_map: Path | None = None
    notes: list[str] = field(default_factory=list)


Groups = Callable[[Snapshot, OffsetMap], Awaitable[None]]


async def restore(
    plan: RestorePlan, cluster: Cluster, brokers: Brokers, clock: Clock, figures: Figures, stop: asyncio.Event,
    *, groups: Groups | None = None,
) -> RestoreResult:  # fmt: skip
    """Do what was planned, or what is left of it. With `stop` set it ends soon, to be gone on with.

    `groups` is called last, with the backup's snapshot and the offset map, to set what consumer groups read next; the
    restore is not complete before, so after a crash it may be called again.

    Raises: RestoreError; SourceErrors; StoreErrors; IntegrityError: what was done stays, and is gone on with.
    """
    if plan.fatal:
        raise RestoreError("\n".join(f"{finding.code}: {finding.message}" for finding in plan.fatal))
    started = clock.monotonic()
    try:
        async with StateFolder(plan.request.state) as folder:
            work = _Restore(plan, await _state(plan, folder), folder, cluster, brokers, clock, figures, stop)
            await work.run(groups)
    except TallykeepError as error:
        figures.failed(error)
        figures.finished("failure")
        raise
    work.result.seconds = clock.monotonic() - started
    figures.finished("failure" if work.result.interrupted else "success")
    return work.result


async def _state(plan: RestorePlan, folder: StateFolder) -> RestoreState:
    state = await folder.load(plan.id)
    if (state is None) != (plan.state is None):
        raise RestoreError(f"the state in {plan.request.state} has changed since the restore was planned: start again.")
    return state or RestoreState(plan.id, f"{plan.id}-{secrets.token_hex(4)}", plan.backup.sequence)


class _Restore:
    """One restore at work."""

    def __init__(
        self, plan: RestorePlan, state: RestoreState, folder: StateFolder, cluster: Cluster, brokers: Brokers,
        clock: Clock, figures: Figures, stop: asyncio.Event,
    ) -> None:  # fmt: skip
        self.result = RestoreResult(state.run, len(plan.topics), len(plan.routes))
        self._plan, self._request, self._state, self._folder = plan, plan.request, state, folder
        self._cluster, self._brokers, self._clock, self._figures, self._stop = cluster, brokers, clock, figures, stop
        self._leaders = LeaderBook(cluster)
        self._ends: dict[Place, int] = {}
        self._sent: dict[Place, tuple[int, int]] = {}  # records, bytes: not reported yet
        self._map = OffsetMap(state.run, plan.backup.store.name, cluster.cluster_id)

    async def run(self, groups: Groups | None) -> None:
        """All steps that are left."""
        if not self._state.has("begun"):
            await self._begin()
        elif not self._state.has("put_back"):
            await check_same(self._state, self._cluster)
        if not self._state.has("data_in"):
            self._ends = await self._patiently(self._ends_now)
        if not self._state.has("data_in") and not await self._bring_in():
            self.result.interrupted = True
            return
        await self._conclude()
        if groups:
            await groups(self._plan.snapshot, self._map)
        await self._advance("complete")

    async def _begin(self) -> None:
        """Say what will be done, make the topics ready, and say under which ids they are written to."""
        if not self._state.topics:
            self._state.topics = await intentions(self._plan, self._cluster)
            await self._folder.save(self._state)
            reached("restore intended")
        await prepare(self._plan, self._state, self._cluster)
        ends = await self._empty_ends()
        ours = await new_producer_id(self._cluster, self._brokers, self._clock)
        self._state.partitions = {place: PartitionState(place, [Stint(end, *ours)]) for place, end in ends.items()}
        await self._advance("begun")

    async def _empty_ends(self) -> dict[Place, int]:
        places = [route.target for route in self._plan.routes]
        first, last = await self._cluster.offsets(places, "earliest"), await self._cluster.offsets(places, "latest")
        if full := [place for place in places if first[place] != last[place]]:
            raise RestoreError(f"{', '.join(map(str, full))} are not empty any more: something else writes to them.")
        return last

    async def _bring_in(self) -> bool:
        """Send what is not there; whether everything is there now."""
        await self._renew()
        there = sum(self._ends[state.place] - state.stints[0].start for state in self._partitions)
        self._figures.targeted(max(0, self._plan.records - there))
        self.result.records = there
        for route in self._plan.routes:
            place = Place(route.source.topic, route.source.partition)
            self._map.begin(place, route.target, self._state.partitions[route.target].stints[0].start)
        async with Producing(
            self._brokers, self._leaders, self._clock, timeout=self._request.produce_timeout,
            position=self._position, done=self._done, retried=lambda _, error: self._figures.retried(error.code),
        ) as producing:  # fmt: skip
            work = (self._send(route, producing.lane(route.target)) for route in self._plan.routes)
            await at_once(work, self._request.max_concurrent_partitions)
        if self._stop.is_set():
            return False
        reached("restore sent")
        await self._folder.save_map(self._state, await in_thread(self._map.encode))
        await self._advance("data_in")
        return True

    async def _renew(self) -> None:
        """New ids for partitions whose leaders have forgotten the old one, once it is sure what is there."""
        written = [state for state in self._partitions if self._ends[state.place] > state.stints[-1].start]
        gone = await forgotten(self._cluster, self._brokers, self._leaders, written)
        if not gone:
            return
        routes = [route for route in self._plan.routes if route.target in gone]
        self._ends |= await settle(self._cluster, sorted(gone), self._clock)
        await at_once((self._compare(route, whole=False) for route in routes), self._request.max_concurrent_partitions)
        ours = await new_producer_id(self._cluster, self._brokers, self._clock)
        for place in gone:
            self._state.partitions[place].stints.append(Stint(self._ends[place], *ours))
        await self._folder.save(self._state)
        reached("restore renewed")

    async def _send(self, route: PlannedPartition, lane: Lane) -> None:
        """One partition, from where its target ends."""
        end = self._ends[route.target]
        stream = self._stream(route, end)
        async with aclosing(stream.batches()) as pieces:
            async for batches in pieces:
                self._note_runs(route, stream)
                if self._stop.is_set():
                    await lane.halt()
                    self._report(route.target)
                    return
                await lane.put(batches)
                self._report(route.target)
        await lane.drain()
        self._report(route.target)
        if stream.assembler.offset < end:
            raise RestoreError(f"{route.target}: {unexpected_end(end)}")

    async def _conclude(self) -> None:
        """What comes once the data is in."""
        if self._request.verify and not self._state.has("verified"):
            self._ends = await self._patiently(self._ends_now)
            work = (self._compare(route) for route in self._plan.routes)
            self.result.verified = sum(await at_once(work, self._request.max_concurrent_partitions))
            await self._advance("verified")
        if not self._state.has("put_back"):
            await self._patiently(lambda: finish(self._state, self._cluster))
            await self._advance("put_back")
        await self._publish()

    async def _publish(self) -> None:
        """Put the offset map beside the backup, where the store can be written."""
        store = self._plan.backup.store
        self.result.offset_map, data = await self._folder.load_map(self._state)
        self._map = await in_thread(OffsetMap.decode, data, "offset map")
        self.result.records = sum(mapped.records for mapped in self._map.places.values())
        try:
            await store.create(f"restores/{self._state.run}/offset-map.json", data)
        except Conflict:
            pass  # from before a crash
        except StoreError as error:
            self.result.notes.append(f"the offset map is in {self._request.state} alone: {error}")
        reached("restore map stored")

    async def _compare(self, route: PlannedPartition, *, whole: bool = True) -> int:
        start, end = self._state.partitions[route.target].stints[0].start, self._ends[route.target]
        stream = self._stream(route, start)
        reader = Reader(self._brokers, self._leaders, self._clock, self._request.produce_timeout)
        return await compare(stream, reader, route.target, start, end, whole=whole)

    def _stream(self, route: PlannedPartition, end: int) -> PartitionStream:
        stints = self._state.partitions[route.target].stints
        largest = self._state.topics[route.target.topic].largest
        return PartitionStream(self._plan.backup, route.segments, stints, end, self._request.window, largest)

    async def _advance(self, phase: Phase) -> None:
        self._state.phase = phase
        await self._folder.save(self._state)
        reached(_STEPS[phase])

    async def _ends_now(self) -> dict[Place, int]:
        await self._cluster.topics()  # who leads now
        return await ends_of(self._cluster, self._partitions)

    async def _patiently(self, work: Callable[[], Awaitable[_T]]) -> _T:
        return await patiently(self._clock, _PATIENCE, work)

    @property
    def _partitions(self) -> Sequence[PartitionState]:
        return list(self._state.partitions.values())

    def _note_runs(self, route: PlannedPartition, stream: PartitionStream) -> None:
        runs, stream.assembler.runs = stream.assembler.runs, []
        source = Place(route.source.topic, route.source.partition)
        for offset, target, count in runs:
            self._map.add(source, route.target, offset, target, count)

    async def _position(self, place: Place) -> int:
        state = self._state.partitions[place]
        return await certain_end(self._cluster, self._brokers, self._leaders, state, self._clock)

    def _done(self, place: Place, one: Outgoing) -> None:
        records, size = self._sent.get(place, (0, 0))
        self._sent[place] = (records + one.records, size + (one.uncompressed or one.size))

    def _report(self, place: Place) -> None:
        """What was acknowledged since."""
        records, size = self._sent.pop(place, (0, 0))
        if records:
            self.result.sent += records
            self.result.records += records
            self.result.bytes += size
            self._figures.restored(place, records, size)
