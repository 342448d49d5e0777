"""The offset map against a note for each record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tallykeep.systems.kafka.offset_map import OffsetMap
from tallykeep.systems.kafka.places import Place

SOURCE, TARGET = Place("orders", 0), Place("copy", 1)
offsets = st.sets(st.integers(0, 200), max_size=80)


def built(kept: set[int], start: int, sizes: list[int]) -> OffsetMap:
    """The map of records restored to `start` and behind, noted in pieces of `sizes` records or less."""
    found = OffsetMap()
    found.begin(SOURCE, TARGET, start)
    left, target, at = sorted(kept), start, 0
    while left:
        size, at = sizes[at % len(sizes)], at + 1
        piece = [offset for number, offset in enumerate(left[:size]) if offset == left[0] + number]
        found.add(SOURCE, TARGET, piece[0], target, len(piece))
        left, target = left[len(piece) :], target + len(piece)
    return found


@given(offsets, st.integers(0, 1000), st.lists(st.integers(1, 9), min_size=1), st.integers(0, 210))
def test_next_unread(kept: set[int], start: int, sizes: list[int], asked: int) -> None:
    """Whatever was kept and in whatever pieces it was noted: a reader goes on at the first record he has not read."""
    target = {offset: start + number for number, offset in enumerate(sorted(kept))}
    unread = [offset for offset in sorted(kept) if offset >= asked]
    wanted = target[unread[0]] if unread else start + len(kept)
    found = built(kept, start, sizes)
    assert found.translate(SOURCE, asked) == wanted
    assert OffsetMap.decode(found.encode(), "map") == found


@given(offsets, st.lists(st.integers(1, 9), min_size=1))
def test_as_many_runs_as_stretches(kept: set[int], sizes: list[int]) -> None:
    """The map has a run for each stretch without a hole and no more: its size does not depend on the records."""
    found = built(kept, 0, sizes).places[SOURCE]
    assert len(found) == sum(offset - 1 not in kept for offset in kept)
    assert found.records == len(kept)
