"""Windows of day, week and month, held rounds, and folding."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st
from tests.support.rounds import BERLIN, UTC, at, round_of, spend

from tallykeep.history.deltas import Memory
from tallykeep.history.held import Held
from tallykeep.history.periods import Period
from tallykeep.history.rounds import Round, Total, finite, fold
from tallykeep.history.windows import Windows


def costs(windows: Windows, now: float) -> tuple[float, float, float]:
    figures = windows.read(now)["cost"]
    return figures[Period.DAY].delta, figures[Period.WEEK].delta, figures[Period.MONTH].delta


def test_day_week_and_month_end_by_themselves() -> None:
    """Wednesday the 30th of September 2026: at midnight the day ends, a day later the month; the week goes on."""
    windows = Windows(UTC)
    for day in ("2026-09-27", "2026-09-28", "2026-09-29", "2026-09-30"):
        windows.add(round_of(at(f"{day} 12:00")))
    assert costs(windows, at("2026-09-30 23:59")) == (1, 3, 4)
    windows.add(round_of(at("2026-10-01 00:00"), 10))
    assert costs(windows, at("2026-10-01 00:00")) == (10, 13, 10)


def test_midnight_is_the_zones() -> None:
    """In Kathmandu (UTC+5:45) the day ends at 18:15 UTC, in the middle of no quarter of an hour."""
    windows = Windows(ZoneInfo("Asia/Kathmandu"))
    windows.add(round_of(at("2026-05-05 18:14")))
    windows.add(round_of(at("2026-05-05 18:15"), 10))
    assert costs(windows, at("2026-05-05 18:14"))[0] == 11
    assert costs(windows, at("2026-05-05 18:15"))[0] == 10


def test_days_of_23_and_25_hours_hold_all_their_rounds() -> None:
    """One round an hour: 23 on the day the clock goes forward, 25 on the day it goes back."""
    for day, hours in (("2026-03-29", 23), ("2026-10-25", 25)):
        windows, first = Windows(BERLIN), at(f"{day} 00:00", BERLIN)
        for hour in range(-3, hours):
            windows.add(round_of(first + hour * 3600))
        assert costs(windows, first + hours * 3600 - 1)[0] == hours
        windows.add(round_of(first + hours * 3600))
        assert costs(windows, first + hours * 3600)[0] == 1


def test_a_clock_stepped_back_loses_nothing() -> None:
    """Rounds before and after a step of an hour are all today's, also where the step crosses midnight."""
    windows, now = Windows(UTC), at("2026-09-30 12:00")
    for moment in (now, now + 60, now - 3540, now - 3480):
        windows.add(round_of(moment))
        windows.read(moment)
    assert costs(windows, now - 3480)[0] == 4
    windows, now = Windows(UTC), at("2026-10-01 00:10")
    windows.add(round_of(now))
    windows.read(now)
    windows.add(round_of(now - 3600))
    assert costs(windows, now - 3600)[0] == 2
    assert costs(windows, now)[0] == 1


def test_a_gauge_has_its_highest_value() -> None:
    """The most requests in flight today, though they are fewer now."""
    windows = Windows(UTC)
    for number, flight in enumerate((1, 9, 3)):
        windows.add(round_of(at("2026-09-30 12:00") + 60 * number, flight=flight))
    figure = windows.read(at("2026-09-30 12:05"))["in_flight_requests"][Period.DAY]
    assert (figure.delta, figure.highest) == (0, 9)


def test_what_is_filled_in_counts_as_what_was_added() -> None:
    """Opened from its quarters a window says the same."""
    windows, again = Windows(BERLIN), Windows(BERLIN)
    for hour in range(24 * 33 - 2):
        windows.add(round_of(at("2026-09-01 00:00") + 3600 * hour, 0.25, flight=hour % 7))
    again.fill(windows.quarters())
    now = at("2026-10-03 23:59", BERLIN)
    assert windows.read(now) == again.read(now)
    assert costs(again, now) == (6, 36, 18)


ROUNDS = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 9), st.sampled_from("ab")), min_size=1, max_size=30)


@given(ROUNDS, st.integers(2, 6), st.booleans())
def test_held_rounds_fold_without_loss(made: list[tuple[int, int, str]], most: int, writing: bool) -> None:
    """However few may be held: every increase is still there, and the one with the writer stays as it is."""
    held, moment = Held(most), 0.0
    for number, (gap, delta, model) in enumerate(made):
        moment += gap
        held.put(round_of(moment, delta, points=[spend(model, delta)]))
        if writing and number == 0:
            first = held.first()
    rounds = held.all()
    assert len(rounds) <= max(most, 3)
    assert sum(r.totals["cost"].delta for r in rounds) == sum(delta for _, delta, _ in made)
    assert sum(p.delta for r in rounds for p in r.points) == sum(delta for _, delta, _ in made)
    assert not writing or rounds[0] is first


def test_rounds_of_one_quarter_are_folded_first() -> None:
    """Over the bound, no rollup notices as long as two rounds share a quarter of an hour."""
    held = Held(3)
    for minute in (0, 20, 40, 42, 44):
        held.put(round_of(at("2026-09-30 12:00") + 60 * minute))
    assert [(r.moment - at("2026-09-30 12:00")) / 60 for r in held.all()] == [0, 20, 44]
    assert held.folded == 2


def test_a_fold_keeps_the_later_values_and_the_earliest_scrape() -> None:
    """Increases add up; values, memories and the source are the later ones; a reset stays a reset."""
    memory = Memory(b"a", 1.0, 5.0, 10.0)
    first = Round(10, {"cost": Total(5, 2)}, True, "x", [spend("a", 2, 5)], {"t": [memory]}, {"t": 10.0})
    later = memory._replace(value=6.0)
    then = Round(20, {"cost": Total(6, 1)}, False, "y", [spend("a", 1, 6)], {"t": [later]}, {"t": 20.0})
    both = fold(first, then)
    assert both == Round(20, {"cost": Total(6, 3)}, True, "y", [spend("a", 3, 6)], {"t": [later]}, {"t": 10.0})


def test_what_is_not_finite_is_left_out() -> None:
    """A +Inf budget or a NaN gauge would spoil every sum it is part of."""
    nan, inf = float("nan"), float("inf")
    kept = finite(Round(1, {"a": Total(nan, 0), "b": Total(1, 1)}, points=[spend("a", inf), spend("b", 1)]))
    assert kept == Round(1, {"b": Total(1, 1)}, points=[spend("b", 1)])
