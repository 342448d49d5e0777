"""Locks between the processes of one machine. The kernel lets go of them when their process dies.

Who holds one has it exclusively, who only looks has it shared, for as long as that takes. So looking is never taken
for holding: not by whoever else looks, nor by whoever wants it, who waits for that moment.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tallykeep.clock import Clock
from tallykeep.errors import ConfigError, Conflict
from tallykeep.storage.handing_over import hand_over

if TYPE_CHECKING:
    from tallykeep.systems.postgres.cluster import Cluster, Tier
    from tallykeep.systems.postgres.repository.repository import Repository

BACKUP = "backup.lock"
_POLL = 0.2  # seconds between two tries
_GLANCE = 0.001  # seconds between two tries while another process looks


def made(path: Path) -> int:
    """A lock's file, open, made where it is missing. Raises: OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    hand_over(file, path.parent)
    return file


def take(file: int) -> bool:
    """Hold the lock for as long as the file is open; false where another process does. Blocks while one looks."""
    while not _locked(file, fcntl.LOCK_EX):
        if not _locked(file, fcntl.LOCK_SH):
            return False
        fcntl.flock(file, fcntl.LOCK_UN)
        time.sleep(_GLANCE)
    return True


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock while the context lasts. Raises: Conflict where another process has it; ConfigError."""
    file = _open(path)
    try:
        if not take(file):
            raise Conflict(f"{path}: {what} by another process; wait for its end.")
        yield
    finally:
        os.close(file)


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Hold the lock while the context lasts, once whoever has it has let go. Blocks. Raises: ConfigError."""
    file = _open(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock now. Blocks."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _locked(file, fcntl.LOCK_SH)
    finally:
        os.close(file)


@asynccontextmanager
async def waited_for(path: Path, clock: Clock) -> AsyncIterator[None]:
    """Hold the lock while the context lasts, once whoever has it has let go. Raises: ConfigError."""
    file = _open(path)
    try:
        while not take(file):
            await clock.sleep(_POLL)
        yield
    finally:
        os.close(file)


@asynccontextmanager
async def writing(cluster: Cluster, tier: Tier, clock: Clock) -> AsyncIterator[Repository]:
    """A tier's repository, opened anew and this process's to write, one at a time on this machine.

    Writers elsewhere are fenced off by the chain. Raises: ConfigError; Fenced; IntegrityError; StoreErrors.
    """
    async with waited_for(cluster.folder / f"base-{tier.number}.lock", clock):
        repository = await tier.repository(clock)
        await repository.chain.take_over()
        yield repository


def _open(path: Path) -> int:
    try:
        return made(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be made: {error.strerror}; is the archive there?") from None


def _locked(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
