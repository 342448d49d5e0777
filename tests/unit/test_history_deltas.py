"""Deltas of one target's counters, scenario by scenario, each with the true answer."""

from __future__ import annotations

import math

import pytest

from tallykeep.history.deltas import IDENTITIES, SEEN_EVERY, UNDATED, Counter, Delta, Deltas, Memory, counters

NOW = 1_790_000_000.0
OLD = NOW - 86400.0  # a creation long before the first page
A, B = b'requests_total{model="a"}', b'requests_total{model="b"}'


def follow(*values: float, created: float = UNDATED, series: bytes = A) -> list[Delta]:
    """What one counter did on each of several pages."""
    return pages(*([(value, created)] for value in values), series=series)


def pages(*pages: list[tuple[float, float]], series: bytes = A) -> list[Delta]:
    deltas, found = Deltas(), []
    for number, page in enumerate(pages):
        found += deltas.take([Counter(series, *one) for one in page], NOW + 60 * number)[0]
    return found


def amounts(found: list[Delta]) -> list[float]:
    return [delta.amount for delta in found]


@pytest.mark.parametrize("created", [UNDATED, OLD])
def test_the_first_page_is_a_baseline(created: float) -> None:
    """What LiteLLM had counted before it was first scraped is not today's."""
    assert amounts(follow(1000, 1003, created=created)) == [0, 3]


def test_a_restart_without_created_is_a_fall_counted_whole_and_ambiguous() -> None:
    """1000, then 600: 600 since the restart, and nobody can tell it from another replica."""
    assert follow(1000, 600)[1] == Delta(A, 600, reset=True, ambiguous=True)


@pytest.mark.parametrize("value", [600, 1000, 1200])
def test_a_restart_with_created_is_counted_whole(value: float) -> None:
    """However far the counter has come again: all of it is since the restart, and that is certain."""
    assert pages([(1000, OLD)], [(value, NOW + 30)])[1] == Delta(A, value, reset=True)


def test_a_restart_by_a_clock_somewhat_behind() -> None:
    """A restart dated half a minute before our first page is still one."""
    assert pages([(1000, OLD)], [(600, NOW - 30)])[1] == Delta(A, 600, reset=True)


def test_a_restart_by_a_clock_that_was_never_set() -> None:
    """A host that believes it is 1970 tells restarts apart as well."""
    assert pages([(1000, 50)], [(600, 90)])[1] == Delta(A, 600, reset=True)


def test_a_reset_in_one_family_alone_is_its_own() -> None:
    """Requests go 10 to 12 while the cost falls 10 to 0.5: 2 and 0.5, and only the cost was reset."""
    deltas = Deltas()
    deltas.take([Counter(A, 10), Counter(b"cost_total", 10)], NOW)
    found = deltas.take([Counter(A, 12), Counter(b"cost_total", 0.5)], NOW + 60)[0]
    assert found == [Delta(A, 2), Delta(b"cost_total", 0.5, reset=True, ambiguous=True)]


def test_alternating_replicas_with_created() -> None:
    """1000, 400, 1001, 401 from two replicas: 2 requests, and no restart, whichever of them is older."""
    for one, other in ((OLD, OLD - 3600), (OLD, OLD + 3600)):
        found = pages([(1000, one)], [(400, other)], [(1001, one)], [(401, other)])
        assert sum(amounts(found)) == 2
        assert not any(delta.reset for delta in found)


def test_alternating_replicas_without_created_are_ambiguous() -> None:
    """Without dates each fall can only be taken for a restart; every one is marked."""
    found = follow(1000, 400, 1001, 401)
    assert amounts(found) == [0, 400, 601, 401]
    assert [delta.ambiguous for delta in found] == [False, True, False, True]


def test_a_replica_started_since_is_counted_whole_even_if_met_after_a_younger_one() -> None:
    """All a replica has counted is news if it was born after our first page."""
    assert amounts(pages([(1000, OLD)], [(5, NOW + 50)], [(7, NOW + 20)])) == [0, 5, 7]


def test_a_series_first_seen_later() -> None:
    """A new series adds its whole value when it was created after the target's first scrape; else it is a baseline."""
    for created, expected in ((NOW + 30, 7.0), (OLD, 0.0)):
        deltas = Deltas()
        deltas.take([Counter(A, 10, OLD)], NOW)
        assert deltas.take([Counter(A, 10, OLD), Counter(B, 7, created)], NOW + 60)[0][1] == Delta(B, expected)


def test_a_series_first_seen_later_without_created() -> None:
    """It counts whole, as most often it is new; that it may be a replica's is marked."""
    deltas = Deltas()
    deltas.take([], NOW)
    assert deltas.take([Counter(B, 7)], NOW + 60)[0] == [Delta(B, 7, ambiguous=True)]


@pytest.mark.parametrize("created", [UNDATED, OLD])
def test_a_series_that_disappears_and_comes_back(created: float) -> None:
    """A gap loses nothing: the difference over it counts, and there is no negative delta meanwhile."""
    assert amounts(pages([(10, created)], [], [], [(15, created)])) == [0, 5]


def test_an_empty_page_in_between_changes_nothing() -> None:
    """Traffic across a page without counters is counted when they are back."""
    assert amounts(pages([(1000, UNDATED)], [], [(1010, UNDATED)])) == [0, 10]


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan, -1.0])
def test_a_value_no_counter_can_have_is_passed_over(odd: float) -> None:
    """+Inf and NaN neither count nor become a baseline."""
    assert amounts(follow(5, odd, 8)) == [0, 3]


def test_a_page_that_begins_to_tell_created() -> None:
    """An upgrade that adds _created is no restart."""
    assert pages([(100, UNDATED)], [(130, OLD)])[1] == Delta(A, 30)


def test_it_goes_on_from_its_memories() -> None:
    """After a restart of our own the difference counts over the time we were down."""
    deltas = Deltas()
    _, memories = deltas.take([Counter(A, 10, OLD), Counter(B, 4)], NOW)
    again = Deltas.resumed(deltas.since, memories)
    assert again.take([Counter(A, 25, OLD), Counter(B, 4)], NOW + 600)[0] == [Delta(A, 15), Delta(B, 0)]
    assert sorted(deltas.memories()) == sorted(memories)


def test_only_what_changed_is_remembered_anew() -> None:
    """A counter that stands still costs no write, but for once a day: its memory must not look abandoned."""
    deltas = Deltas()
    deltas.take([Counter(A, 10), Counter(B, 4)], NOW)
    assert deltas.take([Counter(A, 10), Counter(B, 5)], NOW + 60)[1] == [Memory(B, UNDATED, 5, NOW + 60)]
    assert len(deltas.take([Counter(A, 10), Counter(B, 5)], NOW + SEEN_EVERY)[1]) == 1


def test_identities_are_bounded() -> None:
    """A process that restarts for ever leaves a bounded memory; the replica still answering is not forgotten."""
    deltas = Deltas()
    deltas.take([Counter(A, 100, OLD)], NOW)
    for number in range(3 * IDENTITIES):
        deltas.take([Counter(A, 1, NOW + number + 1)], NOW + 2 * number)
        assert deltas.take([Counter(A, 100, OLD)], NOW + 2 * number + 1)[0] == [Delta(A, 0)]
    assert len(deltas.memories()) == IDENTITIES


def test_counters_are_joined_with_their_dates() -> None:
    """`_created` belongs to the counter with the same labels; a series that stands twice counts once."""
    samples = [
        (b'spend_total{m="a"}', 5.0),
        (b'spend_created{m="a"}', OLD),
        (b'spend_total{m="b"}', 6.0),
        (b'spend_total{m="a"}', 9.0),
        (b'time_count{m="a"}', 3.0),
        (b'time_sum{m="a"}', 0.5),
        (b'time_created{m="a"}', OLD + 1),
        (b"other_total", 1.0),
    ]
    found = list(counters(samples, frozenset({b"spend_total", b"time_count", b"time_sum"})))
    assert found == [
        Counter(b'spend_total{m="a"}', 5.0, OLD),
        Counter(b'spend_total{m="b"}', 6.0, UNDATED),
        Counter(b'time_count{m="a"}', 3.0, OLD + 1),
        Counter(b'time_sum{m="a"}', 0.5, OLD + 1),
    ]
