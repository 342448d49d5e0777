"""What is done about a history file that does not open: damaged ones set aside, those of litellm-pulse taken over.

A damaged file is never deleted: it gets a date in its name, its write-ahead log beside it, and a fresh one is opened.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tallykeep.errors import Corrupt, Denied, StoreError, Unavailable
from tallykeep.history.deltas import Memory
from tallykeep.history.migrate import migrate_if_needed
from tallykeep.history.store import HistoryStore

_log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """An open history file and what stands in it."""

    store: HistoryStore
    tracked: list[tuple[int, str, float, float]]  # quarter, name, delta, highest
    lifetimes: dict[str, float]
    memories: dict[str, tuple[float, list[Memory]]]  # target -> first scrape, memories
    aside: Path | None = None  # where a damaged file was put


def open_history(path: Path, zone: ZoneInfo, names: Mapping[str, str], now: float, since: float) -> Opened:
    """The history at `path`, made where there is none; with the tracked totals since a moment in Unix seconds.

    A damaged file is set aside for a fresh one. `names` are those of the tracked totals, with the page's name of each.

    Raises: Unavailable or Denied where no file can be opened there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Denied(f"the folder of {path} cannot be made: {error.strerror}; set another path") from error
    try:
        migrate_if_needed(path, zone, names)
        return _opened(path, zone, since)
    except Corrupt as error:
        aside = set_aside(path, now)
        _log.error("%s. It is set aside as %s and a fresh history begins", error, aside, extra={"aside": str(aside)})
    return _opened(path, zone, since)._replace(aside=aside)


def set_aside(path: Path, now: float) -> Path:
    """Rename a damaged file and what belongs to it. Its new name. Raises: Unavailable."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.corrupt-{stamp}-{number}")
    try:
        path.rename(aside)
        for end in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
    except OSError as error:
        raise Unavailable(f"{path} is damaged and cannot be renamed: {error.strerror}") from error
    return aside


def _opened(path: Path, zone: ZoneInfo, since: float) -> Opened:
    store = HistoryStore(path, zone)
    try:
        return Opened(store, store.tracked(since), store.lifetimes(), store.memories())
    except StoreError:
        store.close()
        raise
