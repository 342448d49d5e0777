"""Scratch folders of throw-away servers: gone when they are over."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from tallykeep.runtime.threads import in_thread, threads_noted
from tallykeep.systems.postgres.throwaway.scratch import DRILL, MAKING, clear, entered, remove, scratch


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


async def test_what_works_in_it_for_a_cancelled_caller_is_waited_for(tmp_path: Path) -> None:
    """A thread that nobody waits for any more makes its folder, and that goes with the others."""
    begun, on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def restores(folder: Path) -> None:
        loop.call_soon_threadsafe(begun.set)
        on.wait()
        (folder / "late").mkdir(parents=True)

    async def used() -> None:
        with threads_noted() as threads:
            async with entered(scratch(tmp_path, None, DRILL), threads) as place:
                await in_thread(restores, place.data)

    task = asyncio.create_task(used())
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0.1)
    assert not task.done()
    on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert os.listdir(tmp_path) == [MAKING]  # noqa: PTH208 - no Path's call blocks the loop
