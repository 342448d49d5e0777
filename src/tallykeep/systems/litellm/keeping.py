"""Where a database's ledger is kept, and when one is set aside.

A ledger that does not read, and one of another database, is set aside under a dated name and never deleted;
counters then begin anew. A database that was moved (restored from a dump, upgraded, renamed) is known by its rows:
the newest hours the ledger has seen stand in it as they were.
"""

from __future__ import annotations

import logging
import re
import time
from hashlib import sha256
from pathlib import Path

from tallykeep.errors import Corrupt, Denied, Unavailable
from tallykeep.systems.litellm.cells import Check
from tallykeep.systems.litellm.ledger import Ledger
from tallykeep.systems.litellm.tally import HOUR, Tally

IDENTITY = "database"  # in a ledger's meta
HOURS = 6  # the newest hours with rows that are looked at

_log = logging.getLogger(__name__)


def path_of(state: Path, database: str) -> Path:
    """The file of a database's ledger in the state directory."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", database)
    if plain != database:  # "a b" and "a_b" are two
        plain += "-" + sha256(database.encode()).hexdigest()[:8]
    return state / "litellm" / f"{plain}.sqlite"


def opened(state: Path | None, database: str) -> Ledger:
    """The ledger of a database; in memory where there is no state directory.

    Raises: Unavailable, Denied where its file can be neither read nor made.
    """
    if state is None:
        return Ledger(None)
    path = path_of(state, database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise Denied(f"{path.parent} cannot be made: {error.strerror}") from error
    except OSError as error:
        raise Unavailable(f"{path.parent} cannot be made: {error.strerror}") from error
    try:
        return Ledger(path)
    except Corrupt as error:
        set_aside(path, "corrupt", str(error))
        return Ledger(path)


def set_aside(path: Path, why: str, message: str) -> None:
    """Put a closed ledger's file under another name. Raises: Unavailable."""
    aside = path.with_name(f"{path.name}.{why}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    try:
        path.rename(aside)
        for tail in ("-wal", "-shm"):
            path.with_name(path.name + tail).unlink(missing_ok=True)
    except OSError as error:
        raise Unavailable(f"{path} cannot be set aside: {error.strerror}") from error
    _log.error("%s; the ledger was set aside as %s and counters begin anew", message, aside)


def newest_hours(tally: Tally) -> dict[int, Check]:
    """Fingerprints of the newest sealed hours that have rows, by their start."""
    found: dict[int, Check] = {}
    for start, stop in reversed(tally.sealed()):
        for hour in reversed(range(start, stop, HOUR)):
            check = tally.check(start, (hour - start) // HOUR)
            if check.rows:
                found[hour] = check
            if len(found) == HOURS:
                return found
    return found
