"""Which backups are kept: whatever clocks, rules and verdicts there are, what must hold holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from hypothesis import assume, given
from hypothesis import strategies as st

from tallykeep.systems.postgres.retention.policy import Candidate, decide
from tallykeep.systems.postgres.settings import RetentionSettings

HOUR, DAY, YEAR = 3600.0, 86400.0, 365 * 86400.0
NOW = 1_790_000_000.0

counts = st.integers(0, 4)
rules = st.builds(
    RetentionSettings, keep_latest=counts, keep_hourly=counts, keep_daily=counts, keep_weekly=counts,
    keep_monthly=counts, keep_annual=counts, pitr=st.sampled_from([0.0, HOUR, DAY, 7 * DAY]), grace=st.just(DAY),
)  # fmt: skip
zones = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"])


@st.composite
def histories(draw: st.DrawFn, error: float = 2 * YEAR, apart: float = 20 * DAY, least: int = 0) -> list[Candidate]:
    """Backups in the order they were made, as clocks dated them that were off by up to `error`."""
    steps = draw(st.lists(st.floats(60, apart), min_size=least, max_size=12))
    off = draw(st.lists(st.one_of(st.just(0.0), st.floats(-error, error)), min_size=len(steps), max_size=len(steps)))
    times = [NOW - sum(steps) + passed for passed in accumulate(steps)]
    return [
        Candidate(
            f"{number:032}", f"backup {number}", time + wrong, draw(st.booleans()),
            draw(st.sampled_from(["", "", "", "damaged"])),
        )
        for number, (time, wrong) in enumerate(zip(times, off, strict=True))
    ]  # fmt: skip


def kept(found: Sequence[Candidate], wanted: RetentionSettings, zone: str, now: float) -> set[str]:
    """Ids of what stays."""
    return {decision.backup.id for decision in decide(found, wanted, zone, now) if decision.keep}


@given(histories(), rules, zones, st.floats(-2 * YEAR, 2 * YEAR))
def test_the_newest_and_the_newest_verified_stay(
    found: list[Candidate], wanted: RetentionSettings, zone: str, off: float
) -> None:
    """Under any rules and clocks the newest backup stays, and the newest that was verified, and what is pinned."""
    pinned = [each._replace(pin="not yet in tier 2") if number % 3 == 1 else each for number, each in enumerate(found)]
    stay = kept(pinned, wanted, zone, NOW + off)
    assert {each.id for each in pinned[-1:]} <= stay
    assert {each.id for each in [each for each in pinned if each.sound][-1:]} <= stay
    assert {each.id for each in pinned if each.pin} <= stay


@given(histories(), rules, zones)
def test_every_decision_has_its_reasons(found: list[Candidate], wanted: RetentionSettings, zone: str) -> None:
    """There is one decision for each backup, in their order, and none without a reason."""
    decisions = decide(found, wanted, zone, NOW)
    assert [decision.backup for decision in decisions] == found
    assert all(decision.reasons and all(decision.reasons) for decision in decisions)


@given(histories(error=0.0), rules, zones, st.floats(0, 1))
def test_every_moment_of_the_promise_can_be_restored(
    found: list[Candidate], wanted: RetentionSettings, zone: str, part: float
) -> None:
    """With right clocks: any moment of the last `pitr` seconds that could be restored before still can.

    That is, of the backups that were complete by then and count, the newest is kept.
    """
    moment = NOW - wanted.pitr * part
    before = [each.id for each in found if each.finished <= moment and not each.flaw]
    assume(wanted.pitr and before)
    assert before[-1] in kept(found, wanted, zone, NOW)


@given(histories(error=0.0, apart=DAY, least=2), rules, zones, st.data())
def test_a_clock_that_was_set_back_and_right_again(
    right: list[Candidate], wanted: RetentionSettings, zone: str, data: st.DataObject
) -> None:
    """Some backups are taken while the clock is behind, and say that they are older than the one before them. Once it
    is right again none of them passes for the one that the promise begins with."""
    wanted = replace(wanted, pitr=data.draw(st.floats(HOUR, 7 * DAY)))
    first, back = data.draw(st.integers(1, len(right) - 1)), data.draw(st.floats(1, 3 * DAY))
    before = right[first - 1].finished
    found = [
        each._replace(finished=each.finished - back) if number >= first and each.finished - back < before else each
        for number, each in enumerate(right)
    ]
    moment = NOW - wanted.pitr * data.draw(st.floats(0, 1))
    complete = [each.id for each in right if each.finished <= moment and not each.flaw]
    assert set(complete[-1:]) <= kept(found, wanted, zone, NOW)


@given(histories(error=HOUR / 2), rules, zones, st.floats(0, 2 * YEAR))
def test_a_clock_set_back_lets_nothing_go(
    found: list[Candidate], wanted: RetentionSettings, zone: str, back: float
) -> None:
    """What stays by one clock stays by any earlier one, as long as backups are out of order by less than `pitr`."""
    assert kept(found, wanted, zone, NOW) <= kept(found, wanted, zone, NOW - back)


@given(histories(), rules, zones, st.floats(0, 2 * YEAR))
def test_a_clock_that_is_ahead_changes_nothing(
    found: list[Candidate], wanted: RetentionSettings, zone: str, ahead: float
) -> None:
    """As long as no backup is taken by it, a clock that is ahead keeps what the right one keeps, neither more nor less:
    so while backups fail the old ones stay."""
    found = [each for each in found if each.finished <= NOW]
    assert kept(found, wanted, zone, NOW) == kept(found, wanted, zone, NOW + ahead)


@given(histories(), rules, zones)
def test_what_went_is_not_missed(found: list[Candidate], wanted: RetentionSettings, zone: str) -> None:
    """When what was let go is gone, all the rest stays: no rule reaches further because of it."""
    stay = kept(found, wanted, zone, NOW)
    assert kept([each for each in found if each.id in stay], wanted, zone, NOW) == stay


@given(histories(), rules, zones)
def test_more_rules_keep_more(found: list[Candidate], wanted: RetentionSettings, zone: str) -> None:
    """A greater count, or a longer promise, lets go of nothing that stayed before."""
    stay = kept(found, wanted, zone, NOW)
    for more in (
        replace(wanted, keep_latest=wanted.keep_latest + 1),
        replace(wanted, keep_daily=wanted.keep_daily + 1),
        replace(wanted, keep_weekly=wanted.keep_weekly + 1),
    ):
        assert stay <= kept(found, more, zone, NOW)


@given(histories(), rules, zones)
def test_those_that_count_fulfil_the_rule(found: list[Candidate], wanted: RetentionSettings, zone: str) -> None:
    """keep_latest keeps so many that count, however many damaged ones lie between."""
    stay = kept(found, wanted, zone, NOW)
    count = [each.id for each in found if not each.flaw]
    assert set(count[len(count) - min(wanted.keep_latest, len(count)) :]) <= stay


@given(histories(), zones)
def test_a_backup_from_the_future_takes_no_place(found: list[Candidate], zone: str) -> None:
    """A backup that a clock a year ahead has dated is kept, and keeps no other from its day."""
    wanted = RetentionSettings(keep_latest=0, keep_daily=2, pitr=0.0, grace=0.0)
    future = Candidate("future", "future", NOW + YEAR)
    assert kept(found, wanted, zone, NOW) | {"future"} == kept([future, *found], wanted, zone, NOW)
