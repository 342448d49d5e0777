"""The clocks of the primary and of tallykeep differ: time in WAL is the primary's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.support.clock import FakeClock
from tests.support.postgres_majors import MajorServer
from tests.support.postgres_restore import SETTINGS, Kept
from tests.support.postgres_wal import place

from tallykeep.errors import RestoreError
from tallykeep.systems.postgres.basebackup.backup import BackupRequest, back_up
from tallykeep.systems.postgres.cluster import prepare

__all__ = ["place"]
pytestmark = pytest.mark.server


async def test_a_backup_that_says_it_had_ended_before_is_not_believed(place: Path) -> None:
    """An hour behind, tallykeep dates backups an hour too early: the one before the target is taken all the same."""
    kept, clock = Kept(place), FakeClock(time.time() - 3600)
    await prepare(kept.cluster)
    with MajorServer(16, place / "primary", SETTINGS) as server, kept.receiving(server):
        for name in ("first", "second"):
            kept.write(server, 3)
            repository = await kept.cluster.tier1.repository(clock)
            await repository.chain.take_over()
            await back_up(BackupRequest(server.dsn(), "main", name), repository, clock)
        kept.write(server, 3)
        kept.note_times(server)
    planned = await kept.plan(place / "again", time=kept.rows[3].committed)
    assert planned.entry.name == "first"
    assert any("the backup second holds transactions of" in note for note in planned.notes)
    assert (await kept.plan(place / "again", time=kept.rows[6].committed)).entry.name == "second"
    for asked in ({"time": kept.rows[1].committed}, {"time": kept.rows[3].committed, "backup": "second"}):
        with pytest.raises(RestoreError, match="by the primary's clock, though"):
            await kept.plan(place / "again", **asked)
