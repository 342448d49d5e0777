"""The offset map: where a reader goes on, and what happens when a byte of it changes."""

from __future__ import annotations

import pytest

from tallykeep.errors import IntegrityError, RestoreError
from tallykeep.systems.kafka.offset_map import MapRun, OffsetMap
from tallykeep.systems.kafka.places import Place

ORDERS, COPY = Place("orders", 0), Place("copy", 3)


def a_map() -> OffsetMap:
    """Offsets 10 to 19 and 25 to 29 of the source, at 100 to 114 of the target."""
    found = OffsetMap("r1", "file:///backup", "cluster")
    found.begin(ORDERS, COPY, 100)
    found.add(ORDERS, COPY, 10, 100, 4)
    found.add(ORDERS, COPY, 14, 104, 6)
    found.add(ORDERS, COPY, 25, 110, 5)
    found.begin(Place("empty", 0), Place("empty", 0), 7)
    return found


def test_runs_that_go_on_are_one() -> None:
    """A hole begins a run; a batch that follows without one makes the last run longer."""
    assert list(a_map().places[ORDERS]) == [MapRun(10, 100, 10), MapRun(25, 110, 5)]
    assert a_map().places[ORDERS].records == 15


@pytest.mark.parametrize(
    ("offset", "wanted"),
    [(0, 100), (10, 100), (19, 109), (20, 110), (24, 110), (25, 110), (29, 114), (30, 115), (99, 115)],
)
def test_next_unread_record(offset: int, wanted: int) -> None:
    """An offset in a hole is the next record that was kept, one past the end the end, one before all the first."""
    assert a_map().translate(ORDERS, offset) == wanted


def test_partition_without_records() -> None:
    """A partition that had nothing to restore still has an end, and a reader goes on there."""
    assert a_map().translate(Place("empty", 0), 4) == 7
    assert a_map().target(Place("empty", 0)) == Place("empty", 0)


def test_partition_that_was_not_restored() -> None:
    """There is no guess for a partition that the restore left out: it says so and names it."""
    with pytest.raises(RestoreError, match="orders-7 was not restored by r1"):
        a_map().translate(Place("orders", 7), 1)
    assert a_map().target(Place("orders", 7)) is None


def test_two_sources_in_one_target() -> None:
    """Who has read all of one source goes on behind everything in the target, not only behind that source's part."""
    found = a_map()
    found.add(Place("other", 0), COPY, 0, 115, 3)
    found.add(ORDERS, COPY, 30, 118, 1)
    found.add(Place("other", 0), COPY, 3, 119, 2)
    assert found.translate(ORDERS, 31) == found.end(COPY) == 121
    assert found.translate(Place("other", 0), 3) == 119


def test_what_cannot_be() -> None:
    """Runs that go back, overlap or are empty, and a source with two targets, are refused."""
    for source, target, count in ((29, 115, 1), (30, 114, 1), (30, 115, 0)):
        with pytest.raises(IntegrityError, match="do not ascend"):
            a_map().add(ORDERS, COPY, source, target, count)
    with pytest.raises(IntegrityError, match="restored to copy-3, and to copy-4"):
        a_map().add(ORDERS, Place("copy", 4), 30, 115, 1)


def test_any_byte_flipped() -> None:
    """A map comes back as it was; with one bit changed anywhere it is refused, and named."""
    data = a_map().encode()
    assert OffsetMap.decode(data, "the map") == a_map()
    for at in range(len(data)):
        spoilt = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        with pytest.raises(IntegrityError, match="the map"):
            OffsetMap.decode(spoilt, "the map")
    for cut in (0, 1, len(data) // 2, len(data) - 1):
        with pytest.raises(IntegrityError, match="the map"):
            OffsetMap.decode(data[:cut], "the map")
