"""What status calls wrong, and what it does not any more."""

from __future__ import annotations

import pytest

from tallykeep.systems.postgres.condition import Status, TierStatus
from tallykeep.systems.postgres.coverage import Gap
from tallykeep.systems.postgres.listing import Listed
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.reach import Reach
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.status import _judge

NOW = 1_796_000_000.0
GAP = Gap(1, LSN(1000), LSN(2000))


def listed(end: int) -> Listed:
    """A backup from which recovery comes as far as that."""
    entry = BackupEntry(
        "0" * 32, "monday", "main", "7", 170000, 1, "0/100", "0/200", NOW - 60, NOW - 50, "k", "h", 1, 1, 1, 1, 1
    )
    return Listed(entry, Reach(True, LSN(end), 1), None)


@pytest.mark.parametrize(("newest", "wrong"), [(None, True), (listed(1000), True), (listed(3000), False)])
def test_a_gap_is_wrong_until_there_is_a_backup_behind_it(newest: Listed | None, wrong: bool) -> None:
    """WAL that is missing is told as long as it is; it is wrong while no backup leads to the newest moment."""
    status = Status("main", tiers=[TierStatus("1", LSN(3000), 1, 0, NOW, (), (GAP,), newest, 1)])
    _judge(status, NOW)
    assert any("WAL is missing" in problem for problem in status.problems) is wrong
    assert any("missing from 0/3E8" in line for line in status.lines(NOW))
