"""Which backup a restore begins with, and along which timeline it recovers: pure.

A backup can be used when it lies on the line of the timeline, ended before that line left its timeline, and the WAL
from its start to its stop is held without a hole. Of those that ended before the target the newest is chosen: there
is the least to recover. What cannot work is refused here, before anything is written, with what can.
Source: PostgreSQL, Continuous Archiving and Point-in-Time Recovery, 26.3.5 Timelines (14 to 18).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tallykeep.errors import RestoreError
from tallykeep.systems.postgres.coverage import Held, Range, ranges
from tallykeep.systems.postgres.lsn import LSN, History
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.restoring.request import LATEST, RestoreRequest, told


class Candidate(NamedTuple):
    """A backup, and the first tier that holds it."""

    entry: BackupEntry
    tier: str

    @property
    def start(self) -> LSN:
        """Recovery begins here."""
        return LSN.parse(self.entry.start_lsn)

    @property
    def stop(self) -> LSN:
        """It is consistent from here on."""
        return LSN.parse(self.entry.stop_lsn)


class Holdings(NamedTuple):
    """Everything there is to restore from."""

    candidates: Sequence[Candidate]
    held: Sequence[Held]  # WAL, over all tiers that are used
    histories: Mapping[int, History]  # of every timeline that is known


class Choice(NamedTuple):
    """What a restore begins with."""

    candidate: Candidate
    history: History  # of the timeline that is recovered along
    reach: Range  # WAL without a hole that holds the backup
    reason: str


def choose(holdings: Holdings, request: RestoreRequest) -> Choice:
    """The backup for a request. Raises: RestoreError, saying what can be restored instead."""
    if not holdings.candidates:
        raise RestoreError("There is no backup to restore.")
    named = [each for each in holdings.candidates if not request.backup or each.entry.is_called(request.backup)]
    if not named:
        held = ", ".join(str(each.entry) for each in holdings.candidates)
        raise RestoreError(f"There is no backup {request.backup}; there are {held}.")
    history = _line(holdings, request, named)
    usable = [each for each in named if _unusable(each, holdings, history) == ""]
    if not usable:
        raise RestoreError(_why_none(named, holdings, history))
    usable.sort(key=lambda each: (each.stop, each.entry.finished))
    candidate = _before(usable, request, holdings, history)
    reach = _reach(candidate, holdings, history)
    assert reach is not None, "it was usable"
    return Choice(candidate, history, reach, _reason(request, history, len(named)))


def _line(holdings: Holdings, request: RestoreRequest, named: Sequence[Candidate]) -> History:
    """The timeline to recover along: the one asked for, or the newest that leads on from a backup."""
    if request.timeline != LATEST:
        wanted = int(request.timeline)
        if wanted not in holdings.histories:
            known = ", ".join(map(str, sorted(holdings.histories)))
            raise RestoreError(f"Nothing is held of timeline {wanted}; known timelines: {known}.")
        return holdings.histories[wanted]
    newest_first = [holdings.histories[number] for number in sorted(holdings.histories, reverse=True)]
    for history in newest_first:
        if any(not _unusable(each, holdings, history) for each in named):
            return history
    return newest_first[0]


def _unusable(candidate: Candidate, holdings: Holdings, history: History) -> str:
    """Why a backup cannot begin a recovery along that line; "" where it can."""
    timeline = candidate.entry.timeline
    if not history.knows(timeline):
        return f"is of timeline {timeline}, from which timeline {history.timeline} does not come"
    left = history.left(timeline)
    if left is not None and candidate.stop > left:
        return f"ended at {candidate.stop}, and timeline {timeline} was left at {left}"
    if _reach(candidate, holdings, history) is None:
        return f"needs WAL from {candidate.start} to {candidate.stop}, and not all of it is held"
    return ""


def _reach(candidate: Candidate, holdings: Holdings, history: History) -> Range | None:
    """The stretch of WAL that holds the backup's own."""
    found = ranges(holdings.held, history)
    return next((each for each in found if each.start <= candidate.start and candidate.stop <= each.end), None)


def _why_none(named: Sequence[Candidate], holdings: Holdings, history: History) -> str:
    why = "; ".join(f"{each.entry.name} {_unusable(each, holdings, history)}" for each in named)
    return f"No backup can be restored along timeline {history.timeline}: {why}."


def _before(usable: Sequence[Candidate], request: RestoreRequest, holdings: Holdings, history: History) -> Candidate:
    """The newest that had ended before the target. Raises: RestoreError."""
    oldest = usable[0]
    if request.time is not None:
        early = [each for each in usable if each.entry.finished <= request.time]
        if not early:
            first = min(each.entry.finished for each in usable)
            raise RestoreError(
                f"No backup had ended before {told(request.time)}: the earliest time that can be restored is "
                f"{told(first)}."
            )
        return early[-1]
    if request.lsn is not None:
        early = [each for each in usable if each.stop <= request.lsn]
        if not early:
            raise RestoreError(
                f"No backup had ended before {request.lsn}: the earliest LSN that can be restored is {oldest.stop}, on "
                f"timeline {history.timeline}."
            )
        return _reaching(early, request.lsn, holdings, history)
    return usable[-1]


def _reaching(early: Sequence[Candidate], lsn: LSN, holdings: Holdings, history: History) -> Candidate:
    """Of backups that ended before `lsn`, the newest with WAL up to it. Raises: RestoreError."""
    newest = early[-1]
    reach = _reach(newest, holdings, history)
    if reach is not None and lsn < reach.end:
        return newest
    line = ranges(holdings.held, history)
    end = reach.end if reach is not None else newest.stop
    if reach == line[-1]:
        where = f"beyond the WAL that is held of timeline {history.timeline}, which ends at {end}"
    else:
        after = next(each.start for each in line if each.start > end)
        where = f"behind a gap: WAL from {end} to {after} is missing, and no backup is between it and the gap"
    raise RestoreError(f"{lsn} lies {where}. Every LSN from {newest.stop} to before {end} can be restored.")


def _reason(request: RestoreRequest, history: History, named: int) -> str:
    if request.backup:
        return "it was asked for" if named == 1 else f"the newest that can be, of {named} that are called so"
    along = f" on timeline {history.timeline}" if history.forks or request.timeline != LATEST else ""
    if request.time is not None or request.lsn is not None:
        return f"the newest backup that had ended before {request.goal}{along}"
    return f"the newest backup{along}"
