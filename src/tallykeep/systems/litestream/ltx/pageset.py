"""A set of page numbers, as sorted runs: how the coverage of many files is added up.

Memory is 8 bytes a run, whatever the length of the runs: a snapshot is one run, or two around the lock page.
The worst case is every other page of a database: 4 bytes for each of its pages.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator

from tallykeep.systems.litestream.ltx.header import lock_page

Run = tuple[int, int]  # first and last page number, both included


class PageSet:
    """Page numbers 1 to 2**32 - 1, immutable."""

    __slots__ = ("_first", "_last")

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        """From runs in ascending order of their first page; they may touch and overlap."""
        self._first = array("I")
        self._last = array("I")
        for first, last in runs:
            self._add(first, last)

    @classmethod
    def database(cls, commit: int, page_size: int) -> PageSet:
        """Every page that a complete database of `commit` pages has in LTX files: all but the lock page."""
        lock = lock_page(page_size)
        if commit < lock:
            return cls([(1, commit)])
        return cls((first, last) for first, last in ((1, lock - 1), (lock + 1, commit)) if first <= last)

    def runs(self) -> Iterator[Run]:
        """The runs, ascending, with a gap between each and the next."""
        return zip(self._first, self._last, strict=True)

    def union(self, other: PageSet) -> PageSet:
        return PageSet(_merge(self.runs(), other.runs()))

    def difference(self, other: PageSet) -> PageSet:
        return PageSet(_subtract(self.runs(), other.runs()))

    def missing(self, commit: int, page_size: int) -> PageSet:
        """The pages of a database of `commit` pages that are not in here."""
        return PageSet.database(commit, page_size).difference(self)

    def __len__(self) -> int:
        """Pages. (A set of more than sys.maxsize pages cannot be.)"""
        return sum(self._last) - sum(self._first) + len(self._first)

    def __contains__(self, page: int) -> bool:
        at = bisect_right(self._first, page) - 1
        return at >= 0 and page <= self._last[at]

    def __iter__(self) -> Iterator[int]:
        for first, last in self.runs():
            yield from range(first, last + 1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PageSet) and self._first == other._first and self._last == other._last

    def __hash__(self) -> int:
        return hash((self._first.tobytes(), self._last.tobytes()))

    def __str__(self) -> str:
        """For people: "1-9, 12, 15-20", cut after five runs."""
        shown = [str(a) if a == b else f"{a}-{b}" for a, b in zip(self._first[:5], self._last[:5], strict=True)]
        more = len(self._first) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more > 0 else "")

    def __repr__(self) -> str:
        return f"PageSet({self})"

    def _add(self, first: int, last: int) -> None:
        if self._last and first <= self._last[-1] + 1:
            self._last[-1] = max(self._last[-1], last)
        else:
            self._first.append(first)
            self._last.append(last)


def _merge(ours: Iterator[Run], theirs: Iterator[Run]) -> Iterator[Run]:
    mine, other = next(ours, None), next(theirs, None)
    while mine is not None and other is not None:
        if mine[0] <= other[0]:
            yield mine
            mine = next(ours, None)
        else:
            yield other
            other = next(theirs, None)
    if mine is not None:
        yield mine
        yield from ours
    if other is not None:
        yield other
        yield from theirs


def _subtract(ours: Iterator[Run], theirs: Iterator[Run]) -> Iterator[Run]:
    hole = next(theirs, None)
    for first, last in ours:
        while hole is not None and hole[1] < first:
            hole = next(theirs, None)
        while hole is not None and hole[0] <= last:
            if first < hole[0]:
                yield first, hole[0] - 1
            first = hole[1] + 1
            if hole[1] > last:
                break
            hole = next(theirs, None)
        if first <= last:
            yield first, last
