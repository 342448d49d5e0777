from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
from tests.support.clock import FakeClock

from tallykeep.metrics import FOREVER, UNKNOWN, Book, Catalogue, Family, Kind, Sample, Snapshot
from tallykeep.runtime.board import Board
from tallykeep.runtime.work import Derived
from tallykeep.units import COUNT, STATE

FILES = Family("files", Kind.GAUGE, COUNT, (), "Files.")
SUM = Family("files_all", Kind.GAUGE, COUNT, (), "Files of all.")
VERDICT = Family("verdict", Kind.STATE_SET, STATE, (), "Verdict.", states=("good", "bad", UNKNOWN))
WHOLE = Family("whole", Kind.STATE_SET, STATE, (), "Verdict of all.", states=("good", UNKNOWN))
DONE = Family("done_total", Kind.COUNTER, COUNT, (), "Done.")


class Scene:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.book = Book()
        self.board = Board(Catalogue((FILES, SUM, VERDICT, WHOLE, DONE)), self.book, self.clock)

    def publish(self, target: str = "a", files: float = 1, lasting: float = FOREVER) -> None:
        samples = (FILES(files), VERDICT("good"))
        until = self.clock.monotonic() + lasting
        self.board.publish(Snapshot("c", target, samples, self.clock.time(), until))

    def shown(self) -> dict[str, object]:
        return {sample.family.name: sample.value for sample in self.board.samples()}

    def sum_of(self, *targets: str) -> None:
        inputs = tuple(("c", target) for target in targets)
        self.board.derive(Derived("sums", "", inputs, _summed))


def _summed(snapshots: Sequence[Snapshot]) -> Sequence[Sample]:
    values = [s.value for snapshot in snapshots for s in snapshot.samples if s.family is FILES]
    return (SUM(sum(value for value in values if isinstance(value, float))), WHOLE("good"))


def test_a_new_snapshot_takes_the_place_of_the_old() -> None:
    """One snapshot per collector and target: what is gone from the source is gone from the Board."""
    scene = Scene()
    scene.publish(files=1)
    scene.publish(files=2)
    assert [sample.value for sample in scene.board.samples()] == [2.0, "good"]


async def test_expired_snapshots_fall_silent_at_the_moment_they_expire() -> None:
    """Nobody publishes or fails anything: the passing of valid_until alone withdraws figures."""
    scene = Scene()
    scene.publish(lasting=10)
    before = scene.board.view()
    await scene.clock.advance(9.99)
    assert scene.board.is_current(before)
    assert scene.shown() == {"files": 1.0, "verdict": "good"}
    await scene.clock.advance(0.01)
    assert not scene.board.is_current(before)
    assert scene.shown() == {"verdict": UNKNOWN}
    assert scene.board.believed() == {("c", "a"): False}


def test_a_stepped_wall_clock_changes_nothing() -> None:
    """Expiry is reckoned on the monotonic clock."""
    scene = Scene()
    scene.publish(lasting=10)
    scene.clock.step(1e6)
    assert scene.shown() == {"files": 1.0, "verdict": "good"}


def test_a_failed_collector_falls_silent_until_it_publishes_again() -> None:
    """Plain samples are withdrawn, state sets say unknown, and both come back with the next snapshot."""
    scene = Scene()
    scene.publish()
    scene.board.fail("c", "a")
    assert scene.shown() == {"verdict": UNKNOWN}
    scene.publish(files=3)
    assert scene.shown() == {"files": 3.0, "verdict": "good"}
    scene.board.fail("c", "nobody")
    assert scene.shown() == {"files": 3.0, "verdict": "good"}


def test_an_announced_collector_says_unknown() -> None:
    """A verdict is there before the first collection, whatever state it was announced with."""
    scene = Scene()
    scene.board.announce("c", "a", [VERDICT("good")])
    assert scene.shown() == {"verdict": UNKNOWN}
    assert scene.board.believed() == {("c", "a"): False}


def test_a_dropped_target_leaves_nothing() -> None:
    """A target that is no longer watched has no verdict."""
    scene = Scene()
    scene.publish()
    scene.board.drop("c", "a")
    assert scene.shown() == {}


async def test_the_view_stays_the_same_object_while_nothing_changes() -> None:
    """Renderers keep lines by identity: snapshots must not be made anew at each look, silent ones included."""
    scene = Scene()
    scene.publish("a", lasting=1)
    scene.publish("b")
    scene.sum_of("b")
    await scene.clock.advance(2)
    first = scene.board.view()
    assert scene.board.view() is first
    scene.publish("b")
    assert scene.board.view().snapshots[0] is first.snapshots[0]


def test_sums_appear_when_every_input_is_there() -> None:
    """A sum over one of two targets would be a wrong figure under the right name; an announcement is no input."""
    scene = Scene()
    scene.sum_of("a", "b")
    scene.board.announce("c", "b", [VERDICT(UNKNOWN)])
    scene.publish("a", files=1)
    assert "files_all" not in scene.shown()
    scene.publish("b", files=2)
    assert scene.shown()["files_all"] == 3.0
    scene.publish("b", files=5)
    assert scene.shown()["files_all"] == 6.0


@pytest.mark.parametrize("how", ["fails", "expires", "is dropped"])
async def test_sums_are_withdrawn_with_any_input(how: str) -> None:
    """When an input is not to be believed, neither is the sum; its state sets say unknown."""
    scene = Scene()
    scene.sum_of("a", "b")
    scene.publish("a", files=1, lasting=10)
    scene.publish("b", files=2)
    assert scene.shown()["whole"] == "good"
    if how == "fails":
        scene.board.fail("c", "a")
    elif how == "expires":
        await scene.clock.advance(10)
    else:
        scene.board.drop("c", "a")
    assert "files_all" not in scene.shown()
    assert scene.shown()["whole"] == UNKNOWN
    scene.publish("a", files=4)
    assert scene.shown()["files_all"] == 6.0


def test_a_sum_that_raises_is_withdrawn_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A defect in one derived figure takes down neither the page nor the other figures."""
    scene = Scene()
    broken = [False]

    def derive(snapshots: Sequence[Snapshot]) -> Sequence[Sample]:
        if broken[0]:
            raise ZeroDivisionError("defect")
        return _summed(snapshots)

    scene.board.derive(Derived("sums", "all", (("c", "a"),), derive))
    scene.publish(files=1)
    assert scene.shown()["files_all"] == 1.0
    broken[0] = True
    scene.publish(files=2)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert scene.shown() == {"files": 2.0, "verdict": "good", "whole": UNKNOWN}
    assert len(caplog.records) == 1


async def test_pages_read_the_book_at_most_once_a_second() -> None:
    """A thousand events a second cost one rendering; what happened last is shown a second later at most."""
    scene = Scene()
    scene.book.add(DONE)
    first = scene.board.view()
    scene.book.add(DONE)
    assert scene.board.is_current(first)
    assert scene.board.view() is first
    await scene.clock.advance(1)
    assert not scene.board.is_current(first)
    assert scene.board.view().snapshots[-1].samples == (DONE(2),)
    assert scene.shown() == {"done_total": 2.0}
