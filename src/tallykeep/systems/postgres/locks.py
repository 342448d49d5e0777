"""Locks between the processes of one machine. The kernel lets go of them when their process dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tallykeep.clock import Clock
from tallykeep.errors import ConfigError, Conflict
from tallykeep.systems.postgres.cluster import Cluster, Tier
from tallykeep.systems.postgres.repository.repository import Repository

BACKUP = "backup.lock"
_POLL = 0.2  # seconds between two tries
_GLANCES, _GLANCE = 5, 0.02  # tries, and seconds: `is_held` has a lock for as long as it looks


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock while the context lasts. Raises: Conflict where another process has it; ConfigError."""
    file = _open(path)
    try:
        if not _taken_soon(file):
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
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


@asynccontextmanager
async def waited_for(path: Path, clock: Clock) -> AsyncIterator[None]:
    """Hold the lock while the context lasts, once whoever has it has let go. Raises: ConfigError."""
    file = _open(path)
    try:
        while not _taken(file):
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
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be made: {error.strerror}; is the archive there?") from None


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _taken_soon(file: int) -> bool:
    for _ in range(_GLANCES):
        if _taken(file):
            return True
        time.sleep(_GLANCE)
    return False
