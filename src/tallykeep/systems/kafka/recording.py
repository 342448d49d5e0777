"""The one committer of a run: what is stored, of all partitions, becomes one record of the manifest at a time.

Segments of a partition come in their order. At most one record a second is written, and the last at once. Before
each, the cluster is asked for its topic ids: Fetch requests name topics, so a topic that was deleted and made again
under a run would be read on as if nothing had been. What was read before the old id was last seen is the old topic's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tallykeep.clock import Clock
from tallykeep.errors import SourceError, Unavailable
from tallykeep.runtime.backoff import Backoff
from tallykeep.systems.kafka.backup_request import Stored
from tallykeep.systems.kafka.chain import Chain
from tallykeep.systems.kafka.cluster import Cluster, Topic
from tallykeep.systems.kafka.manifest import Entry, GapEntry, SegmentEntry
from tallykeep.systems.kafka.segment import NO_TOPIC_ID
from tallykeep.systems.kafka.steps import reached

_PACE = 1.0  # seconds between records
_TRIES = 4


Ready = Stored | GapEntry  # what a record is to name


def entry_of(ready: Ready) -> SegmentEntry | GapEntry:
    """What the record says of it."""
    return ready.entry if isinstance(ready, Stored) else ready


def _topic_of(ready: Ready) -> tuple[str, str]:
    """Name and id."""
    entry = entry_of(ready)
    return entry.topic, entry.topic_id


class Committer:
    """Writes records for as long as `run` does."""

    def __init__(
        self,
        chain: Chain,
        cluster: Cluster,
        clock: Clock,
        committed: Callable[[Sequence[Ready]], None],
        replaced: Callable[[str], None],
    ) -> None:
        """`committed` is told what is durable, `replaced` the name of a topic that was made again."""
        self._chain, self._cluster, self._clock = chain, cluster, clock
        self._committed, self._replaced = committed, replaced
        self._ready: list[Ready] = []
        self._some = asyncio.Event()
        self._closed = asyncio.Event()
        self._other: set[tuple[str, str]] = set()  # topics that are not what they were

    def put(self, ready: Ready) -> None:
        """To be committed, after everything that was put before."""
        self._ready.append(ready)
        self._some.set()

    def close(self) -> None:
        """Nothing more will come: `run` returns when all is committed."""
        self._closed.set()
        self._some.set()

    async def run(self) -> None:
        """Commit what comes. Raises: Fenced; IntegrityError; StoreErrors; SourceErrors."""
        while not self._closed.is_set() or self._ready:
            await self._some.wait()
            self._some.clear()
            if self._ready:
                await self._commit()
                await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_PACE):
                await self._closed.wait()
        except TimeoutError:
            return

    async def _commit(self) -> None:
        ready, self._ready = self._ready, []
        self._look_for_others(await self._topics(), set(map(_topic_of, ready)) - self._other)
        sound = [each for each in ready if _topic_of(each) not in self._other]
        if not sound:
            return
        reached("to be committed")
        await append(self._chain, list(map(entry_of, sound)), self._clock)
        reached("committed")
        self._committed(sound)

    def _look_for_others(self, topics: dict[str, Topic], named: set[tuple[str, str]]) -> None:
        for name, topic_id in named:
            found = topics.get(name)
            if found and NO_TOPIC_ID not in (topic_id, found.topic_id) and found.topic_id != topic_id:
                self._other.add((name, topic_id))
                self._replaced(name)

    async def _topics(self) -> dict[str, Topic]:
        backoff = Backoff(0.5, 8.0)
        for _ in range(_TRIES):
            try:
                return await self._cluster.topics()
            except SourceError as error:
                if error.retry is None:
                    raise
                await self._clock.sleep(backoff.delay())
        return await self._cluster.topics()


async def append(chain: Chain, entries: Sequence[Entry], clock: Clock) -> None:
    """Commit `entries`, asking again where the store does not say whether it was done.

    Raises: as Chain.append does.
    """
    backoff = Backoff(0.5, 8.0)
    for _ in range(_TRIES):
        try:
            await chain.append(entries)
        except Unavailable:
            await clock.sleep(backoff.delay())
        else:
            return
    await chain.append(entries)
