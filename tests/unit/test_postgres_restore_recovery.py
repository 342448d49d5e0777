"""Recovery settings: quoted for PostgreSQL and for the shell, in a file that keeps what else it had."""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tallykeep.errors import Unavailable
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.restoring import recovery
from tallykeep.systems.postgres.restoring.getwal import ASIDE, place
from tallykeep.systems.postgres.restoring.recovery import SPOOL, Recovery
from tallykeep.systems.postgres.restoring.request import RestoreRequest

NASTY = """it's a "quoted" $HOME `path` \\ 100% é;\n&|*"""


def expanded(command: str, name: str, path: str) -> str:
    """As PostgreSQL puts names into a restore_command."""
    return command.replace("%%", "\0").replace("%f", name).replace("%p", path).replace("\0", "%")


def run(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A restore_command whose get-wal is `code`, in a data directory."""
    command = recovery.restore_command([sys.executable, "-c", code, *arguments])
    argv = ["sh", "-c", expanded(command, "0" * 23 + "1", "pg_wal/RECOVERYXLOG")]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)


def test_arguments_reach_get_wal_as_they_are(tmp_path: Path) -> None:
    """Spaces, quotes, dollars, backslashes, percents and line ends; then the file, and where it goes."""
    done = run(tmp_path, "import sys; print(ascii(sys.argv[1:]))", NASTY)
    assert done.stdout.strip() == ascii([NASTY, "--absent", "99", "0" * 23 + "1", "pg_wal/RECOVERYXLOG"])


@pytest.mark.parametrize(("ended", "status"), [(0, 0), (99, 1), (1, 255), (2, 255), (3, 255), (126, 126), (255, 255)])
def test_only_what_get_wal_says_on_purpose_is_the_end_of_wal(tmp_path: Path, ended: int, status: int) -> None:
    """1 and 2 are how Python and its arguments fail: PostgreSQL must see a status above 125."""
    assert run(tmp_path, f"raise SystemExit({ended})").returncode == status


def test_a_program_that_is_gone_is_no_end_of_wal(tmp_path: Path) -> None:
    """The shell's own 127."""
    command = expanded(recovery.restore_command(["/nowhere/tallykeep"]), "a", "b")
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=False).returncode == 127


def test_what_was_fetched_ahead_is_taken_without_a_program(tmp_path: Path) -> None:
    """By a rename."""
    spool = tmp_path / SPOOL
    spool.mkdir(parents=True)
    (spool / ("0" * 23 + "1")).write_text("wal")
    assert run(tmp_path, "raise SystemExit(3)").returncode == 0
    assert (tmp_path / "pg_wal/RECOVERYXLOG").read_text() == "wal" and not list(spool.iterdir())


def test_nothing_fetched_ahead_outlives_recovery(tmp_path: Path) -> None:
    """Though another process is putting segments there while it is taken away; and what an earlier end had left."""
    spool, ended = tmp_path / SPOOL, threading.Event()

    def feed() -> None:
        while not ended.is_set():
            with suppress(OSError, Unavailable):
                place(b"wal", spool / ("0" * 23 + "1"))

    feeding = threading.Thread(target=feed)
    feeding.start()
    try:
        for _ in range(50):
            spool.mkdir(parents=True)
            time.sleep(0.002)
            subprocess.run(["sh", "-c", recovery.END_COMMAND], cwd=tmp_path, check=True)
            assert not list((tmp_path / "pg_wal").iterdir())
    finally:
        ended.set()
        feeding.join()
    (tmp_path / f"{SPOOL}.over" / "x").mkdir(parents=True)
    (tmp_path / f"pg_wal/RECOVERYXLOG.0{ASIDE}").touch()
    subprocess.run(["sh", "-c", recovery.END_COMMAND], cwd=tmp_path, check=True)
    assert not list((tmp_path / "pg_wal").iterdir())


def test_settings_of_the_old_primary_and_of_old_restores_are_replaced(tmp_path: Path) -> None:
    """Everything else that ALTER SYSTEM had set stays; all is told of what was taken away."""
    (tmp_path / "postgresql.conf").write_text("archive_mode = on # why\nPrimary_Slot_Name 'x'\n#wal_level=x\n")
    old = "# Do not edit\nwork_mem = '8MB'\nrecovery_target_time = '2020-01-01'\nsynchronous_standby_names = '*'\n"
    (tmp_path / "postgresql.auto.conf").write_text(old)
    notes = recovery.notes(tmp_path)
    assert [note.split()[0] for note in notes] == ["synchronous_standby_names", "primary_slot_name", "archive_mode"]
    request = RestoreRequest(tmp_path, lsn=LSN(255), action="pause")
    for _ in range(2):  # again after a restore that was cut
        recovery.write(tmp_path, Recovery(request, 3, ["get-wal"]))
    lines = (tmp_path / "postgresql.auto.conf").read_text().splitlines()
    assert lines[:2] == ["# Do not edit", "work_mem = '8MB'"]
    assert lines[-1] == "recovery_target_lsn = '0/FF'", "the target is set last: before it the others are emptied"
    assert {"recovery_target_time = ''", "synchronous_standby_names = ''", "recovery_target_timeline = '3'"} < set(
        lines
    )
    assert "hot_standby = 'on'" in lines and len(lines) == len(set(lines))
    assert (tmp_path / "recovery.signal").exists()


def test_a_cluster_whose_settings_are_elsewhere(tmp_path: Path) -> None:
    """As Debian has it: it is told, and the command that starts the server names that file."""
    folder = tmp_path / "it's here"
    folder.mkdir()
    [note] = recovery.notes(folder)
    assert "no postgresql.conf" in note
    words = shlex.split(recovery.start_command(folder))
    assert words[:4] == ["pg_ctl", "start", "-D", str(folder)] and words[4] == "-o"
    options = shlex.split(words[5])
    assert options == ["-c", "config_file=/path/to/postgresql.conf", "-c", f"data_directory={folder}"]
    (folder / "postgresql.conf").touch()
    assert recovery.notes(folder) == [] and recovery.start_command(folder).split("'")[0] == "pg_ctl start -D "


def test_a_standby_follows_the_newest_timeline(tmp_path: Path) -> None:
    """It has no target and no action at one."""
    recovery.write(tmp_path, Recovery(RestoreRequest(tmp_path, standby=True), 3, ["get-wal"]))
    text = (tmp_path / "postgresql.auto.conf").read_text()
    assert (tmp_path / "standby.signal").exists() and "recovery_target_timeline = 'latest'" in text
    assert "recovery_target_action" not in text


def test_times_keep_their_microseconds_and_their_zone(tmp_path: Path) -> None:
    """A server with another TimeZone reads the same moment."""
    found = recovery.settings(Recovery(RestoreRequest(tmp_path, time=1_764_500_000.000001), 1, []))
    assert found["recovery_target_time"] == "2025-11-30 10:53:20.000001+00"
    assert list(found)[-1] == "recovery_target_time"
