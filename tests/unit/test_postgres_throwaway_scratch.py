"""Scratch folders of throw-away servers: gone when they are over."""

from __future__ import annotations

import threading
from pathlib import Path

from tallykeep.systems.postgres.throwaway.scratch import clear, remove


def test_nothing_is_left_where_a_script_still_adds_to_it(tmp_path: Path) -> None:
    """Whoever makes files in a folder as fast as he can while it is removed leaves none behind."""
    folder, over = tmp_path / "drill-00000000", threading.Event()

    def adds() -> None:
        number = 0
        while not over.is_set():
            number += 1
            try:
                (folder / "wal" / f"{number}").touch()
            except FileNotFoundError:
                continue

    for _ in range(20):
        (folder / "wal").mkdir(parents=True)
        thread = threading.Thread(target=adds)
        thread.start()
        try:
            while not list((folder / "wal").iterdir()):
                pass
            remove(folder)
        finally:
            over.set()
            thread.join()
        assert not list(tmp_path.iterdir())
        over.clear()


def test_what_was_being_removed_by_one_who_died_is_removed(tmp_path: Path) -> None:
    """A folder that has its other name already is known for what it is."""
    (tmp_path / "drill-00000000-over").mkdir()
    clear(tmp_path)
    assert not list(tmp_path.iterdir())
