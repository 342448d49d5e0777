"""Parts of a drill that need no server: outcomes, what errors say, settings, figures, lines."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from tests.support.postgres_drill import settings_of

from tallykeep.clock import SystemClock
from tallykeep.errors import ConfigError, Denied, IntegrityError, NotFound, RestoreError, TallykeepError, Unavailable
from tallykeep.metrics import Sample
from tallykeep.runtime.telling import printable
from tallykeep.systems.postgres import families
from tallykeep.systems.postgres.cluster import clusters_of
from tallykeep.systems.postgres.drilling.commands import drill_lines
from tallykeep.systems.postgres.drilling.figures import DrillCollector
from tallykeep.systems.postgres.drilling.result import Answer, DrillResult
from tallykeep.systems.postgres.drilling.service import drill_schedule
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.throwaway import judging, programs
from tallykeep.systems.postgres.throwaway.configuration import Source, arguments
from tallykeep.systems.postgres.throwaway.ended import Ended
from tallykeep.systems.postgres.throwaway.scratch import DRILL, MAKING, OPEN, Scratch, clear, scratch


def test_the_worst_counts() -> None:
    """What is wrong with a backup outweighs what could not be looked at, whichever came first."""
    result = DrillResult("main", "2")
    assert result.ok
    result.open_question("amcheck", "it is not there")
    assert (result.outcome, result.stage, result.why) == ("inconclusive", "amcheck", "it is not there")
    result.problem("questions", "wrong")
    result.open_question("checksums", "no answer")
    assert (result.outcome, result.stage, result.why) == ("failed", "questions", "wrong")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (IntegrityError("damaged"), "failed"),
        (NotFound("gone"), "failed"),
        (RestoreError("no"), "failed"),
        (ConfigError("another key"), "failed"),
        (ExceptionGroup("several", [IntegrityError("damaged")]), "failed"),
        (Unavailable("silence"), "inconclusive"),
        (Denied("not you"), "inconclusive"),
        (OSError(28, "No space left on device"), "inconclusive"),
        (subprocess.TimeoutExpired("postgres", 60), "inconclusive"),
    ],
)
def test_what_an_error_says(error: Exception, outcome: str) -> None:
    """A backup is at fault where it is damaged or gone, and not where storage or the machine fails."""
    assert judging.judged(error).outcome == outcome


def test_a_mistake_of_the_program_is_none_of_the_backup() -> None:
    """What is no error of the world leaves as it came."""
    with pytest.raises(KeyError):
        judging.judged(KeyError("x"))


@pytest.mark.parametrize(
    ("log", "outcome"),
    [
        ("FATAL:  WAL ends before consistent recovery point\n", "failed"),
        ("LOG:  x\nPANIC:  could not locate a valid checkpoint record at 0/2000080\n", "failed"),
        ('FATAL:  could not write to file "pg_wal/xlogtemp.7": No space left on device\n', "inconclusive"),
        ("FATAL:  could not map anonymous shared memory: Cannot allocate memory\n", "inconclusive"),
        ("setpriv: failed to execute /opt/postgres: Permission denied\n", "inconclusive"),
        ("", "inconclusive"),
    ],
)
def test_what_the_last_words_of_postgres_say(log: str, outcome: str) -> None:
    """WAL that is not enough is the backup's fault; memory, disk and permissions are not."""
    ended = judging.stopped(log, 1)
    assert ended.outcome == outcome
    assert "PostgreSQL" in str(ended)


def test_programs_of_a_major(tmp_path: Path) -> None:
    """A folder that was given and has another major is named, and so is what to install."""
    (tmp_path / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 17.2 (Debian 17.2-1)'\n")
    (tmp_path / "postgres").chmod(0o755)
    found = programs.find(17, tmp_path)
    assert found.postgres == tmp_path / "postgres"
    with pytest.raises(Ended, match="install postgresql-9,") as caught:
        programs.find(9, tmp_path)
    assert f"{tmp_path} has 17" in str(caught.value)
    assert caught.value.outcome == "inconclusive"


def test_settings_that_keep_a_server_to_itself(tmp_path: Path) -> None:
    """No network, no background workers, no archive; what the settings ask for is stronger; nonsense is refused."""
    place = Scratch(tmp_path, tmp_path / "s", None)
    source = Source("sh fetch.sh %f %p", 3, 64 << 20, {"recovery_target_lsn": "0/30"})
    told = arguments(place, 17, source, ["shared_buffers = 1GB"])
    chosen = dict(part.split("=", 1) for part in told if part != "-c")
    assert (chosen["listen_addresses"], chosen["max_worker_processes"], chosen["archive_mode"]) == ("", "0", "off")
    assert (chosen["recovery_target_timeline"], chosen["min_wal_size"]) == ("3", "128MB")
    assert (chosen["shared_buffers"], chosen["event_triggers"]) == ("1GB", "off")
    assert "event_triggers=off" not in arguments(place, 16, source)
    assert arguments(place, 17, source, ["recovery_target_lsn=0/7"])[-1] == "recovery_target_lsn=0/30"
    assert "listen_addresses=127.0.0.1" in arguments(place, 17, source, port=7)
    with pytest.raises(ConfigError, match="no setting"):
        arguments(place, 17, source, ["shared_buffers"])


def test_what_dead_drills_left(tmp_path: Path) -> None:
    """Their folders and their sockets elsewhere go; what was kept on purpose stays, as does what is not a drill's."""
    elsewhere, foreign = tmp_path / "tallykeep-abc", tmp_path / "foreign"
    for folder, socket in (("drill-1", elsewhere), ("drill-2", foreign), ("kept-3", elsewhere)):
        (tmp_path / "main" / folder / "data").mkdir(parents=True)
        (tmp_path / "main" / folder / "elsewhere").write_text(str(socket))
    elsewhere.mkdir()
    foreign.mkdir()
    clear(tmp_path / "main")
    assert [path.name for path in (tmp_path / "main").iterdir()] == ["kept-3"]
    assert not elsewhere.exists()
    assert foreign.exists()


def test_several_folders_at_a_time(tmp_path: Path) -> None:
    """Whoever makes a folder removes those of the dead and none that is in use, by a drill or an open server."""
    with scratch(tmp_path, None, DRILL) as one, scratch(tmp_path, None, OPEN) as other:
        (tmp_path / "open-dead").mkdir()
        with scratch(tmp_path, None, OPEN) as third:
            assert sorted(tmp_path.glob("*-*")) == sorted((one.folder, other.folder, third.folder))
    assert [path.name for path in tmp_path.iterdir()] == [MAKING]


def test_a_socket_that_would_have_too_long_a_path(tmp_path: Path) -> None:
    """It is elsewhere, as long as the drill goes on."""
    with scratch(tmp_path / ("x" * 120), None, DRILL) as place:
        assert len(bytes(place.sockets / ".s.PGSQL.5432")) <= 107
        assert place.sockets.is_dir()
    assert not place.sockets.exists()
    assert not place.folder.exists()


async def samples(collector: DrillCollector) -> list[Sample]:
    """What it tells."""
    return [sample async for sample in collector.collect()]


async def test_figures(tmp_path: Path) -> None:
    """Unknown before the first; then the latest result with its tier, counts of all, and when one last was ok."""
    [cluster] = clusters_of(settings_of(tmp_path))
    cluster.folder.mkdir()
    collector, labels = DrillCollector(cluster, "cold", 1.0), {"cluster_name": "main", "tier": "1"}
    found = await samples(collector)
    assert families.DRILL_RESULT("unknown", **labels) in found
    assert families.DRILL_LAST_SUCCESS(0, **labels) in found
    assert not any(sample.family is families.DRILL_POSITION for sample in found)
    assert collector.verdicts() == (families.DRILL_RESULT("unknown", **labels),)
    result = DrillResult("main", "2", recovered_lsn="0/30", held_lsn="0/40", behind_bytes=16, bytes=9, commit_time=5.0)
    result.problem("recovery", "behind")
    result.restore_seconds, result.finished, result.last_success = 1.5, 8.0, 3.0
    Journal(cluster.folder).drilled(result.as_json())
    found, labels = await samples(collector), {"cluster_name": "main", "tier": "2"}
    for expected in (
        families.DRILL_RESULT("failed", **labels),
        families.DRILL_RUNS(1, cluster_name="main", outcome="failed"),
        families.DRILL_RUNS(0, cluster_name="main", outcome="ok"),
        families.DRILL_LAST_SUCCESS(3, **labels),
        families.DRILL_TIME(8, **labels),
        families.DRILL_DURATION(1.5, **labels, stage="restore"),
        families.DRILL_POSITION(0x30, **labels),
        families.DRILL_BEHIND(16, **labels),
        families.DRILL_COMMIT(5, **labels),
        families.DRILL_RESTORED(9, **labels),
    ):
        assert expected in found


async def test_a_scheduled_drill_that_is_inconclusive_is_tried_again(tmp_path: Path) -> None:
    """It counts as not done, so that the schedule does not wait for another day; the journal has it."""
    settings = settings_of(tmp_path)
    [cluster] = clusters_of(settings)
    schedule = drill_schedule(cluster, settings, SystemClock(), asyncio.Lock())
    assert await schedule._last() is None
    with pytest.raises(TallykeepError, match="is inconclusive: "):
        await schedule._work()
    assert await schedule._last() is not None
    assert Journal(cluster.folder).read().drills == {"inconclusive": 1}


def test_lines_for_people() -> None:
    """The recovery time is printed with its parts, what was wrong comes first, and nothing steers the terminal."""
    result = DrillResult("main", "2", cold=True, restore_seconds=60, recovery_seconds=30, bytes=1 << 30, files=7)
    result.recovered_lsn, result.held_lsn, result.timeline, result.wal_segments = "0/30", "0/30", 1, 3
    result.answers.append(Answer("rows", False, "\x1b[2J"))
    result.problem("questions", "rows: wrong")
    lines = [printable(line) for line in drill_lines(result)]
    assert lines[0] == "failed: drill of main, cold, from tier 2 alone"
    assert lines[1] == "  rows: wrong"
    assert lines[2] == (
        "  recovery time:   1 min 30 s (1 min for 1.0 GiB in 7 files, 30.0 s for 3 WAL segments)"
    )  # fmt: skip
    assert "  question:        rows: \\x1b[2J (wrong)" in lines
