"""Where a database's ledger is kept, and what happens to one that does not read."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path

from tallykeep.errors import Corrupt
from tallykeep.systems.litellm.ledger import Ledger

_log = logging.getLogger(__name__)


def path_of(state: Path, database: str) -> Path:
    """The file of a database's ledger in the state directory."""
    return state / "litellm" / (re.sub(r"[^A-Za-z0-9._-]", "_", database) + ".sqlite")


def opened(state: Path | None, database: str) -> Ledger:
    """The ledger of a database; in memory where there is no state directory.

    A file that does not read is set aside under a dated name, never deleted, and counters begin anew.
    """
    if state is None:
        return Ledger(None)
    path = path_of(state, database)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return Ledger(path)
    except Corrupt as error:
        aside = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        path.rename(aside)
        for tail in ("-wal", "-shm"):
            path.with_name(path.name + tail).unlink(missing_ok=True)
        _log.error("%s; it was set aside as %s and counters begin anew", error, aside)
        return Ledger(path)
