"""PageSet beside Python's own sets."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tallykeep.systems.litestream.ltx import PageSet, lock_page

numbers = st.sets(st.integers(1, 60))


def of(pages: set[int]) -> PageSet:
    return PageSet((page, page) for page in sorted(pages))


@given(numbers, numbers)
def test_algebra(a: set[int], b: set[int]) -> None:
    """Union, difference, length, membership and order are those of a set of the same pages."""
    ours, theirs = of(a), of(b)
    assert list(ours.union(theirs)) == sorted(a | b)
    assert list(ours.difference(theirs)) == sorted(a - b)
    assert len(ours) == len(a)
    assert bool(ours) == bool(a)
    assert {page for page in range(62) if page in ours} == a
    assert ours.union(theirs) == of(a | b)
    assert hash(ours.union(theirs)) == hash(of(a | b))


@given(numbers)
def test_runs_are_apart(a: set[int]) -> None:
    """Runs never touch: as few of them as there can be."""
    runs = list(of(a).runs())
    assert all(after[0] > before[1] + 1 for before, after in pairwise(runs))


@given(numbers, st.integers(1, 70))
def test_missing(a: set[int], commit: int) -> None:
    """Missing are the pages of the database that are not in the set."""
    assert list(of(a).missing(commit, 512)) == sorted(set(range(1, commit + 1)) - a)


def test_lock_page_is_never_missing() -> None:
    """A complete database has all pages but the one that SQLite locks by."""
    lock = lock_page(65536)
    assert list(PageSet.database(lock - 1, 65536).runs()) == [(1, lock - 1)]
    assert list(PageSet.database(lock, 65536).runs()) == [(1, lock - 1)]
    assert list(PageSet.database(lock + 2, 65536).runs()) == [(1, lock - 1), (lock + 1, lock + 2)]
    assert not PageSet.database(lock + 2, 65536).missing(lock + 2, 65536)


def test_reads_well() -> None:
    """For people it is a list of ranges, cut short."""
    assert str(of({1, 2, 3, 9, 11, 12})) == "1-3, 9, 11-12"
    assert str(of(set(range(1, 40, 2)))) == "1, 3, 5, 7, 9 and 15 more"
    assert repr(PageSet()) == "PageSet()"
