"""How tier 2 of one cluster stands, as this process knows it: between two comparisons it is kept up as things happen.

Used by the event loop alone. Memory: about 200 bytes for each segment that tier 2 holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres import coverage
from tallykeep.systems.postgres.cluster import Cluster, Tier
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.offload.held import RemoteHeld
from tallykeep.systems.postgres.offload.items import WAL, Item
from tallykeep.systems.postgres.wal_source import stretches

_log = logging.getLogger(__name__)


def _stretches(remote: RemoteHeld) -> list[coverage.Held]:
    return stretches(remote.held())


class Standing:
    """What is known, what is lacking, what has failed."""

    def __init__(self, cluster: Cluster, tier: Tier) -> None:
        self.cluster = cluster
        self.tier = tier
        self.owned: bool | None = None  # None: not known yet; False: it is not ours to write
        self.remote: RemoteHeld | None = None  # None: before the first comparison
        self.lacking: set[Segment] = set()
        self.proved: dict[Segment, int] = {}  # hold the same WAL in other bytes, and so many
        self.failed: dict[Item, str] = {}  # given up until somebody or the next comparison asks again: the problem
        self.tried: set[Segment] = set()  # were sent, and no answer came yet
        self.copied = 0  # since the process began
        self.looked = asyncio.Event()  # there was a first comparison, or it is known to be another's
        self._since: dict[Segment, int] = {}
        self._said: dict[Item, str] = {}
        self._busy: dict[Item, tuple[asyncio.Lock, int]] = {}  # and how many want it

    @property
    def ready(self) -> bool:
        """Whether anything may be written."""
        return bool(self.owned) and self.remote is not None

    def begin(self) -> None:
        """A comparison begins: what is stored from now on may be in its listing, or not."""
        self._since.clear()

    def compared(self, remote: RemoteHeld, missing: Iterable[Segment]) -> None:
        """Take in a comparison of the tiers."""
        remote.segments.update(self._since)
        self.proved = {segment: size for segment, size in self.proved.items() if segment in remote.segments}
        self.remote, self.lacking, self.owned = remote, set(missing).difference(self._since), True
        self.looked.set()

    def refused(self) -> None:
        """It is not ours."""
        self.owned = False
        self.looked.set()

    def completed(self, segment: Segment) -> None:
        """Tier 1 holds one more."""
        if self.remote is not None and segment not in self.remote.segments:
            self.lacking.add(segment)

    def let_go(self, item: Item) -> None:
        """Retention was faster: tier 1 does not hold it any more, so tier 2 is not behind for it."""
        self.lacking = {segment for segment in self.lacking if segment.name != item.name}

    def stored(self, segment: Segment, size: int, *, same_bytes: bool) -> None:
        """Tier 2 holds it."""
        assert self.remote is not None, "nothing is written before a comparison"
        self.remote.segments[segment] = self._since[segment] = size
        self.lacking.discard(segment)
        self.copied += 1
        if not same_bytes:
            self.proved[segment] = size

    def found(self) -> Iterator[int]:
        """Sizes of segments that had been sent, and were found there by a comparison, each once."""
        for segment in [tried for tried in self.tried if self.has(tried)]:
            if not self.is_busy(Item(WAL, self.cluster.name, segment.name)) and self.remote is not None:
                self.tried.discard(segment)
                yield self.remote.segments[segment]

    def has(self, segment: Segment) -> bool:
        """Whether tier 2 is known to hold it, whole."""
        return self.remote is not None and segment in self.remote.segments and segment not in self.lacking

    def position(self) -> LSN | None:
        """All WAL of tier 1 before it is in tier 2; None before the first comparison, or where there is none."""
        if self.remote is None or not (self.remote.segments or self.remote.parts):
            return None
        newest = max([*self.remote.segments, *self.remote.parts])
        return min([self.remote.end(newest), *map(self.remote.part_end, self.lacking)])

    async def held(self) -> list[coverage.Held]:
        """Stretches of WAL that tier 2 holds. Of 100,000 segments they take half a second, so a thread finds them."""
        return [] if self.remote is None else await in_thread(_stretches, self.remote.copy())

    @property
    def timeline(self) -> int:
        """The newest that tier 2 holds WAL of; 0 where there is none."""
        found = [] if self.remote is None else [*self.remote.segments, *self.remote.parts]
        return max((segment.timeline for segment in found), default=0)

    def succeeded(self, item: Item) -> None:
        """It is there: whatever was wrong is no more."""
        self.failed.pop(item, None)
        self._said.pop(item, None)

    def troubled(self, item: Item, problem: str, *, given_up: bool) -> None:
        """It did not work. Logged once for each problem."""
        if given_up:
            self.failed[item] = problem
        if self._said.get(item) != problem:
            self._said[item] = problem
            _log.log(logging.ERROR if given_up else logging.WARNING, "%s was not copied to tier 2: %s", item, problem)

    @asynccontextmanager
    async def alone(self, item: Item) -> AsyncIterator[None]:
        """Nobody else in this process copies the same thing meanwhile."""
        lock, users = self._busy.get(item, (asyncio.Lock(), 0))
        self._busy[item] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            _, users = self._busy.pop(item)
            if users > 1:
                self._busy[item] = lock, users - 1

    def is_busy(self, item: Item) -> bool:
        """Whether it is being copied now."""
        return item in self._busy
