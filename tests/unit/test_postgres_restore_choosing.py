"""Which backup a restore begins with: arithmetic on backups, WAL and timelines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tallykeep.errors import ConfigError, RestoreError
from tallykeep.systems.postgres.coverage import Held
from tallykeep.systems.postgres.lsn import LSN, Fork, History
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.restoring.choosing import Candidate, Holdings, choose
from tallykeep.systems.postgres.restoring.request import RestoreRequest, told

TARGET = Path("/x")


def backup(name: str, start: int, stop: int, timeline: int = 1, tier: str = "1") -> Candidate:
    """A backup that ended at as many seconds as its stop has bytes."""
    entry = BackupEntry(
        name * 4, name, "main", "7", 180000, timeline, str(LSN(start)), str(LSN(stop)), start, stop, "k", "h",
        size=1, files=1, directories=1, raw=1, added=1,
    )  # fmt: skip
    return Candidate(entry, tier)


def held(*stretches: tuple[int, int, int]) -> list[Held]:
    return [Held(timeline, LSN(start), LSN(end)) for timeline, start, end in stretches]


THREE = Holdings(
    [backup("a", 10, 20), backup("b", 110, 120), backup("c", 210, 220)], held((1, 0, 300)), {1: History(1)}
)  # fmt: skip


def chosen(holdings: Holdings, **asked: object) -> str:
    """The name of the backup that a request takes."""
    return choose(holdings, RestoreRequest(TARGET, **asked)).candidate.entry.name  # type: ignore[arg-type]


def refused(holdings: Holdings, **asked: object) -> str:
    """Why a request cannot be met."""
    with pytest.raises(RestoreError) as caught:
        chosen(holdings, **asked)
    return str(caught.value)


def test_the_newest_that_had_ended_before_the_target_is_taken() -> None:
    """At its end a backup is consistent, so a target at that very place is in; what was asked for is taken."""
    assert chosen(THREE) == chosen(THREE, name="point") == chosen(THREE, immediate=True) == "c"
    assert chosen(THREE, backup="a") == chosen(THREE, backup="aaaa", lsn=LSN(299)) == "a"
    for asked in ("lsn", "time"):
        number = LSN if asked == "lsn" else float
        found = [chosen(THREE, **{asked: number(at)}) for at in (20, 119, 120, 219, 220, 299)]
        assert found == ["a", "a", "b", "b", "c", "c"], asked


def test_what_cannot_work_is_refused_with_what_can() -> None:
    """Before the oldest backup, beyond WAL, an unknown backup or timeline, nothing at all."""
    assert "the earliest time that can be restored is 1970-01-01T00:00:20.000Z" in refused(THREE, time=19.0)
    assert "the earliest LSN that can be restored is 0/14, on timeline 1" in refused(THREE, lsn=LSN(19))
    assert "0/12C lies beyond the WAL that is held of timeline 1, which ends at 0/12C" in refused(THREE, lsn=LSN(300))
    assert "from 0/DC to before 0/12C can be restored" in refused(THREE, lsn=LSN(300))
    assert "there are a (aaaa), b (bbbb), c (cccc)" in refused(THREE, backup="d")
    assert "known timelines: 1" in refused(THREE, timeline="2")
    assert "There is no backup" in refused(Holdings([], [], {}))


def test_as_much_of_an_id_as_is_shown_is_enough() -> None:
    """Twelve digits name a backup as the whole id does, also beside another of its name; fewer could be anything."""
    entry = replace(backup("a", 10, 20).entry, id="0123456789abcdef" * 2, name="twice")
    two = THREE._replace(
        candidates=[Candidate(entry, "1"), Candidate(replace(THREE.candidates[1].entry, name="twice"), "1")]
    )
    for wanted in (entry.id, entry.id[:12], entry.id[:20]):
        assert choose(two, RestoreRequest(TARGET, backup=wanted)).candidate.entry is entry
    assert "there are twice (0123456789ab), twice (bbbb)" in refused(two, backup=entry.id[:11])
    found = choose(two, RestoreRequest(TARGET, backup="twice"))
    assert (found.candidate.stop, found.reason) == (120, "the newest that can be, of 2 that are called so")


def test_a_backup_without_its_own_wal_is_not_offered() -> None:
    """From its start to its stop every byte is needed; another backup may have them."""
    gap = THREE._replace(held=held((1, 0, 215)))
    assert chosen(gap) == "b"
    assert "c needs WAL from 0/D2 to 0/DC, and not all of it is held" in refused(gap, backup="c")
    begun = THREE._replace(held=held((1, 11, 300)))
    assert "needs WAL from 0/A to 0/14" in refused(begun, backup="a")
    assert "the earliest LSN that can be restored is 0/78" in refused(begun, lsn=LSN(50))


def test_no_target_behind_a_gap() -> None:
    """WAL on the other side of a hole is as good as none, unless a backup lies between."""
    holed = THREE._replace(held=held((1, 0, 150), (1, 160, 300)))
    assert chosen(holed, lsn=LSN(149)) == "b" and chosen(holed, lsn=LSN(230)) == "c"
    assert "behind a gap: WAL from 0/96 to 0/A0 is missing" in refused(holed, lsn=LSN(170))


def test_timelines() -> None:
    """A line goes through its ancestors up to where each was left; the old branch is there for who asks for it."""
    histories = {1: History(1), 2: History(2, (Fork(1, LSN(150)),)), 3: History(3, (Fork(1, LSN(99)),))}
    candidates = [*THREE.candidates, backup("d", 230, 240, 2)]
    both = Holdings(candidates, held((1, 0, 300), (2, 144, 400)), {1: histories[1], 2: histories[2]})
    assert chosen(both) == "d" and choose(both, RestoreRequest(TARGET)).history.timeline == 2
    assert chosen(both, lsn=LSN(225)) == "b", "c is on the branch that was left"
    assert chosen(both, lsn=LSN(225), timeline="1") == "c"
    assert "c ended at 0/DC, and timeline 1 was left at 0/96" in refused(both, backup="c", timeline="2")
    assert choose(both, RestoreRequest(TARGET, backup="c")).history.timeline == 1
    assert "is of timeline 2, from which timeline 1 does not come" in refused(both, backup="d", timeline="1")
    only_history = Holdings(THREE.candidates, held((1, 0, 300)), {1: histories[1], 3: histories[3]})
    assert choose(only_history, RestoreRequest(TARGET)).reach.end == 99


def test_a_request_that_contradicts_itself_is_refused_with_every_reason() -> None:
    """Two targets, a timeline that is none, an action that is none, a standby with a target."""
    with pytest.raises(ConfigError) as caught:
        RestoreRequest(TARGET, time=1.0, immediate=True, timeline="x", action="run", standby=True)
    assert len(caught.value.problems) == 4


def test_times_are_told_as_exactly_as_they_are_given() -> None:
    """To the millisecond, or to the microsecond where there are any."""
    assert told(1.5) == "1970-01-01T00:00:01.500Z" and told(1.000001) == "1970-01-01T00:00:01.000001Z"
