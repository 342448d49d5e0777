"""Budget cycles by LiteLLM's notation, and which accounts can be compared."""

# ruff: noqa: DTZ001  # UTC without a zone, as LiteLLM stores it

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest

from tallykeep.systems.litellm.durations import cycle_start
from tallykeep.systems.litellm.reconcile import Line, Result, Standing, smaller

AT = datetime(2026, 3, 17, 14, 30)


@pytest.mark.parametrize(
    ("duration", "reset", "start"),
    [
        ("30s", AT, datetime(2026, 3, 17, 14, 29, 30)),
        ("15m", AT, datetime(2026, 3, 17, 14, 15)),
        ("24h", AT, datetime(2026, 3, 16, 14, 30)),
        ("1d", datetime(2026, 3, 1), datetime(2026, 2, 28)),
        ("7d", datetime(2026, 3, 2), datetime(2026, 2, 23)),
        ("2w", AT, datetime(2026, 3, 3, 14, 30)),
        ("30d", AT, datetime(2026, 2, 15, 14, 30)),
        ("30d", datetime(2026, 3, 1), datetime(2026, 2, 1)),  # a month, as LiteLLM has it since it resets on firsts
        ("30d", datetime(2026, 1, 1), datetime(2025, 12, 1)),
        ("30d", datetime(2026, 3, 1, 0, 0, 1), datetime(2026, 1, 30, 0, 0, 1)),
        ("1mo", datetime(2026, 3, 1), datetime(2026, 2, 1)),
        ("1mo", datetime(2026, 3, 31), datetime(2026, 2, 28)),
        ("13mo", datetime(2026, 1, 15), datetime(2024, 12, 15)),
        (" 7d ", datetime(2026, 3, 8), datetime(2026, 3, 1)),
    ],
)
def test_a_cycle_began_one_duration_before_its_reset(duration: str, reset: datetime, start: datetime) -> None:
    """A cycle began its duration before its reset; one of 30 days that ends with a month is that month."""
    assert cycle_start(duration, reset) == start


@pytest.mark.parametrize("duration", ["", "30", "d", "1y", "-1d", "1.5h", "30 d", "None", "99999999999d", "99999mo"])
def test_what_litellm_does_not_read_is_refused(duration: str) -> None:
    """Anything else is a ValueError that names it."""
    with pytest.raises(ValueError, match=r"duration|calendar"):
        cycle_start(duration, AT)


def standing(cycle: datetime | None, created: datetime | None) -> Standing:
    return Standing("key", "k", "none", Decimal(0), cycle, created)


@pytest.mark.parametrize(
    ("cycle", "created", "whole"),
    [
        (datetime(2026, 3, 2), None, True),
        (datetime(2026, 3, 1), None, True),
        (datetime(2026, 2, 28), None, False),
        (datetime(2026, 2, 28), datetime(2026, 3, 5), True),  # the cycle is older than the key
        (None, datetime(2026, 3, 5), True),
        (None, datetime(2026, 2, 5), False),
        (None, None, False),  # nobody knows how much of it was deleted
    ],
)
def test_only_who_lies_within_the_log_is_compared(
    cycle: datetime | None, created: datetime | None, whole: bool
) -> None:
    """The log has to reach back to the start of the cycle, or of the entity's life."""
    assert standing(cycle, created).lies_after(datetime(2026, 3, 1)) is whole


def line(id: str, rows: str, spend: str) -> Line:
    return Line("team", id, "none", Decimal(rows), Decimal(spend))


def test_equal_is_within_a_cent() -> None:
    """Exactly a cent is equal, more is not; either way round."""
    assert line("a", "1.00", "1.01").equal
    assert line("a", "1.01", "1.00").equal
    assert not line("a", "1.00", "1.0100001").equal


def test_a_difference_has_to_be_seen_twice() -> None:
    """Of two looks the smaller difference of each entity stands; who came in between is taken as seen then."""
    first = Result([line("late", "1", "3"), line("lost", "1", "3")], {})
    second = Result([line("lost", "1", "3"), line("late", "3", "3"), line("new", "0", "1")], {"key": 2})
    told = smaller(first, second)
    assert [(found.id, found.difference) for found in told.lines] == [
        ("lost", Decimal(2)),
        ("new", Decimal(1)),
        ("late", Decimal(0)),
    ]
    assert told.left_out == {"key": 2}


def test_differences_of_opposite_sign_do_not_cancel() -> None:
    """The sum by kind is of absolute differences."""
    result = Result([line("a", "1", "3"), line("b", "3", "1")], {})
    assert list(result.by_kind()) == [("team", 2, Decimal(4))]
