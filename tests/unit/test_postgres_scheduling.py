"""When scheduled work is done: in its time, once for what was missed, again after a failure, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.clock import FakeClock
from tests.support.offloading import until
from tests.support.postgres_retention import SEGMENT, backup, backups, opened, settings_of
from tests.support.postgres_retention import START as BACKED_UP

from tallykeep.errors import Unreachable
from tallykeep.systems.postgres.coverage import Gap
from tallykeep.systems.postgres.drilling.service import drill_schedule
from tallykeep.systems.postgres.due import behind_gap, left_to_another
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.locks import BACKUP, exclusive
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.scheduling import RETRY, Schedule
from tallykeep.systems.postgres.settings import RetentionSettings

NIGHTLY = "30 2 * * *"
HOUR, DAY = 3600.0, 86_400.0


class Nightly:
    """A schedule, and what came of it: when the work was done, as the wall clock had it."""

    def __init__(self, clock: FakeClock, last: float | None, **more: Any) -> None:
        self.clock = clock
        self.done: list[str] = []
        self.failing = 0
        self.work_takes = 0.0
        self.schedule = Schedule(
            "nightly", NIGHTLY, "UTC", clock, work=self._work, last=self._last(last), turn=asyncio.Lock(), **more
        )

    async def passed(self, seconds: float) -> list[str]:
        """What was done meanwhile."""
        task = asyncio.create_task(self.schedule.run())
        await self.clock.advance(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return self.done

    async def _work(self) -> None:
        self.done.append(datetime.fromtimestamp(self.clock.time(), UTC).strftime("%d %H:%M"))
        await self.clock.sleep(self.work_takes)
        if self.failing:
            self.failing -= 1
            raise Unreachable("nobody there")

    @staticmethod
    def _last(moment: float | None) -> Callable[[], Coroutine[None, None, float | None]]:
        async def last() -> float | None:
            return moment

        return last


async def test_it_is_done_in_its_time() -> None:
    """Every night, and not before; the start was on the 14th at 22:13."""
    clock = FakeClock()
    assert await Nightly(clock, clock.time() - HOUR).passed(2 * DAY) == ["15 02:30", "16 02:30"]


async def test_the_first_is_at_once_or_in_its_time() -> None:
    """What was never done waits for its time, unless it is due at once."""
    assert await Nightly(FakeClock(), None).passed(DAY) == ["15 02:30"]
    assert await Nightly(FakeClock(), None, at_once=True).passed(DAY) == ["14 22:13", "15 02:30"]


async def test_what_was_missed_is_caught_up_once() -> None:
    """Three nights without a server are one backup at its start."""
    clock = FakeClock()
    assert await Nightly(clock, clock.time() - 3 * DAY).passed(DAY) == ["14 22:13", "15 02:30"]


async def test_what_failed_is_tried_again_before_its_next_time() -> None:
    """After a quarter of an hour, as often as it fails."""
    clock = FakeClock()
    nightly = Nightly(clock, clock.time() - HOUR)
    nightly.failing = 2
    assert RETRY == 900
    assert await nightly.passed(DAY) == ["15 02:30", "15 02:45", "15 03:00"]


async def test_work_that_takes_longer_than_a_period_is_not_piled_up() -> None:
    """Two days of work leave one night out."""
    clock = FakeClock()
    nightly = Nightly(clock, clock.time() - HOUR)
    nightly.work_takes = 1.5 * DAY
    assert await nightly.passed(3 * DAY) == ["15 02:30", "17 02:30"]


async def test_a_clock_that_is_set_neither_skips_nor_holds_up() -> None:
    """Set on by a day, it is done then; set back by two, it is done at the next time by that clock."""
    clock = FakeClock()
    nightly = Nightly(clock, clock.time() - HOUR)
    task = asyncio.create_task(nightly.schedule.run())
    await clock.advance(60)
    clock.step(DAY)
    await clock.advance(60)
    assert nightly.done == ["15 22:14"]
    clock.step(-2 * DAY)
    await clock.advance(5 * HOUR)
    assert nightly.done == ["15 22:14", "14 02:30"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_several_take_turns() -> None:
    """With one lock between them the second begins when the first has ended."""
    clock = FakeClock()
    first, second = Nightly(clock, None), Nightly(clock, None)
    first.work_takes = second.work_takes = HOUR
    second.schedule._turn = first.schedule._turn
    await asyncio.gather(first.passed(0), second.passed(0))
    tasks = [asyncio.create_task(each.schedule.run()) for each in (first, second)]
    await clock.advance(8 * HOUR)
    assert sorted([*first.done, *second.done]) == ["15 02:30", "15 03:30"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_cannot_wait_does_not() -> None:
    """It is done within a minute; and where it fails, not again before the time that failures have."""
    clock = FakeClock()
    asked = []

    async def urgent() -> bool:
        asked.append(clock.time())
        return clock.time() > 1_700_003_600 and len(nightly.done) < 3

    nightly = Nightly(clock, clock.time() - HOUR, urgent=urgent)
    nightly.failing = 2
    assert await nightly.passed(3 * HOUR) == ["14 23:13", "14 23:28", "14 23:43"]
    assert asked


async def test_what_was_never_done_is_missed_from_the_first_backup_on(tmp_path: Path) -> None:
    """A machine that is off whenever a drill is due holds one when it is on; without a backup there is nothing to."""
    settings = settings_of(tmp_path, RetentionSettings())
    cluster, clock = await opened(settings), FakeClock(BACKED_UP)
    schedule = drill_schedule(cluster, settings, clock, asyncio.Lock())
    assert await schedule._first() > clock.time()
    await backups(cluster, 1)
    assert await schedule._first() > clock.time()
    await clock.advance(DAY)
    assert await schedule._first() < clock.time()
    Journal(cluster.folder).drilled({"outcome": "ok", "started": clock.time() - HOUR})
    assert await schedule._first() > clock.time()


@pytest.mark.parametrize("ahead", [-DAY, 0.0, 300 * DAY])
async def test_a_gap_is_behind_a_backup_by_its_place_and_not_by_a_clock(tmp_path: Path, ahead: float) -> None:
    """One that was found while the clock was wrong asks for one backup, not for none, nor for one after another."""
    cluster = await opened(settings_of(tmp_path, RetentionSettings()))
    (first,) = await backups(cluster, 1)
    urgent = behind_gap(cluster, FakeClock(BACKED_UP))
    assert not await urgent()
    gap = Gap(1, LSN.parse(first.stop_lsn), LSN(3 * SEGMENT), "the slot was lost", first.finished + HOUR + ahead)
    (cluster.folder / "gaps.jsonl").write_text(gap.to_json() + "\n")
    assert await urgent() and await urgent()
    await backup(cluster, cluster.tier1, 3, first.finished + 2 * HOUR)
    assert not await urgent()
    later = gap._replace(start=LSN(4 * SEGMENT), end=LSN(5 * SEGMENT), found=first.finished + 3 * HOUR)
    (cluster.folder / "gaps.jsonl").write_text(gap.to_json() + "\n" + later.to_json() + "\n")
    assert await urgent()


@pytest.mark.parametrize("comes", [True, False])
async def test_a_backup_by_command_counts_once_it_is_one(tmp_path: Path, comes: bool) -> None:
    """The schedule waits for a command that takes a base backup, and takes one itself where that came to nothing."""
    cluster, clock = await opened(settings_of(tmp_path, RetentionSettings())), FakeClock(BACKED_UP)
    assert not await left_to_another(cluster, clock)
    Journal(cluster.folder).backups(latest_start=BACKED_UP - 60)
    with exclusive(cluster.folder / BACKUP, "a backup is being taken"):
        left = asyncio.create_task(left_to_another(cluster, clock))
        await until(lambda: clock._sleepers)
        if comes:
            await backups(cluster, 1)
    await clock.advance(1.5)
    assert await asyncio.wait_for(left, 60) == comes
