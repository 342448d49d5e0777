"""A database file in the making: written aside, page by page, and given its name only when it is complete.

The newest file of a plan is applied first, so its header says at once how large the image will be, every page is
written once, and pages that a shrunken database no longer has are never written. One byte a page remembers what
is there: 13 MB for a database of 50 GB in pages of 4 KiB.

The file beside the target (`<target>.tallykeep-partial`) is locked while it is worked on, used again by the next
attempt if a crash left it there, and removed on any failure. The lock page and nothing else is left zero.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tallykeep.errors import RestoreError
from tallykeep.systems.litestream.ltx.header import lock_page
from tallykeep.systems.litestream.ltx.page import Page
from tallykeep.systems.litestream.ltx.pageset import PageSet
from tallykeep.units import format_bytes

PARTIAL = ".tallykeep-partial"
SIDECARS = ("-wal", "-shm", "-journal")  # SQLite would apply an old one to the new database
_MOST_BUFFERS = 512  # pages written by one call; the system's limit is 1024


class CannotWrite(RestoreError):
    """The machine is at fault, not the replica: no room, no permission, or something in the way."""

    code = "cannot_write"


class Image:
    """The file that a restore writes. `publish` or `discard` it in the end."""

    page_size = 0  # bytes; 0 until `prepare`
    commit = 0  # pages

    def __init__(self, target: Path, *, overwrite: bool = False) -> None:
        """Lock the file beside `target`. Raises: CannotWrite where one of them is in the way."""
        self.target = target
        self._overwrite = overwrite
        self.partial = target.with_name(target.name + PARTIAL)
        self._refuse_existing()
        with _explained(self.partial):
            self._file = _open_locked(self.partial)
        self._written = bytearray()  # by page number

    def prepare(self, page_size: int, commit: int) -> None:
        """Give the file its size. Raises: CannotWrite where the disk has not that much free space."""
        size = page_size * commit
        with _explained(self.partial):
            os.ftruncate(self._file, 0)
            disk = os.fstatvfs(self._file)
            free = disk.f_bavail * disk.f_frsize
            if size > free:
                raise CannotWrite(
                    f"the restored database takes {format_bytes(size)}, but only {format_bytes(free)} are free in"
                    f" {self.target.parent}: restore to a larger disk, or make room"
                )
            os.ftruncate(self._file, size)
        self.page_size, self.commit = page_size, commit
        self._written = bytearray(commit + 1)
        self._written[0] = 1
        if (lock := lock_page(page_size)) <= commit:
            self._written[lock] = 1

    def write(self, pages: Sequence[Page]) -> None:
        """Write the pages, ascending by number, that are not there yet; those beyond the end are left out."""
        written, commit, following = self._written, self.commit, 0
        run: list[bytes] = []
        for number, page in pages:
            if number > commit:
                break
            if written[number]:
                continue
            if number != following or len(run) == _MOST_BUFFERS:
                self._write_run(following, run)
                run = []
            run.append(page)
            written[number] = 1
            following = number + 1
        self._write_run(following, run)

    def missing(self) -> PageSet:
        """The pages that nothing has brought."""
        return PageSet(self._holes())

    def publish(self, *, durable: bool = True) -> None:
        """Give the file its name; `durable`: after it is safe on the disk. Old SQLite sidecar files go first.

        Raises: CannotWrite.
        """
        self._refuse_existing()
        with _explained(self.target):
            if durable:
                os.fsync(self._file)
            for suffix in SIDECARS:
                self.target.with_name(self.target.name + suffix).unlink(missing_ok=True)
            self.partial.replace(self.target)
            if durable:
                _sync_folder(self.target.parent)
        os.close(self._file)

    def discard(self) -> None:
        """Leave nothing behind."""
        self.partial.unlink(missing_ok=True)
        os.close(self._file)

    def _refuse_existing(self) -> None:
        for suffix in () if self._overwrite else ("", *SIDECARS):
            path = self.target.with_name(self.target.name + suffix)
            if path.exists():
                raise CannotWrite(f"{path} is there already: remove it, or restore elsewhere")

    def _write_run(self, following: int, run: list[bytes]) -> None:
        if not run:
            return
        offset = (following - len(run) - 1) * self.page_size
        with _explained(self.partial):
            done = os.pwritev(self._file, run, offset)
            if done < len(run) * self.page_size:
                rest = memoryview(b"".join(run))
                while done < len(rest):
                    done += os.pwrite(self._file, rest[done:], offset + done)

    def _holes(self) -> Iterator[tuple[int, int]]:
        first = self._written.find(0)
        while first != -1:
            end = self._written.find(1, first)
            yield first, (end if end != -1 else len(self._written)) - 1
            first = self._written.find(0, end) if end != -1 else -1


def _open_locked(path: Path) -> int:
    """A descriptor of the file at `path`, which no other process works on. Raises: OSError."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _lock(file)
            if _is_at(file, path):
                return file
        except OSError:
            os.close(file)
            raise
        os.close(file)  # another restore has just given this file its name, or removed it


def _lock(file: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):  # a file system without locks
            raise


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Tell what the system refuses, and of which file."""
    try:
        yield
    except BlockingIOError:
        raise CannotWrite(f"{path} is locked: another restore writes it; wait for it, or restore elsewhere") from None
    except OSError as error:
        advice = ": make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise CannotWrite(f"cannot write {path}: {error.strerror}{advice}") from error
