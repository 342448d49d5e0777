"""Which backups are kept, each with every reason for it: pure.

What counts is the order in which backups were made, which comes from their positions in WAL and not from a clock.
Only two things are asked of clocks, and both err on the side of keeping:

- Point in time. Every moment of the last `pitr` seconds takes a backup that was complete before it. So everything
  finished since then is kept, and the newest one finished before. That one must be dated beyond doubt: one that says
  it was finished earlier than one made before it was taken while the clock was set back, and vouches for nothing.
  The seconds are counted back from the newest backup, or from now where that is earlier. So an earlier clock keeps
  more; a clock that is ahead changes nothing; and while no backup is taken nothing is let go.
- A backup from the future, by the clock as it stands, is kept, and takes nobody's place in an hour or a day.

Hours, days and so on are counted by those that have a backup, not back from now. A backup that verification found
wanting, or that lacks its WAL, fulfils no rule: the next one takes its place.
What is left is a backup taken while the clock is ahead: all the others look old beside it. Against that protects what
knows no time: the newest, the newest verified, and that more than half goes only when somebody says so; and what was
let go by mistake is taken back as long as its bytes are there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from tallykeep.systems.postgres.settings import RetentionSettings
from tallykeep.units import format_duration


class Candidate(NamedTuple):
    """A backup whose bytes are there."""

    id: str
    name: str
    finished: float  # Unix seconds
    sound: bool = False  # the last verification has read every byte and found nothing
    flaw: str = ""  # why it does not count for any rule; empty where it does
    pin: str = ""  # why it must stay whatever the rules say


class Decision(NamedTuple):
    """What is to become of a backup."""

    backup: Candidate
    keep: bool
    reasons: Sequence[str]  # every rule that keeps it; or why none does


Found: TypeAlias = Iterator[tuple[int, str]]  # numbers of candidates that a rule keeps, and why
_Moment: TypeAlias = Callable[[datetime], tuple[object, str]]  # what tells periods apart, and what one is called


def decide(candidates: Sequence[Candidate], rules: RetentionSettings, zone: str, now: float) -> list[Decision]:
    """What is to become of each of `candidates`, given in the order they were made. Raises: ValueError for a zone."""
    reasons: dict[int, list[str]] = defaultdict(list)
    for found in _all(candidates, rules, ZoneInfo(zone), now):
        for number, reason in found:
            reasons[number].append(reason)
    without = _why_not(rules)
    return [
        Decision(candidate, number in reasons, reasons.get(number) or [without])
        for number, candidate in enumerate(candidates)
    ]


def _all(candidates: Sequence[Candidate], rules: RetentionSettings, zone: ZoneInfo, now: float) -> Iterator[Found]:
    yield _latest(candidates, rules.keep_latest)
    for count, moment in (
        (rules.keep_hourly, _hour),
        (rules.keep_daily, _day),
        (rules.keep_weekly, _week),
        (rules.keep_monthly, _month),
        (rules.keep_annual, _year),
    ):
        yield _periods(candidates, count, moment, zone, now)
    yield _point_in_time(candidates, rules.pitr, now)
    yield _guarded(candidates, now)


def _latest(candidates: Sequence[Candidate], count: int) -> Found:
    """The newest `count` that count, and what lies between them."""
    left = count
    for number in reversed(range(len(candidates))):
        if not left:
            return
        flaw = candidates[number].flaw
        left -= not flaw
        yield number, f"among the newest {count}, and does not count: {flaw}" if flaw else f"among the newest {count}"


def _periods(candidates: Sequence[Candidate], count: int, moment: _Moment, zone: ZoneInfo, now: float) -> Found:
    """The newest backup of each of the last `count` periods that have one."""
    seen = set[object]()
    for number in reversed(range(len(candidates))):
        if len(seen) == count:
            return
        candidate = candidates[number]
        if candidate.flaw or candidate.finished > now:
            continue
        period, name = moment(datetime.fromtimestamp(candidate.finished, zone))
        if period not in seen:
            seen.add(period)
            yield number, f"newest of {name}"


def _point_in_time(candidates: Sequence[Candidate], seconds: float, now: float) -> Found:
    """What it takes to restore every moment of the last `seconds`."""
    if not seconds:
        return
    dated, span = _dated(candidates, now), format_duration(seconds)
    since = (candidates[dated[0]].finished if dated else now) - seconds
    base = next((number for number in dated if candidates[number].finished <= since), -1)
    for number, candidate in enumerate(candidates):
        if number == base:
            yield number, f"every moment of the last {span} can be restored from here on"
        elif candidate.finished > since:
            yield number, f"finished within the last {span}"
        elif number > base:
            yield number, f"the last {span} may begin with it: {candidate.flaw or 'the clock was set back before it'}"


def _dated(candidates: Sequence[Candidate], now: float) -> list[int]:
    """Those whose time can be believed, the newest first: none that was made before says a later one.

    Times from the future count for nothing: they are known to be wrong.
    """
    found, latest = list[int](), float("-inf")
    for number, candidate in enumerate(candidates):
        if candidate.finished <= now:
            if not candidate.flaw and candidate.finished >= latest:
                found.append(number)
            latest = max(latest, candidate.finished)
    return found[::-1]


def _guarded(candidates: Sequence[Candidate], now: float) -> Found:
    """What is kept whatever the rules say."""
    if candidates:
        yield len(candidates) - 1, "the newest"
    verified = [number for number, candidate in enumerate(candidates) if candidate.sound]
    if verified:
        yield verified[-1], "the newest that verification found sound"
    for number, candidate in enumerate(candidates):
        if candidate.pin:
            yield number, f"pinned: {candidate.pin}"
        if candidate.finished > now:
            yield number, "from the future: a clock was set"


def _why_not(rules: RetentionSettings) -> str:
    span = f", and the last {format_duration(rules.pitr)} begin with a later one" if rules.pitr else ""
    return f"no rule keeps it{span}"


def _hour(time: datetime) -> tuple[object, str]:
    return (time.date(), time.hour, time.utcoffset()), f"the hour {time:%Y-%m-%d %H}h"


def _day(time: datetime) -> tuple[object, str]:
    return time.date(), f"the day {time:%Y-%m-%d}"


def _week(time: datetime) -> tuple[object, str]:
    year, week, _ = time.isocalendar()
    return (year, week), f"the week {year}-W{week:02}"


def _month(time: datetime) -> tuple[object, str]:
    return (time.year, time.month), f"the month {time:%Y-%m}"


def _year(time: datetime) -> tuple[object, str]:
    return time.year, f"the year {time.year}"
