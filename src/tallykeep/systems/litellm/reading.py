"""When what is read: one refresh of a tally from its database.

In this order: hours that have become old enough are read once more and sealed; the open minutes are read and
replaced; two sealed hours are checked against their fingerprints, one of all hours, round and round, and one of the
newest few, and a block is read again where a row came or went; windows whose start cuts a sealed block get the
minutes of its edge. All is committed to the ledger before the refresh counts as done.

A row reaches the log only after its request has ended and a batch was flushed, so minutes stay open for
`overlap` seconds; what comes later still is found by the check, within a full round at the latest, and a row that is
hours late within a few refreshes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from datetime import UTC, datetime

from tallykeep.runtime.threads import in_thread
from tallykeep.systems.litellm import statements
from tallykeep.systems.litellm.cells import Check
from tallykeep.systems.litellm.database import Database
from tallykeep.systems.litellm.ledger import Block
from tallykeep.systems.litellm.rows import Organizations, Rows, check_of, checks_by_hour, fold
from tallykeep.systems.litellm.schema import Schema
from tallykeep.systems.litellm.tally import DAY, HOUR, MINUTE, Tally, Window

_NEWEST_HOURS = 6  # checked all the time: rows that come very late mostly belong here
_RECENT_DAYS = 1  # and today are read in hours at first; older history in whole days


def moment(unix: float) -> datetime:
    """Unix seconds as LiteLLM stores them: UTC, without a zone."""
    return datetime.fromtimestamp(unix, UTC).replace(tzinfo=None)


def pieces(start: int, stop: int, recent: int) -> Iterator[tuple[int, int, int]]:
    """(from, to, step) of the ranges in which [start, stop) is sealed: hours to the first midnight, then whole
    days, one at a time, up to `recent`, then the hours of each day."""
    while start < stop:
        midnight = start // DAY * DAY + DAY
        if start % DAY == 0 and midnight <= min(stop, recent):
            yield start, midnight, DAY
            start = midnight
        else:
            end = min(midnight, stop)
            yield start, end, HOUR
            start = end


def _recent(now: float) -> int:
    """Unix seconds from which on history is read in hours."""
    return int(now) // DAY * DAY - _RECENT_DAYS * DAY


class Reader:
    """Reads blocks of cells from the spend logs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def blocks(
        self,
        schema: Schema,
        organizations: Organizations,
        start: int,
        stop: int | None,
        step: int,
        *,
        details: bool = False,
    ) -> dict[int, Block]:
        """Blocks of `step` seconds with rows in [start, stop), by start, all of one moment. No stop: no end.

        `details` reads metadata as well: for short ranges only.
        """
        bounds = {"start": moment(start), "stop": None if stop is None else moment(stop)}
        async with self._database.session() as session:
            found = Rows(
                await session.rows(statements.groups(schema, step), bounds),
                await session.rows(statements.durations(step), bounds),
                await session.rows(statements.tags(step), bounds),
                await session.rows(statements.details(step), bounds) if details else [],
            )
            hours = checks_by_hour(await session.rows(statements.checks(), bounds) if step == DAY else ())
        blocks = await in_thread(fold, found, step, organizations)
        for block in blocks.values():
            if step == HOUR:
                block.checks = [check_of(block.cells)]
            elif step == DAY:
                block.checks = [hours.get(hour, check_of({})) for hour in range(block.start, block.stop, HOUR)]
        return blocks

    async def sealed(
        self, schema: Schema, organizations: Organizations, start: int, stop: int, step: int
    ) -> list[Block]:
        """The same for a range that is to be sealed: every stretch has a block, empty ones too."""
        found = await self.blocks(schema, organizations, start, stop, step)
        empty = [check_of({})] * (step // HOUR)
        return [found.get(at) or Block(at, at + step, {}, {}, list(empty)) for at in range(start, stop, step)]


class Reading:
    """Keeps one tally in step with its database."""

    def __init__(self, reader: Reader, tally: Tally, overlap: float, database: Database) -> None:
        self._reader = reader
        self._tally = tally
        self._overlap = overlap
        self._database = database
        self._read_until: float | None = None  # when the open minutes were last read; None: never by this process
        self._turn = 0  # Unix seconds up to which this round of checks has come
        self._newest = 0  # which of the newest hours was checked last
        self.rounds = 0  # full rounds of checks
        self.repaired = 0  # blocks that a check found changed

    @property
    def checked_until(self) -> float:
        """Unix seconds up to which the present round of checks has come; 0 at the start of one."""
        return float(self._turn)

    async def refresh(self, schema: Schema, organizations: Organizations, now: float) -> None:
        """Bring the tally up to `now`.

        Raises: the errors of Database.session; Unavailable or Corrupt of the ledger. The tally stays whole.
        """
        tally = self._tally
        await in_thread(tally.advance, now)
        await self._prepend(schema, organizations, now)
        await self._seal(schema, organizations, now)
        await self._reopen(schema, organizations, now)
        await self._check(schema, organizations)
        for window in tally.windows.values():
            await self._edge(schema, organizations, window)
        await in_thread(tally.commit)

    def _horizon(self) -> int:
        return min(window.start for window in self._tally.windows.values()) // HOUR * HOUR

    async def _prepend(self, schema: Schema, organizations: Organizations, now: float) -> None:
        """Read what a window that has become longer needs, newest first: a reading that is cut leaves no hole."""
        oldest = self._tally.sealed_from
        if oldest is None or oldest <= self._horizon():
            return
        for piece in reversed([*pieces(self._horizon(), oldest, _recent(now))]):
            blocks = await self._reader.sealed(schema, organizations, *piece)
            await in_thread(self._tally.prepend, reversed(blocks))
            await in_thread(self._tally.commit)

    async def _seal(self, schema: Schema, organizations: Organizations, now: float) -> None:
        tally = self._tally
        start = self._horizon() if tally.sealed_until is None else tally.sealed_until  # however long it was away
        stop = int(now - self._overlap) // HOUR * HOUR
        recent = _recent(now)
        ahead: asyncio.Task[list[Block]] | None = None
        try:
            for piece in pieces(start, stop, recent):
                ahead, ready = asyncio.ensure_future(self._reader.sealed(schema, organizations, *piece)), ahead
                await self._keep(ready)
            await self._keep(ahead)
        except BaseException:
            if ahead is not None:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)
            raise

    async def _keep(self, ready: Awaitable[list[Block]] | None) -> None:
        if ready is not None:
            await in_thread(self._tally.seal, await ready)
            await in_thread(self._tally.commit)  # a first reading that is cut goes on from here

    async def _reopen(self, schema: Schema, organizations: Organizations, now: float) -> None:
        sealed = self._tally.sealed_until or int(now - self._overlap) // HOUR * HOUR
        since = sealed
        if self._read_until is not None:
            since = max(sealed, int(self._read_until - self._overlap) // MINUTE * MINUTE)
        minutes = await self._reader.blocks(schema, organizations, since, None, MINUTE, details=True)
        await in_thread(self._tally.reopen, since, minutes)
        self._read_until = now

    async def _edge(self, schema: Schema, organizations: Organizations, window: Window) -> None:
        while (block := self._tally.missing_edge(window)) is not None:
            start, stop = block
            if stop - start > HOUR:
                hours = await self._reader.sealed(schema, organizations, start, stop, HOUR)
                await in_thread(self._tally.split, start, hours)
            else:
                minutes = await self._reader.blocks(schema, organizations, start, stop, MINUTE)
                await in_thread(self._tally.cut, window, start, minutes)

    async def _check(self, schema: Schema, organizations: Organizations) -> None:
        hours = [hour for hour in (self._next_hour(), self._newest_hour()) if hour is not None]
        if not hours:
            return
        found: dict[int, Check] = {}
        async with self._database.session() as session:
            for hour in hours:
                bounds = {"start": moment(hour), "stop": moment(hour + HOUR)}
                found |= checks_by_hour(await session.rows(statements.checks(), bounds))
        for hour in hours:
            start, stop = self._tally.sealed_at(hour)
            if not found.get(hour, check_of({})).agrees(self._tally.check(start, (hour - start) // HOUR)):
                [block] = await self._reader.sealed(schema, organizations, start, stop, stop - start)
                await in_thread(self._tally.replace, block)
                self.repaired += 1
        self._turn = hours[0] + HOUR

    def _next_hour(self) -> int | None:
        """The sealed hour that is to be checked next; after the last of them a round is full."""
        oldest, newest = self._tally.sealed_from, self._tally.sealed_until
        if oldest is None or newest is None:
            return None
        if self._turn >= newest:
            self.rounds += 1
            self._turn = 0
            self._read_until = None  # late rows of minutes that are neither sealed nor read again in each refresh
        return max(oldest, self._turn)

    def _newest_hour(self) -> int | None:
        """One of the hours that were sealed last, each in its turn."""
        oldest, newest = self._tally.sealed_from, self._tally.sealed_until
        self._newest = (self._newest + 1) % _NEWEST_HOURS
        if oldest is None or newest is None:
            return None
        return max(oldest, newest - HOUR * (self._newest + 1))
