"""Locks between processes, which looking at them does not take away."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tallykeep.errors import Conflict
from tallykeep.systems.postgres.locks import exclusive, is_held


def test_who_looks_at_a_lock_is_in_nobodys_way(tmp_path: Path) -> None:
    """A backup is not refused because figures were collected at that moment; while another is taken it is."""
    path, over = tmp_path / "lock", threading.Event()
    path.touch()

    def look() -> None:
        while not over.is_set():
            is_held(path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(1000):
            with exclusive(path, "it is held"):
                pass
    finally:
        over.set()
        looking.join()
    with exclusive(path, "it is held"), pytest.raises(Conflict, match="it is held"), exclusive(path, "it is held"):
        pass
