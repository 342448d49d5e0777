"""Ranges, gaps and lag: arithmetic on positions."""

from __future__ import annotations

from tallykeep.systems.postgres.coverage import Gap, Held, Range, gaps, newest, ranges
from tallykeep.systems.postgres.lag import Lag
from tallykeep.systems.postgres.lsn import LSN, Fork, History


def held(timeline: int, start: int, end: int) -> Held:
    return Held(timeline, LSN(start), LSN(end))


def test_a_line_follows_its_ancestors_to_where_each_was_left() -> None:
    """What a dead branch holds behind its fork is no part of the range, and covers no gap."""
    history = History(3, (Fork(1, LSN(100)), Fork(2, LSN(200))))
    all_held = [held(1, 0, 150), held(2, 96, 180), held(3, 192, 300), held(4, 0, 999)]
    assert ranges(all_held, history) == [Range(LSN(0), LSN(180)), Range(LSN(192), LSN(300))]
    assert gaps(all_held, history) == [Gap(2, LSN(180), LSN(192))]
    assert newest(all_held[:3]) == held(3, 192, 300) and newest([]) is None


def test_a_recorded_gap_is_read_back_and_a_torn_line_is_not_taken_for_one() -> None:
    """The record survives a crash while its last line is written."""
    gap = Gap(1, LSN(5), LSN(0x100000007), "why", 12.5)
    assert Gap.from_json(gap.to_json()) == gap
    assert all(Gap.from_json(gap.to_json()[:cut]) is None for cut in range(len(gap.to_json())))


def test_an_idle_primary_leaves_nobody_behind_and_a_busy_one_does() -> None:
    """Seconds count from the last moment at which everything was held."""
    lag = Lag()
    assert lag.look(0, 100, 100) == 0 and lag.look(1000, 100, 100) == 0 and lag.bytes == 0
    assert lag.look(1010, 150, 100) == 10 and lag.bytes == 50
    assert lag.look(1020, 200, 100) == 20
    assert lag.look(1030, 250, 160) == 20
    assert lag.look(1040, 250, 250) == 0
    assert lag.look(1050, 250, 300) == 0 and lag.bytes == 0


def test_a_cluster_that_never_caught_up_is_behind_since_it_was_first_asked() -> None:
    """Nobody knows since when; what is told grows."""
    lag = Lag()
    assert lag.look(5, 100, 0) == 0
    assert lag.look(15, 100, 50) == 10
