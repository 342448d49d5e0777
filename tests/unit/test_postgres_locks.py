"""Locks between processes, which looking at them does not take away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tallykeep.errors import Conflict
from tallykeep.systems.postgres.archiver import LOCK, Archiver
from tallykeep.systems.postgres.locks import exclusive, is_held


@contextmanager
def looked_at(path: Path, by: int = 1) -> Iterator[list[bool]]:
    """So many look without a pause; whether one of them saw it held."""
    over, seen = threading.Event(), [False]

    def look() -> None:
        while not over.is_set():
            seen[0] |= is_held(path)

    looking = [threading.Thread(target=look) for _ in range(by)]
    for thread in looking:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in looking:
            thread.join()


def test_who_looks_at_a_lock_is_in_nobodys_way(tmp_path: Path) -> None:
    """A backup is not refused because figures were collected at that moment; while another is taken it is."""
    path = tmp_path / "lock"
    path.touch()
    with looked_at(path):
        for _ in range(200):
            with exclusive(path, "it is held"):
                assert is_held(path)
                with pytest.raises(Conflict, match="it is held"), exclusive(path, "it is held"):
                    pass


def test_who_looks_at_a_lock_does_not_see_others_who_look(tmp_path: Path) -> None:
    """Status is asked while figures are collected: nobody takes a backup."""
    path = tmp_path / "lock"
    path.touch()
    with looked_at(path, by=2) as seen:
        time.sleep(0.5)
    assert seen == [False]


def test_those_who_look_at_an_archive_do_not_keep_its_writer_out(tmp_path: Path) -> None:
    """WAL is received from the first try on, however often status is asked."""
    Archiver(tmp_path).close()
    with looked_at(tmp_path / LOCK):
        for _ in range(50):
            Archiver(tmp_path).close()
