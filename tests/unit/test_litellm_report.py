"""Months, zones and lines of a report."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tallykeep.errors import ConfigError
from tallykeep.systems.litellm import sheets
from tallykeep.systems.litellm.entities import Entities
from tallykeep.systems.litellm.months import Month, find_zone, parse_month
from tallykeep.systems.litellm.report import DIMENSIONS, Report

FOREVER = 2**40
NOBODY = Entities()


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


def hours(month: Month) -> list[int]:
    return [round((stop - start) / 3600) for start, stop in month.days(FOREVER)]


def test_a_month_is_that_of_the_zone() -> None:
    """It runs from the zone's first midnight to the next month's."""
    month = Month.of(2026, 12, ZoneInfo("Asia/Seoul"))
    assert (month.start, month.stop) == (utc(2026, 11, 30, 15), utc(2026, 12, 31, 15))


@pytest.mark.parametrize(
    ("year", "number", "zone", "odd"),
    [
        (2026, 3, "Europe/Berlin", {29: 23}),
        (2026, 10, "Europe/Berlin", {25: 25}),
        (2026, 3, "America/New_York", {8: 23}),
        (2026, 11, "America/New_York", {1: 25}),
        (2026, 2, "UTC", {}),
    ],
)
def test_days_have_the_hours_of_their_zone(year: int, number: int, zone: str, odd: dict[int, int]) -> None:
    """Days around a change of the clock have 23 and 25 hours; together they are the month."""
    month = Month.of(year, number, ZoneInfo(zone))
    assert {day: length for day, length in enumerate(hours(month), 1) if length != 24} == odd
    days = month.days(FOREVER)
    assert days[0][0] == month.start
    assert days[-1][1] == month.stop
    assert all(before[1] == after[0] for before, after in pairwise(days))


def test_a_running_month_ends_with_today() -> None:
    """Days that have not begun are not read."""
    month = Month.of(2026, 6, ZoneInfo("UTC"))
    assert len(month.days(utc(2026, 6, 3, 12))) == 3


@pytest.mark.parametrize("text", ["2026", "2026-13", "2026-00", "26-01", "2026-1", "1969-12", "2026-01-01", ""])
def test_a_month_is_written_one_way(text: str) -> None:
    """YYYY-MM and nothing else."""
    with pytest.raises(ValueError, match="is not a month"):
        parse_month(text)


def test_the_zone_is_the_one_asked_for_else_tz_else_the_machines(tmp_path: Path) -> None:
    """--timezone wins over TZ, TZ over /etc/localtime, and without any it is UTC."""
    link = tmp_path / "localtime"
    assert find_zone("Asia/Tokyo", {"TZ": "Europe/Berlin"}, link).key == "Asia/Tokyo"
    assert find_zone(None, {"TZ": ":Europe/Berlin"}, link).key == "Europe/Berlin"
    assert find_zone(None, {"TZ": "/usr/share/zoneinfo/Asia/Seoul"}, link).key == "Asia/Seoul"
    assert find_zone(None, {}, link).key == "UTC"
    target = tmp_path / "zoneinfo" / "America" / "Lima"
    target.parent.mkdir(parents=True)
    target.touch()
    link.symlink_to(target)
    assert find_zone(None, {}, link).key == "America/Lima"


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "CET-1CEST,M3.5.0,M10.5.0/3", "Europe"])
def test_an_unknown_zone_is_one_clear_message(zone: str) -> None:
    """It names the option or variable and what was written."""
    with pytest.raises(ConfigError, match="--timezone: no time zone"):
        find_zone(zone, {})
    with pytest.raises(ConfigError, match="TZ: no time zone"):
        find_zone(None, {"TZ": zone})


def report(by: str, *rows: tuple[object, ...], until: float = FOREVER, oldest: float | None = 0.0) -> Report:
    made = Report(Month.of(2026, 1, ZoneInfo("UTC")), by, until, oldest)
    made.add(rows, NOBODY)
    return made


def amounts(spend: str, requests: int = 1) -> tuple[object, ...]:
    return Decimal(spend), requests, 0, 10, 5, 15


def test_days_add_up_and_the_dearest_comes_first() -> None:
    """Rows of one id from several days are one line; missing ids are "none", a missing model "unknown"."""
    found = report("user", ("a", *amounts("1.1")), ("", *amounts("5")), ("a", *amounts("0.000000001")))
    lines = found.lines(NOBODY)
    assert [(line.names, line.amounts.spend, line.amounts.requests) for line in lines] == [
        (("none", "none"), Decimal(5), 1),
        (("a", "none"), Decimal("1.100000001"), 2),
    ]
    assert report("model", ("", *amounts("1"))).lines(NOBODY)[0].names == ("unknown",)


def test_the_total_is_the_sum_of_the_lines() -> None:
    """Also where money has more digits than are kept, and where only the dearest are asked for."""
    found = report("team", *((f"t{n}", *amounts("0.3333333333333")) for n in range(7)))
    for top in (None, 3, 7, 100):
        lines = found.lines(NOBODY, top)
        total = found.total(lines)
        assert total.spend == sum(line.amounts.spend for line in lines)
        assert total.requests == 7
    assert found.lines(NOBODY, 3)[-1].names == ("others (4)", "")


def test_what_is_printed_adds_up() -> None:
    """The printed lines, read back, add up to the printed total to the last digit."""
    found = report("team", *((f"t{n}", *amounts(f"{n}.{n:010}7")) for n in range(40)))
    printed = [line.split() for line in sheets.paper(found, NOBODY, None)]
    shown = [Decimal(words[2].replace(",", "")) for words in printed[2:-1]]
    assert sum(shown) == Decimal(printed[-1][1].replace(",", ""))


def test_a_request_counts_under_each_tag_and_once_in_the_total() -> None:
    """Repeated tags count once; rows without tags are "none"."""
    found = report("tag", (["a", "b", "a"], *amounts("1")), (None, *amounts("2")), ({"no": "list"}, *amounts("4")))
    lines = found.lines(NOBODY)
    assert {line.names[0]: line.amounts.spend for line in lines} == {"a": 1, "b": 1, "none": 6}
    assert found.total(lines).spend == 7
    assert "a request counts under each of its tags, and once in the total" in list(found.notes())


def test_notes_say_what_a_payer_has_to_know() -> None:
    """A month that is not over, and a log that may lack its beginning, are said; a whole month has no notes."""
    start = utc(2026, 1, 1)
    assert list(report("team", until=utc(2026, 2, 1), oldest=start).notes()) == []
    [note] = report("team", until=utc(2026, 1, 20), oldest=start).notes()
    assert "not over: rows until 2026-01-20 00:00 UTC" in note
    [note] = report("team", until=utc(2026, 2, 1), oldest=start + 1).notes()
    assert "oldest row is of 2026-01-01 00:00 UTC" in note
    assert list(report("team", until=utc(2026, 2, 1), oldest=None).notes()) == ["the spend log is empty"]


def test_csv_survives_hostile_names() -> None:
    """Quotes, newlines and emoji come back as they were; what a spreadsheet would run is text."""
    names = ['quo"ted', "two\nlines", "emoji 🦊", "a,b", "=1+1", "@x"]
    found = report("model", *((name, *amounts("1.5")) for name in names))
    rows = list(csv.DictReader(io.StringIO(sheets.comma_separated(found, NOBODY, None))))
    assert sorted(row["model"] for row in rows) == sorted([*names[:4], "'=1+1", "'@x"])
    assert {row["spend_dollars"] for row in rows} == {"1.5"}


def test_paper_is_one_line_a_name() -> None:
    """A name with a newline or of 300 characters does not break the table."""
    found = report("model", ("two\nlines\x1b[31m", *amounts("1")), ("x" * 300, *amounts("1")))
    lines = list(sheets.paper(found, NOBODY, None))
    assert len(lines) == 5
    assert max(map(len, lines)) < 140
    assert "\x1b" not in "".join(lines)


def test_every_dimension_has_names_for_an_unknown_id() -> None:
    """An id that no table has any more still makes a line."""
    for dimension in DIMENSIONS.values():
        assert len(dimension.names("gone", NOBODY)) == len(dimension.columns)
