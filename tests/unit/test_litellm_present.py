"""The present: what runs at once, and whose it is."""

from __future__ import annotations

import pytest

from tallykeep.systems.litellm.entities import CUSTOMER, KEY, ORGANIZATION, TEAM, USER, Entities, Team
from tallykeep.systems.litellm.present import minute, most_at_once, parallel, whose

EVERYBODY = Entities(
    teams={"t": Team("t", "search", "o", 0, 0)}, aliases={(TEAM, "t"): "search", (ORGANIZATION, "o"): "Acme"}
)


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([], 0),
        ([(0, 10)], 0),  # it ended as the minute began
        ([(70, 80)], 0),  # it began as the minute ended
        ([(0, 11)], 1),
        ([(0, 100), (5, 100), (69.9, 100)], 3),
        ([(10, 20), (20, 30), (30, 40)], 1),  # one ends as the next begins
        ([(10, 20), (19, 30), (29, 40)], 2),
        ([(15, 15)], 0),  # no time at all
        ([(0, 10), (60, 61), (60.5, 62), (60.9, 61)], 3),
        ([(20, 5)], 0),  # a clock that ran backwards
    ],
)
def test_most_at_once(intervals: list[tuple[float, float]], expected: int) -> None:
    """The most half-open intervals that share a moment of [10, 70)."""
    assert most_at_once(intervals, 10, 70) == expected


def test_whose_a_request_is() -> None:
    """It counts for its user, team, organization (also by its team), key and customer, as far as it names them."""
    assert set(whose(("u", "t", "", "k", "c"), EVERYBODY)) == {
        (USER, "u"), (TEAM, "t"), (ORGANIZATION, "o"), (KEY, "k"), (CUSTOMER, "c"),
    }  # fmt: skip
    assert set(whose(("", "", "", "k", ""), EVERYBODY)) == {(KEY, "k")}


def test_the_last_minute_is_summed_by_entity() -> None:
    """Rows that differ in another entity add up; an alias that is not there is "none"."""
    rows = [("m", "u", "t", "", "k", "", 2, 20), ("m", "v", "t", "", "k", "", 1, 5), ("", "u", "", "", "k", "", 1, 0)]
    found = {(sample.family.name, *sample.labels): sample.value for sample in minute(rows, EVERYBODY)}
    assert found["litellm_current_rpm", "m", TEAM, "t", "search"] == 3
    assert found["litellm_current_tpm", "m", TEAM, "t", "search"] == 25
    assert found["litellm_current_rpm", "m", ORGANIZATION, "o", "Acme"] == 3
    assert found["litellm_current_tpm", "m", USER, "v", "none"] == 5
    assert found["litellm_current_rpm", "unknown", USER, "u", "none"] == 1


def test_parallel_requests_by_entity() -> None:
    """Each entity has its own sweep; one of whom nothing ran has no series."""
    rows = [("u", "", "", "k", "", 0.0, 30.0), ("v", "", "", "k", "", 29.0, 90.0), ("w", "", "", "", "", 60.0, 61.0)]
    found = {sample.labels[:2]: sample.value for sample in parallel(rows, Entities(), 0.0, 60.0)}
    assert found == {(USER, "u"): 1, (USER, "v"): 1, (KEY, "k"): 2}
