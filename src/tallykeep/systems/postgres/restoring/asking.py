"""The server that asks for WAL. Where it is killed, what it has started goes on, and another may run there meanwhile.

The new one wants its own WAL under the same name: a file that the old one had asked for would be read in its place,
and taken for the end of WAL.
Source: PostgreSQL, src/backend/utils/init/miscinit.c (postmaster.pid); xlogarchive.c (RECOVERYXLOG).
"""

from __future__ import annotations

import os
from pathlib import Path

_FILE = "postmaster.pid"  # in the data directory, which is where restore_command runs


class Asking:
    """The server of the data directory, as it is now. Every call blocks."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder`: the data directory; the working one by default."""
        self._file = (folder or Path()) / _FILE
        self._pid = self._told()
        self._seen = _lives(self._pid)  # not from within a container, which has processes of its own

    @property
    def runs(self) -> bool:
        """Whether it has not ended, as far as can be seen, and no other one runs there."""
        return not self._pid or (self._told() == self._pid and (not self._seen or _lives(self._pid)))

    def _told(self) -> int:
        """0 where nobody says. A server without a postmaster writes its id with a minus."""
        try:
            return abs(int(self._file.read_text().splitlines()[0]))
        except (OSError, ValueError, IndexError):
            return 0


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
