"""The history of the families listed under `history: keep:`, at work beside `tallykeep run`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple

from tallykeep.clock import Clock
from tallykeep.history.settings import HistorySettings
from tallykeep.history.zone import zone_named
from tallykeep.runtime.board import Board
from tallykeep.runtime.state import StateDirectory
from tallykeep.runtime.work import Service

if TYPE_CHECKING:
    from tallykeep.history.service import History

FILE = "history.db"  # in the state directory


class Kept(NamedTuple):
    """What is at work, and what can be read."""

    services: Sequence[Service] = ()
    histories: Sequence[History] = ()


async def keep_families(
    stack: AsyncExitStack, settings: HistorySettings, board: Board, state: StateDirectory, clock: Clock
) -> Kept:
    """Keep what is listed until `stack` ends; nothing is opened where nothing is listed.

    Raises: ConfigError for a family that there is not.
    """
    if not settings.keep:
        return Kept()
    from tallykeep.history.keeper import Keeper, check_names
    from tallykeep.history.service import History

    check_names(settings.keep, board.catalogue)
    path = None if state.path is None else state.path / FILE
    zone = zone_named(settings.timezone, "history: timezone:")
    history = await History.open(path, zone=zone, clock=clock, retention=settings.retention)
    stack.push_async_callback(history.close)
    return Kept([history, Keeper(history, board, settings.keep, settings.interval, clock)], [history])
