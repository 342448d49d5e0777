"""The folder of one throw-away server: made for it, handed to the user who runs PostgreSQL, and gone afterwards.

    <scratch>/<cluster>/scratch.lock        held while a folder is made, and while those of the dead are removed
    <scratch>/<cluster>/drill.lock          held while a drill of the cluster goes on
    <scratch>/<cluster>/drill-<8 hex>/      of a drill; open-<8 hex>/ of an open server
    <scratch>/<cluster>/drill-<8 hex>-over  one that is being removed
    <scratch>/<cluster>/drill-<8 hex>/lock  held as long as it is in use: where nobody holds it, whoever did is dead
    <scratch>/<cluster>/kept-<8 hex>/       what --keep has left: never removed here

PostgreSQL does not run as root: there it runs as another user, who must be able to reach the folder. A Unix socket's
path has 107 bytes at most: where the folder's is longer, the socket is in a temporary folder, whose name stands in
`elsewhere`, for whoever has to clear up. Every call blocks.
Source: unix(7).
"""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from tallykeep.errors import ConfigError
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.handing_over import make_folders
from tallykeep.systems.postgres import locks
from tallykeep.systems.postgres.settings import PostgresSettings
from tallykeep.systems.postgres.throwaway.ended import Ended
from tallykeep.units import format_bytes

LOCK, MAKING, IN_USE = "drill.lock", "scratch.lock", "lock"
DRILL, OPEN, KEPT = "drill", "open", "kept"  # what a folder is for
_SOCKET = ".s.PGSQL.65535"
_LONGEST = 107  # bytes of a socket's path
_ELSEWHERE = "elsewhere"
_PATIENCE = 30.0  # seconds that what works in a folder is waited for: a dead disk lets go of nothing
_MORE = 512 << 20  # bytes that recovery needs besides the backup: WAL, temporary files


@dataclass(frozen=True, slots=True)
class Owner:
    """Who runs PostgreSQL; nobody else than this process where it is not root."""

    name: str
    uid: int
    gid: int

    @classmethod
    def of(cls, user: str) -> Owner | None:
        """None where this process runs it itself. Raises: ConfigError."""
        if os.geteuid() != 0:
            return None
        try:
            found = pwd.getpwnam(user)
        except KeyError:
            raise ConfigError(f"postgres: drill.user: there is no user {user!r} on this machine") from None
        if found.pw_uid == 0:
            raise ConfigError(f"postgres: drill.user: PostgreSQL does not run as {user!r}: name another user")
        return cls(user, found.pw_uid, found.pw_gid)


@dataclass(frozen=True, slots=True)
class Scratch:
    """The folder of one server."""

    folder: Path
    sockets: Path
    owner: Owner | None

    @property
    def data(self) -> Path:
        """The restored data directory."""
        return self.folder / "data"

    @property
    def wal(self) -> Path:
        """Where WAL is handed over."""
        return self.folder / "wal"

    @property
    def log(self) -> Path:
        """What PostgreSQL says."""
        return self.folder / "postgres.log"

    def tablespace(self, oid: int) -> Path:
        """Where a tablespace is restored to."""
        return self.folder / f"tablespace-{oid}"

    def give(self, *paths: Path) -> None:
        """Make PostgreSQL's user the owner."""
        if self.owner is not None:
            for path in paths:
                os.chown(path, self.owner.uid, self.owner.gid, follow_symlinks=False)


def parent_of(cluster: str, settings: PostgresSettings) -> Path:
    """The folder below which all of a cluster's are."""
    return (settings.drill.scratch or settings.archive / "scratch").absolute() / cluster


@contextmanager
def scratch(parent: Path, owner: Owner | None, kind: str) -> Iterator[Scratch]:
    """A folder below `parent` for as long as the context lasts; what the dead have left is removed first.

    Raises: ConfigError; Ended.
    """
    make(parent)
    with ExitStack() as stack:
        with locks.in_turn(parent / MAKING):
            clear(parent)
            folder = parent / f"{kind}-{secrets.token_hex(4)}"
            folder.mkdir()
            stack.callback(remove, folder, files=kind != KEPT)
            stack.enter_context(locks.exclusive(folder / IN_USE, "it is used"))
        yield _made(folder, owner)


@asynccontextmanager
async def entered(context: AbstractContextManager[Scratch], threads: Iterable[Thread] = ()) -> AsyncIterator[Scratch]:
    """The same for the event loop: made and removed in threads, and removed too where nobody waits any more.

    `threads`: those that work in it. A caller who is cancelled, or runs out of time, leaves them behind, restoring on:
    their end is waited for.
    """
    entering = asyncio.ensure_future(in_thread(context.__enter__))
    try:
        yield await asyncio.shield(entering)
    finally:
        await asyncio.wait((entering,))
        await in_thread(_wait_for, list(threads))
        if entering.exception() is None:
            await in_thread(context.__exit__, None, None, None)


def _wait_for(threads: Iterable[Thread]) -> None:
    deadline = time.monotonic() + _PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def make(folder: Path) -> None:
    """Make a folder that others may pass through. Raises: ConfigError."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        make_folders(folder)
        for each in missing:
            each.chmod(0o711)
    except OSError as error:
        raise ConfigError(f"{folder}: nothing can be restored there: {error.strerror}; give drill.scratch.") from None


def clear(parent: Path) -> None:
    """Remove what those have left who died. The lock for that is held."""
    for kind in (DRILL, OPEN):
        for folder in parent.glob(f"{kind}-*"):
            if not locks.is_held(folder / IN_USE):
                remove(folder)


def remove(folder: Path, *, files: bool = True) -> None:
    """Remove a folder, and its sockets where these are elsewhere; without `files` the sockets alone.

    It gets another name first: a script of a server that has just ended may still add to it under its own.
    """
    elsewhere = folder / _ELSEWHERE
    if elsewhere.exists():
        other = Path(elsewhere.read_text())
        if other.name.startswith("tallykeep-"):
            shutil.rmtree(other, ignore_errors=True)
    if files:
        with suppress(OSError):
            folder = folder.rename(folder.with_name(f"{folder.name}-over"))
        shutil.rmtree(folder, ignore_errors=True)


def check_room(place: Scratch, size: int) -> None:
    """See that `size` bytes of base backup find room. Raises: Ended, inconclusive."""
    free, wanted = shutil.disk_usage(place.folder).free, size + size // 10 + _MORE
    if free < wanted:
        raise Ended(
            "inconclusive",
            f"{place.folder.parent}: {format_bytes(free)} are free, and the backup takes {format_bytes(wanted)} with "
            "its WAL: make room, or give another folder as drill.scratch.",
        )


def _made(folder: Path, owner: Owner | None) -> Scratch:
    """What is in it at first. Raises: Ended."""
    folder.chmod(0o711)
    place = Scratch(folder, _sockets(folder), owner)
    for each in (place.data, place.wal, place.sockets):
        each.mkdir(exist_ok=True, mode=0o700)
    place.give(place.data, place.wal, place.sockets)
    if owner is not None:
        _check_reach(folder, owner)
    return place


def _sockets(folder: Path) -> Path:
    if len(os.fsencode(folder / "s" / _SOCKET)) <= _LONGEST:
        return folder / "s"
    elsewhere = Path(tempfile.mkdtemp(prefix="tallykeep-"))
    (folder / _ELSEWHERE).write_text(str(elsewhere))
    return elsewhere


def _check_reach(folder: Path, owner: Owner) -> None:
    """Raises: Ended, inconclusive, where the user cannot pass."""
    for each in folder.resolve().parents:
        found = each.stat()
        mode = stat.S_IMODE(found.st_mode)
        passes = mode & stat.S_IXOTH or (found.st_uid == owner.uid and mode & stat.S_IXUSR)
        if not passes:
            raise Ended(
                "inconclusive",
                f"PostgreSQL does not run as root, and {owner.name} cannot enter {each}: chmod o+x it, or give another "
                "folder as drill.scratch, or another user as drill.user.",
            )
