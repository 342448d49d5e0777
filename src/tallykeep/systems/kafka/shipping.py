"""Segments on their way: sealed on a thread, stored, and handed to the committer in the order of their partition.

Sealing (packing, hashing) is CPU, storing is waiting: a few of each go on at once, beside the fetching.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from tallykeep.runtime.threads import in_thread
from tallykeep.storage.store import Store
from tallykeep.systems.kafka.backup_request import Stored
from tallykeep.systems.kafka.budget import Budget
from tallykeep.systems.kafka.collecting import Reading
from tallykeep.systems.kafka.committing import store_segment
from tallykeep.systems.kafka.manifest import GapEntry, segment_entry
from tallykeep.systems.kafka.recording import Committer, Ready
from tallykeep.systems.kafka.segment import Sealed, SegmentBuilder
from tallykeep.systems.kafka.steps import reached

_SEALING = 2  # at once
_STORING = 8


class Shipping:
    """Takes closed segments of all partitions."""

    def __init__(self, store: Store, committer: Committer, group: asyncio.TaskGroup, *, packs: bool) -> None:
        """`packs`: whether segments may be packed."""
        self.under_way = 0  # bytes
        self._store, self._committer, self._group = store, committer, group
        self._packs = packs
        self._sealing = asyncio.Semaphore(_SEALING)
        self._storing = asyncio.Semaphore(_STORING)
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, reading: Reading, budget: Budget) -> None:
        """Close the open segment of a partition and send it on its way, if it vouches for anything."""
        if reading.builder.end > reading.builder.start:
            self.send(reading, reading.close(), budget)

    def send(self, reading: Reading, builder: SegmentBuilder, budget: Budget) -> None:
        """Send a closed segment on its way; its bytes are given back to the budget when it is stored."""
        self.under_way += builder.memory
        reading.shipped = self._started(self._go(builder, reading.shipped, budget))

    def note(self, reading: Reading, gap: GapEntry) -> None:
        """Let a gap be committed, behind the segments that were sent before."""
        reading.shipped = self._started(self._after(reading.shipped, gap))

    async def all_stored(self) -> None:
        """Return when nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _go(self, builder: SegmentBuilder, before: asyncio.Task[None] | None, budget: Budget) -> None:
        size = builder.memory
        packing = builder.size if self._packs else 0  # the packed chunks, beside the batches
        async with self._sealing:
            budget.add(packing)
            sealed, stored = await in_thread(_sealed, builder)
        del builder  # what it has collected goes, the segment stays
        budget.release(packing)
        reached("sealed")
        async with self._storing:
            await store_segment(self._store, sealed)
        reached("stored")
        del sealed
        self.under_way -= size
        budget.release(size)
        await self._after(before, stored)

    async def _after(self, before: asyncio.Task[None] | None, ready: Ready) -> None:
        if before:
            await before
        self._committer.put(ready)

    def _started(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        try:
            task = self._group.create_task(work)
        except RuntimeError:  # the run has failed elsewhere, and this task is about to be cancelled
            work.close()
            raise asyncio.CancelledError from None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _sealed(builder: SegmentBuilder) -> tuple[Sealed, Stored]:
    sealed = builder.seal()
    return sealed, Stored(segment_entry(sealed), sealed.stored_by_algorithm())
