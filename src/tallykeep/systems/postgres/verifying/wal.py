"""WAL in one tier: from a backup's start to its stop record by record, the rest block by block.

Without the WAL between start and stop a base backup is worth nothing, so it has to be in the same tier. Of the rest
every block's checksum and seal is proved, and the seals of the histories of timelines. Records cost 40 MB/s; tier 1
has them proved in the background as they come. Memory: four segments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tallykeep.clock import Clock
from tallykeep.errors import IntegrityError, Malformed, NotFound, Unavailable
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.pages import PAGE
from tallykeep.systems.postgres.records import Records
from tallykeep.systems.postgres.verifying.manifest import WalRange
from tallykeep.systems.postgres.verifying.verdict import Problems
from tallykeep.systems.postgres.wal_source import HeldSegment, WalSource, history_of

_AT_ONCE = 4
_POLL = 0.5  # seconds between two looks for WAL that is on its way


class WalProof:
    """Proves WAL of one tier; a segment that one backup needed is not read again for the rest."""

    def __init__(self, source: WalSource, clock: Clock, patience: float) -> None:
        """`patience`: seconds in which WAL of a backup that has just ended may still arrive."""
        self._source = source
        self._clock = clock
        self._seen = set[Segment]()
        self._deadline = clock.monotonic() + patience

    async def needed(self, wanted: WalRange, problems: Problems) -> None:
        """Prove the records of a range that a backup needs. Raises: StoreErrors."""
        with _translated(self._source):
            identity = await self._source.identity()
            while identity is None and await self._wait():
                identity = await self._source.identity()
            if identity is None:
                problems.add(f"{self._source.name}: holds no WAL at all, and {_told(wanted)} is needed")
                return
            await self._history(wanted.timeline, problems)
            await self._records(wanted, identity.segment_size, problems)

    async def rest(self, problems: Problems, advance: Callable[[int], None]) -> None:
        """Prove the blocks of every segment that was not read yet, and all histories. Raises: StoreErrors."""
        with _translated(self._source):
            for timeline in await self._source.timelines():
                await self._history(timeline, problems)
            left = iter([held for held in await self._source.segments() if held.segment not in self._seen])
            workers = (self._blocks(left, problems, advance) for _ in range(_AT_ONCE))
            try:
                async with asyncio.TaskGroup() as group:
                    for worker in workers:
                        group.create_task(worker)
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None

    async def _history(self, timeline: int, problems: Problems) -> None:
        try:
            await history_of(self._source, timeline)
        except (IntegrityError, Malformed) as error:
            problems.add(f"history of timeline {timeline}: {error}")
        except NotFound as error:
            problems.add(str(error))

    async def _records(self, wanted: WalRange, size: int, problems: Problems) -> None:
        start = wanted.start - wanted.start % PAGE
        records = Records(size, start)
        segment = Segment.at(wanted.timeline, wanted.start, size)
        while segment.start < wanted.end:
            end = min(segment.end, wanted.end)
            problem = await self._segment(segment, records, max(start - segment.start, 0), end)
            self._seen.add(segment)
            if problem:
                problems.add(problem)
                return
            segment = segment.next()
        if records.verified < wanted.end:
            problems.add(
                f"{self._source.name}: of {_told(wanted)} records are proved to {records.verified} only; "
                f"look at segment {Segment.at(wanted.timeline, wanted.end - 1, size).name}"
            )

    async def _segment(self, segment: Segment, records: Records, start: int, end: int) -> str:
        """Prove a segment from byte `start` to the position `end`; what is wrong."""
        try:
            data = await self._read(segment, end)
            if segment.start + len(data) < end:
                held = LSN(segment.start + len(data))
                return f"{self._source.name}: WAL segment {segment.name} is held to {held} only, {LSN(end)} is needed"
            await in_thread(_feed, records, data, start, end - segment.start)
        except IntegrityError as error:
            return f"WAL segment {segment.name}: {error}"
        except NotFound as error:
            return str(error)
        return ""

    async def _read(self, segment: Segment, end: int) -> bytes:
        """A segment, waited for while it does not reach `end`. Raises: as WalSource.read does."""
        while True:
            try:
                data = await self._source.read(segment)
            except NotFound:
                if not await self._wait():
                    raise
            else:
                if segment.start + len(data) >= end or not await self._wait():
                    return data

    async def _wait(self) -> bool:
        """Whether there is time left, after some of it."""
        if self._clock.monotonic() >= self._deadline:
            return False
        await self._clock.sleep(_POLL)
        return True

    async def _blocks(
        self, left: Iterator[HeldSegment], problems: Problems, advance: Callable[[int], None]
    ) -> None:  # fmt: skip
        for held in left:
            try:
                await self._source.read(held.segment)
            except IntegrityError as error:
                problems.add(f"WAL segment {held.segment.name}: {error}")
            except NotFound:
                continue  # retention was faster
            advance(held.size)


def _feed(records: Records, data: bytes, start: int, end: int) -> None:
    """Prove the pages from `start` to the one that `end` lies in. Blocks. Raises: IntegrityError."""
    last = min(end + -end % PAGE, len(data) - len(data) % PAGE)
    records.feed(data[start:last])
    if last < end:  # the rest of its page has not arrived: what is held goes into the record it belongs to
        page = data[last:end].ljust(PAGE, b"\0")
        records.feed(page)


def _told(wanted: WalRange) -> str:
    return f"WAL {wanted.start} to {wanted.end} of timeline {wanted.timeline}"


@contextmanager
def _translated(source: WalSource) -> Iterator[None]:
    """Files of tier 1 are read without a store in between."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"{source.name}: WAL could not be read: {error.strerror}; check the disk.") from error
