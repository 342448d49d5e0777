from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tallykeep.errors import ConfigError, Denied, Unavailable
from tallykeep.runtime.state import StateDirectory


def test_entry_survives_a_restart(tmp_path: Path) -> None:
    """What was written is read by the next process, and the state keeps its date of birth."""
    first = StateDirectory.open(tmp_path / "state")
    first.write("counters", b"one")
    first.close()
    second = StateDirectory.open(tmp_path / "state")
    assert second.read("counters") == b"one"
    assert second.read("other") is None
    assert second.created == pytest.approx(first.created, abs=0.002)
    assert second.persistent
    second.close()


def test_second_process_is_refused(tmp_path: Path) -> None:
    """A state held by another process is a ConfigError that names that process, and can be opened after its end."""
    code = (
        "import sys, pathlib; from tallykeep.runtime.state import StateDirectory;"
        "s = StateDirectory.open(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=f"in use by process {holder.pid}"):
            StateDirectory.open(tmp_path)
        holder.kill()
    StateDirectory.open(tmp_path).close()


def test_close_lets_the_lock_go_once(tmp_path: Path) -> None:
    """close() is idempotent and leaves the directory to others."""
    state = StateDirectory.open(tmp_path)
    state.close()
    state.close()
    StateDirectory.open(tmp_path).close()


def test_unwritable_folder_is_told_apart_from_a_held_one(tmp_path: Path) -> None:
    """A folder that cannot be made is a StoreError that says what to set."""
    (tmp_path / "file").write_text("")
    with pytest.raises((Unavailable, Denied), match="TALLYKEEP_STATE_DIR"):
        StateDirectory.open(tmp_path / "file" / "state")


def test_left_overs_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    """Scratch folders and half-written entries are gone after the next start; entries are not."""
    state = StateDirectory.open(tmp_path)
    (state.scratch("drill") / "image.db").write_bytes(b"x")
    state.write("kept", b"y")
    (tmp_path / "kept.new").write_bytes(b"half")
    state.close()
    again = StateDirectory.open(tmp_path)
    assert not list(again.scratch("drill").iterdir())
    assert not (tmp_path / "kept.new").exists()
    assert again.read("kept") == b"y"
    again.close()


def test_memory_state_offers_the_same_and_keeps_nothing() -> None:
    """In memory: entries are read back, scratch is a real folder that close() removes, nothing is persistent."""
    state = StateDirectory.in_memory()
    state.write("a", b"1")
    assert state.read("a") == b"1"
    assert not state.persistent
    assert state.path is None
    folder = state.scratch("drill")
    assert folder.is_dir()
    state.close()
    assert not folder.exists()


@pytest.mark.parametrize("name", ["", "../a", "a/b", "lock", "created", "scratch", ".hidden", "a.new"])
def test_names_that_would_leave_the_folder_or_meet_its_own_files(tmp_path: Path, name: str) -> None:
    """An entry's name is one plain word."""
    state = StateDirectory.open(tmp_path)
    with pytest.raises(ValueError, match="cannot name"):
        state.write(name, b"")
    state.close()


def test_unreadable_date_of_birth_starts_a_new_one(tmp_path: Path) -> None:
    """A damaged `created` never stops a start."""
    (tmp_path / "created").write_bytes(b"")
    state = StateDirectory.open(tmp_path)
    assert state.created > 1e9
    state.close()


def test_folder_that_may_not_be_made_is_denied() -> None:
    """No permission is Denied, for root as well: /sys takes no folders."""
    with pytest.raises(Denied, match="TALLYKEEP_STATE_DIR"):
        StateDirectory.open(Path("/sys/tallykeep"))


def test_memory_state_without_a_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no file system can be written, scratch is a StoreError, and entries work."""

    def refuse(**_: str) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tallykeep.runtime.state.tempfile.mkdtemp", refuse)
    state = StateDirectory.in_memory()
    state.write("a", b"1")
    with pytest.raises(Unavailable, match="No usable temporary directory"):
        state.scratch("drill")
    state.close()
