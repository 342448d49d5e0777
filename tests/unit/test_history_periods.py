"""Days, weeks and months by the zone's own clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest

from tallykeep.history.periods import Period, begin, days, local_date, midnight
from tallykeep.history.rounds import QUARTER

HOUR = 3600.0


def unix(text: str, zone: ZoneInfo, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Europe/Berlin", "2026-07-01", 24),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("Africa/Cairo", "2026-04-24", 23),  # the clock skips midnight
        ("America/Havana", "2026-11-01", 25),  # midnight comes twice
        ("Asia/Kathmandu", "2026-05-05", 24),
    ],
)
def test_a_day_has_the_hours_its_zone_gives_it(zone: str, day: str, hours: float) -> None:
    """From one midnight to the next: 23, 24 or 25 hours, or half an hour more or less."""
    key, first = ZoneInfo(zone), date.fromisoformat(day)
    assert midnight(first + timedelta(days=1), key) - midnight(first, key) == hours * HOUR


def test_midnight_is_the_first_moment_of_the_day_in_every_zone() -> None:
    """In every zone of the world, at every change of its clock for fifteen years: a moment earlier is another date,
    and the day begins with a quarter of an hour, so sums of quarters are sums of days.
    """
    for name in sorted(available_timezones() - {"localtime", "Factory", "posixrules"}):
        zone = ZoneInfo(name)
        offsets = [(d, datetime(d.year, d.month, d.day, 12, tzinfo=zone).utcoffset()) for d in _dates()]
        changes = [later for (earlier, a), (later, b) in pairwise(offsets) if a != b]
        for changed in changes:
            for day in (changed - timedelta(days=1), changed, changed + timedelta(days=1)):
                at = midnight(day, zone)
                assert local_date(at, zone) >= day
                assert local_date(at - 1, zone) < day
                assert at % QUARTER == 0


def _dates() -> list[date]:
    return [date(2016, 1, 1) + timedelta(days=n) for n in range(15 * 365)]


def test_periods_begin_with_today_monday_and_the_first() -> None:
    """On Sunday the 1st of March 2026 the week began in February."""
    zone = ZoneInfo("America/New_York")
    now = unix("2026-03-01 18:30", zone)
    assert begin(Period.DAY, now, zone) == unix("2026-03-01", zone)
    assert begin(Period.WEEK, now, zone) == unix("2026-02-23", zone)
    assert begin(Period.MONTH, now, zone) == unix("2026-03-01", zone)


def test_a_period_stands_still_through_both_changes_of_the_clock() -> None:
    """Today has one beginning, whether asked before, in or after the hour that is skipped or repeated."""
    zone = ZoneInfo("Europe/Berlin")
    for day in ("2026-03-29", "2026-10-25"):
        first = unix(f"{day} 00:00", zone)
        for quarter in range(int(22 * HOUR / QUARTER)):
            assert begin(Period.DAY, first + quarter * QUARTER, zone) == first


def test_half_and_quarter_hours() -> None:
    """In zones off UTC by half or a quarter of an hour, midnight is theirs."""
    for name, offset in (("Asia/Kolkata", 5.5), ("Asia/Kathmandu", 5.75), ("America/St_Johns", -3.5)):
        zone = ZoneInfo(name)
        expected = datetime(2026, 1, 10, tzinfo=UTC).timestamp() - offset * HOUR
        assert begin(Period.DAY, expected + 5, zone) == expected
        assert begin(Period.DAY, expected - 5, zone) < expected


def test_days_follow_one_another_without_gaps() -> None:
    """The days of a stretch join, and a date its zone skipped (Samoa, 30 December 2011) has no day."""
    zone = ZoneInfo("Pacific/Apia")
    found = list(days(unix("2011-12-28 12:00", zone), unix("2012-01-02 12:00", zone), zone))
    assert all(end == later for (_, end), (later, _) in pairwise(found))
    dates = [local_date(start, zone).isoformat() for start, _ in found]
    assert dates == ["2011-12-28", "2011-12-29", "2011-12-31", "2012-01-01", "2012-01-02"]
