"""WAL of one cluster from several tiers: the first that has a file gives it, and what is damaged in one is healed.

Only what no tier holds is not there. A tier that does not answer, or has lost even its identity, may hold what is
asked for, so it never counts as one that does not: to a server that recovers the difference is between going on and
opening with data lost. Memory: a segment for each tier.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tallykeep.errors import IntegrityError, NotFound, TallykeepError, Unavailable
from tallykeep.systems.postgres.archive import Identity
from tallykeep.systems.postgres.lsn import Segment
from tallykeep.systems.postgres.wal_source import HeldSegment, WalSource

T = TypeVar("T")
_log = logging.getLogger(__name__)


class TieredWal:
    """Several WalSources of one cluster, in the order in which they are asked."""

    def __init__(self, sources: Sequence[WalSource]) -> None:
        self.sources = sources

    async def identity(self) -> Identity:
        """Whose WAL it is. Raises: Unavailable where no tier has any; what reading it raises."""
        for source in self.sources:
            found = await source.identity()
            if found is not None:
                return found
        raise Unavailable(f"{self._names()}: there is no WAL archive: is it mounted, is it the right place?")

    async def segments(self) -> list[HeldSegment]:
        """What all tiers together hold, by timeline and position. Raises: as the sources do."""
        return merged([await source.segments() for source in self.sources])

    async def timelines(self) -> list[int]:
        """Timelines whose history any tier holds."""
        return sorted({number for source in self.sources for number in await source.timelines()})

    async def history_text(self, timeline: int) -> str:
        """A history file. Raises: NotFound where no tier has it; IntegrityError; StoreErrors."""
        return await self._first(f"the history of timeline {timeline}", lambda source: source.history_text(timeline))

    async def read(self, segment: Segment) -> bytes:
        """The WAL of a segment, whole from the first tier that has it so; else as much as any tier holds.

        Raises: NotFound where every tier has answered and none holds any of it; IntegrityError where it is damaged
        and no tier heals it; StoreErrors.
        """
        best = b""

        async def whole(source: WalSource) -> bytes:
            nonlocal best
            data = await source.read(segment)
            best = max(best, data, key=len)
            if len(data) < segment.size:
                raise NotFound(f"{source.name}: holds only {len(data)} bytes of {segment.name}.")
            return data

        try:
            return await self._first(f"the WAL segment {segment.name}", whole)
        except NotFound:
            if best:
                return best
            raise

    async def _first(self, what: str, ask: Callable[[WalSource], Awaitable[T]]) -> T:
        problems: list[TallykeepError] = []
        for source in self.sources:
            try:
                found = await ask(source)
            except NotFound:
                if (problem := await _unsure(source)) is not None:
                    problems.append(problem)
            except TallykeepError as error:
                problems.append(error)
            else:
                for problem in problems:
                    _log.warning("%s comes from tier %s instead: %s", what, source.tier, problem)
                return found
        if problems:
            raise max(problems, key=lambda problem: isinstance(problem, IntegrityError))
        raise NotFound(f"{self._names()}: there is nothing of {what}.")

    def _names(self) -> str:
        return " and ".join(source.name for source in self.sources) or "no tier"


async def _unsure(source: WalSource) -> TallykeepError | None:
    """Why "it is not there" cannot be believed of a tier."""
    try:
        if await source.identity() is not None:
            return None
    except TallykeepError as error:
        return error
    return Unavailable(f"{source.name}: is no WAL archive any more: is it mounted, is it the right place?")


def merged(tiers: Sequence[Sequence[HeldSegment]]) -> list[HeldSegment]:
    """Segments of several tiers, each as far as any of them holds it, by timeline and position."""
    found: dict[Segment, HeldSegment] = {}
    for held in (each for tier in tiers for each in tier):
        if held.segment not in found or found[held.segment].end < held.end:
            found[held.segment] = held
    return [found[segment] for segment in sorted(found)]
