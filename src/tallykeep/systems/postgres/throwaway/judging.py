"""What an error on the way to a throw-away server says of the backup: that it is wanting, or nothing.

It has failed only where the backup, its WAL or its key has been shown to be at fault. What the machine lacks, or
storage that does not answer, leaves that open.
"""

from __future__ import annotations

import errno
import re
import subprocess

from tallykeep.errors import (
    ConfigError,
    Corrupt,
    IntegrityError,
    Malformed,
    NotFound,
    RestoreError,
    TallykeepError,
)
from tallykeep.runtime.telling import printable
from tallykeep.systems.postgres.throwaway.ended import Ended, Outcome

_AT_FAULT = (IntegrityError, Corrupt, NotFound, Malformed, ConfigError, RestoreError)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_SERIOUS = re.compile(r"^(?:FATAL|PANIC):\s+(.*)$", re.MULTILINE)
_MACHINE = re.compile(  # what PostgreSQL says where the machine is at fault, or how it was set up
    r"No space left on device|Disk quota exceeded|[Oo]ut of memory|Cannot allocate memory|could not map|shared memory"
    r"|semaphores|Permission denied|Operation not permitted|Too many open files|could not create lock file"
    r"|could not access file|could not load library|configuration|invalid value for parameter|could not bind"
    r"|could not create any TCP|Unix.domain socket|the database system is|administrator command|could not restore file"
    r"|number of prepared transactions|incompatible with server|resource manager with ID \d+ not registered|locale"
)


def judged(error: BaseException) -> Ended:
    """How it ends with an error."""
    if isinstance(error, BaseExceptionGroup):
        return judged(error.exceptions[0])
    if isinstance(error, Ended):
        return error
    if isinstance(error, TallykeepError):
        return Ended("failed" if isinstance(error, _AT_FAULT) else "inconclusive", str(error))
    if isinstance(error, subprocess.SubprocessError):
        return Ended("inconclusive", f"a program of PostgreSQL did not end: {error}")
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        more = "; make room, or give another folder as drill.scratch" if error.errno in _FULL else ""
        return Ended("inconclusive", f"{where}{error.strerror or error}{more}.")
    raise error


def raised(error: BaseException) -> TallykeepError:
    """The same as an error of a command that cannot do what it was asked to."""
    if isinstance(error, BaseExceptionGroup):
        return raised(error.exceptions[0])
    return error if isinstance(error, TallykeepError) else RestoreError(printable(str(judged(error))))


def stopped(log: str, status: int | None) -> Ended:
    """Why the restored server has ended, by its log."""
    found = _SERIOUS.findall(log)
    if not found:
        last = next((line for line in reversed(log.splitlines()) if line.strip()), "it said nothing")
        return Ended("inconclusive", f"PostgreSQL ended with status {status}: {last}")
    serious = next((line for line in found if _MACHINE.search(line)), found[0])
    outcome: Outcome = "inconclusive" if _MACHINE.search(serious) else "failed"
    return Ended(outcome, f"PostgreSQL could not recover: {serious}")
