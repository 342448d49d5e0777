"""What of an archive counts for the server that is asked how far it is ahead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tallykeep.errors import Unavailable
from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.collector import shared
from tallykeep.systems.postgres.lag import Lag
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.slot import ServerState

HELD = LSN(0x9000)


def on(timeline: int, **more: Any) -> ServerState:
    """A server that writes a timeline; 0: a standby."""
    state = ServerState(standby=not timeline, lsn=HELD, keep="-1", slot=None, timeline=timeline, following=True)
    return state._replace(**more)


def test_what_had_arrived_from_the_old_primary_does_not_pass_for_the_new_ones(tmp_path: Path) -> None:
    """An archive that is ahead of a promoted standby by position has nothing of it behind the fork."""
    archive = Archive(tmp_path)
    archive.wal.mkdir()
    with pytest.raises(Unavailable, match="the server is on timeline 2, and what is held on 1"):
        shared(archive, 1, HELD, on(2))
    (archive.wal / "00000002.history").write_text("1\t0/5000\tno recovery target specified\n")
    assert shared(archive, 1, HELD, on(2)) == 0x5000
    assert shared(archive, 1, LSN(0x4000), on(2)) == 0x4000
    with pytest.raises(Unavailable, match="on timeline 1, and what is held on 2"):
        shared(archive, 2, HELD, on(1))


def test_positions_on_one_timeline_are_compared_as_they_are(tmp_path: Path) -> None:
    """So they are where a standby does not say on which it is, and before the first WAL."""
    archive = Archive(tmp_path)
    found = [shared(archive, *each) for each in ((2, HELD, on(2)), (1, HELD, on(0)), (0, LSN(0), on(3)))]
    assert found == [HELD, HELD, 0]


def test_what_says_nothing_of_the_primary_is_no_measure(tmp_path: Path) -> None:
    """Another cluster at the same address, and a standby that was cut off, leave what would be lost unknown: not 0."""
    archive = Archive(tmp_path)
    archive.wal.mkdir()
    (tmp_path / "identity.json").write_text('{"system_id": "7", "segment_size": 16777216}')
    assert shared(archive, 1, HELD, on(1, system_id=7)) == HELD
    with pytest.raises(Unavailable, match="of the system 7, and the server that answers is 8"):
        shared(archive, 1, HELD, on(1, system_id=8))
    with pytest.raises(Unavailable, match="a standby to which no primary sends WAL"):
        shared(archive, 1, HELD, on(0, following=False))


def test_what_was_lost_with_a_primary_is_not_waited_for() -> None:
    """A promoted standby goes on before where the old primary was: who holds all of it is not behind."""
    lag = Lag()
    assert lag.look(0.0, 900, 900) == 0.0
    assert lag.look(10.0, 1000, 900) == 10.0
    assert lag.look(20.0, 800, 700) == 20.0
    assert (lag.look(30.0, 800, 800), lag.bytes) == (0.0, 0)
