"""A restore's backup where WAL alone can tell it: by the clock of the primary, and by the name of a restore point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tallykeep.errors import NotFound, RestoreError
from tallykeep.systems.postgres.coverage import Range, ranges
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.restoring import points
from tallykeep.systems.postgres.restoring.choosing import Choice, choose
from tallykeep.systems.postgres.restoring.gathering import Gathered
from tallykeep.systems.postgres.restoring.request import RestoreRequest, told
from tallykeep.systems.postgres.restoring.tail import look

_AT_STOP = 2  # segments that are read for the newest commit before a backup's stop


async def aim(found: Gathered, request: RestoreRequest) -> tuple[Choice, Sequence[str]]:
    """What to begin with, and what is to be said of it: what only WAL tells is looked for there."""
    if request.time is not None:
        return await _before(found, request, request.time)
    choice = choose(found.holdings, request)
    return await _to_point(found, request, choice) if request.name and not request.backup else (choice, ())


async def _before(found: Gathered, request: RestoreRequest, time: float) -> tuple[Choice, Sequence[str]]:
    """The newest backup that had ended by the primary's clock, too, which time is told by in WAL.

    PostgreSQL would end with an error, after all the work, where a commit before the backup's stop is of a later time.
    """
    holdings, notes = found.holdings, list[str]()
    while True:
        choice = choose(holdings, request)
        candidate = choice.candidate
        tail = await look(found.wal, found.segments, choice.history, Range(LSN(0), candidate.stop), _AT_STOP)
        if tail.last_end is None or tail.last_end <= time:
            return choice, notes
        why = f"the backup {candidate.entry.name} holds transactions of {told(tail.last_end)}, by the primary's clock"
        earlier = [each for each in holdings.candidates if each.stop < candidate.stop]
        if request.backup or not earlier:
            raise RestoreError(
                f"{told(time)} cannot be restored: {why}, though tallykeep's said that it had ended before."
            )
        notes.append(f"{why}: the clocks differ, and an earlier backup is taken")
        holdings = holdings._replace(candidates=earlier)


async def _to_point(found: Gathered, request: RestoreRequest, choice: Choice) -> tuple[Choice, Sequence[str]]:
    """The newest backup before the newest restore point of that name."""
    first = min(LSN.parse(each.entry.stop_lsn) for each in found.holdings.candidates)
    line = Range(first, ranges(found.holdings.held, choice.history)[-1].end)
    try:
        point = await points.newest(found.wal, found.segments, choice.history, line, request.name)
    except NotFound as error:
        raise RestoreError(f"{error} With --backup recovery itself looks for it.") from None
    choice = choose(found.holdings, replace(request, name="", lsn=point))
    stretch = Range(choice.candidate.stop, LSN(point + 1))
    earlier = await points.every(found.wal, found.segments, choice.history, stretch, request.name)
    choice = choice._replace(reason=f"the newest backup that had ended before the {request.goal}, at {earlier[0]}")
    twice = (
        f"{request.goal} is there {len(earlier)} times behind this backup: recovery ends at the first, at {earlier[0]}"
    )
    return choice, [twice] if len(earlier) > 1 else []
