"""Charts: steps, gaps, labels, and the table each comes from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.support.rounds import BERLIN, TARGET, UTC, at, round_of, running, spend

from tallykeep.history.purge import purge_some
from tallykeep.history.series import DAY, Chart, Query, chart
from tallykeep.history.store import HistoryStore

NOON = at("2026-09-30 12:00")
NOW = NOON + 7200


def filled(tmp_path: Path, minutes: range = range(120)) -> HistoryStore:
    """Two models for two hours: a rises by 1 a minute, b by 10; running is the minute itself and 1000."""
    store = HistoryStore(tmp_path / "h.db", UTC)
    for minute in minutes:
        points = [spend("a", 1.0), spend("b", 10.0), running("a", minute), running("b", 1000.0)]
        store.append(round_of(NOON + 60 * minute, 1.0, flight=minute, points=points))
    return store


def lines(found: Chart) -> dict[str, list[float | None]]:
    return {",".join(line.labels.values()): line.values for line in found.lines}


def ask(store: HistoryStore, name: str, start: float, stop: float, step: float, *by: str) -> Chart:
    return chart(store, Query(name, start, stop, step, by), NOW, frozenset({"in_flight_requests"}))


@pytest.mark.parametrize(("step", "steps"), [(60, 120), (300, 24), (900, 8), (3600, 2)])
def test_a_counter_shows_what_it_rose_by_in_each_step(tmp_path: Path, step: int, steps: int) -> None:
    """Summed over all series, or by a label, from points or quarters alike."""
    store = filled(tmp_path)
    every = ask(store, "spend_total", NOON, NOW, step)
    assert (every.step, every.times) == (step, [int(NOON) + step * n for n in range(steps)])
    assert lines(every) == {"": [11.0 * step / 60] * steps}
    assert lines(ask(store, "spend_total", NOON, NOW, step, "model")) == {
        "a": [step / 60] * steps,
        "b": [10 * step / 60] * steps,
    }


@pytest.mark.parametrize(("step", "expected"), [(300, [4, 9, 14]), (1800, [29, 59, 89])])
def test_a_gauge_shows_its_last_value(tmp_path: Path, step: int, expected: list[float]) -> None:
    """The last value in each step, and the sum of the last values over series."""
    store = filled(tmp_path)
    assert lines(ask(store, "running", NOON, NOON + 3 * step, step, "model"))["a"] == expected
    assert lines(ask(store, "running", NOON, NOON + 3 * step, step))[""] == [1000 + value for value in expected]


def test_one_of_many_series_is_looked_up(tmp_path: Path) -> None:
    """A family that is a small part of what is kept reads the same figures, without the others."""
    store = HistoryStore(tmp_path / "h.db", UTC)
    for minute in range(60):
        others = [running(str(n), 1.0) for n in range(40)]
        store.append(round_of(NOON + 60 * minute, points=[*others, spend("a", 1.0)]))
    for step in (60, 900):
        assert lines(ask(store, "spend_total", NOON, NOON + 3600, step, "model", "target")) == {
            f"a,{TARGET}": [step / 60] * (3600 // step)
        }


def test_gaps_are_gaps(tmp_path: Path) -> None:
    """Where nothing was recorded there is None, never a zero: before the first point, in between, after the last."""
    store = filled(tmp_path, minutes=range(10))
    store.append(round_of(NOON + 60 * 20, points=[spend("a", 0.0)]))
    assert lines(ask(store, "spend_total", NOON - 600, NOON + 1800, 600))[""] == [None, 110, None, 0]


def test_steps_are_aligned(tmp_path: Path) -> None:
    """A chart asked for at any second has the same steps, so that two requests show the same figures."""
    found = ask(filled(tmp_path), "spend_total", NOON + 7, NOON + 601, 300)
    assert found.times == [NOON, NOON + 300, NOON + 600]


def test_days_are_the_zones(tmp_path: Path) -> None:
    """A 90-day chart has a step a local day, whatever its length, and as many steps as dates."""
    store = HistoryStore(tmp_path / "h.db", BERLIN)
    first = at("2026-10-20 00:00", BERLIN)
    for hour in range(10 * 24 + 1):
        store.append(round_of(first + 3600 * hour, points=[spend("a", 1.0), running("a", hour)]))
    found = ask(store, "spend_total", first, first + 10 * DAY + 3600, DAY)
    assert found.times == [int(at(f"2026-10-{day} 00:00", BERLIN)) for day in range(20, 30)]
    assert lines(found)[""] == [24] * 5 + [25] + [24] * 4
    assert lines(ask(store, "running", first, first + 3 * DAY, DAY))[""] == [23, 47, 71]
    weekly = ask(store, "spend_total", first, first + 10 * DAY, 7 * DAY)
    assert lines(weekly)[""] == [24 * 6 + 25, 72]


def test_tracked_totals_have_charts_too(tmp_path: Path) -> None:
    """By their friendly names: what a counter rose by, what a gauge was last."""
    store = filled(tmp_path)
    assert lines(ask(store, "cost", NOON, NOW, 1800)) == {"": [30, 30, 30, 30]}
    assert lines(ask(store, "in_flight_requests", NOON, NOW, 3600)) == {"": [59, 119]}
    assert lines(ask(store, "cost", NOON - DAY, NOW, DAY)) == {"": [None, 120]}


def test_what_is_older_than_points_comes_from_quarters(tmp_path: Path) -> None:
    """Beyond two days the finest step is a quarter of an hour, and the chart says so."""
    store = filled(tmp_path)
    later = NOON + 5 * DAY
    while purge_some(store, later, 90 * DAY):
        pass
    found = chart(store, Query("spend_total", NOON, NOW, 60), later)
    assert (found.step, lines(found)) == (900, {"": [165.0] * 8})


def test_an_unknown_name_has_no_lines(tmp_path: Path) -> None:
    """Nothing kept under a name is an empty chart, not an error."""
    assert ask(filled(tmp_path, range(1)), "other", NOON, NOW, 600).lines == []


@pytest.mark.parametrize(("start", "stop", "step"), [(5, 5, 60), (5, 4, 60), (0, 10, 0), (0, 10, -1), (0, NOON, 900)])
def test_a_query_that_makes_no_sense_is_refused(tmp_path: Path, start: float, stop: float, step: float) -> None:
    """Nothing between start and end, no step, or more steps than anybody draws."""
    with pytest.raises(ValueError, match="step"):
        ask(filled(tmp_path, range(1)), "spend_total", start, stop, step)


def test_a_chart_is_ready_for_json(tmp_path: Path) -> None:
    """As it stands, without a default for anything."""
    found = ask(filled(tmp_path, range(1)), "spend_total", NOON, NOON + 900, 900, "model")
    shown = json.loads(json.dumps(asdict(found), allow_nan=False))
    assert shown["times"] == [NOON]
