"""The state directory: what outlives a restart, and the lock that keeps a second process out of it.

    lock      flock held while the process lives; holds its pid
    created   Unix seconds of the first use
    scratch/  temporary work, emptied at start
    NAME      one file an entry, replaced whole

Not a database: entries are small, and read and written whole. Methods block (a write is two fsyncs); call them
through `in_thread` from the event loop.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock

from tallykeep.errors import ConfigError, Denied, StoreError, Unavailable

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_RESERVED = frozenset({"lock", "created", "scratch"})
_ASIDE = ".new"


class StateDirectory:
    """Named entries that survive kill -9: each is the old bytes or the new ones, never a mixture."""

    def __init__(self, path: Path | None, created: float, lock: int | None) -> None:
        self.path = path
        self.created = created  # Unix seconds
        self._lock = lock  # descriptor that holds the flock
        self._memory: dict[str, bytes] = {}
        self._temporary: Path | None = None  # root of scratch folders while in memory
        self._writing = Lock()

    @property
    def persistent(self) -> bool:
        """Will a restart find what is written here?"""
        return self.path is not None

    @classmethod
    def open(cls, path: Path) -> StateDirectory:
        """The state in `path`, made when missing and locked for this process.

        Raises: ConfigError where another process holds it; Denied or Unavailable where it cannot be made or
        written.
        """
        path = path.absolute()
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = _locked(path)
        except OSError as error:
            raise _translated(error, path) from error
        try:
            _clean(path)
            return cls(path, _created(path), lock)
        except OSError as error:
            os.close(lock)
            raise _translated(error, path) from error

    @classmethod
    def in_memory(cls) -> StateDirectory:
        """A state that ends with the process, for watchers on a read-only file system."""
        return cls(None, time.time(), None)

    def read(self, name: str) -> bytes | None:
        """The bytes last written under `name`, or None."""
        _check(name)
        if self.path is None:
            return self._memory.get(name)
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _translated(error, self.path / name) from error

    def write(self, name: str, data: bytes) -> None:
        """Put `data` under `name`. Durable on return; after a failure or kill -9 the old bytes stand.

        Raises: Denied, Unavailable.
        """
        _check(name)
        if self.path is None:
            self._memory[name] = bytes(data)
            return
        try:
            with self._writing:
                _replace(self.path / name, data)
        except OSError as error:
            raise _translated(error, self.path / name) from error

    def scratch(self, name: str) -> Path:
        """A folder for temporary work. What an earlier process left in it is gone. Raises: Denied, Unavailable."""
        _check(name)
        try:
            folder = self._scratch() / name
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _translated(error, self.path or Path("the system's temporary folder")) from error
        return folder

    def _scratch(self) -> Path:
        """Root of the scratch folders."""
        if self.path is not None:
            return self.path / "scratch"
        if self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="tallykeep-"))
        return self._temporary

    def close(self) -> None:
        """Let the lock go. Idempotent."""
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _check(name: str) -> None:
    if not _NAME.fullmatch(name) or name in _RESERVED or name.endswith(_ASIDE):
        raise ValueError(f"{name!r} cannot name a state entry")


def _locked(path: Path) -> int:
    """Descriptor of the lock file, locked and with our pid in it."""
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise ConfigError(
            f"state directory {path} is in use by process {holder}: stop that process, "
            "or set TALLYKEEP_STATE_DIR to another folder"
        ) from None
    except OSError:
        os.close(lock)
        raise
    return lock


def _clean(path: Path) -> None:
    """Remove what a killed process left: scratch folders and half-written entries."""
    shutil.rmtree(path / "scratch", ignore_errors=True)
    for left in path.glob(f"*{_ASIDE}"):
        left.unlink(missing_ok=True)


def _created(path: Path) -> float:
    with suppress(FileNotFoundError, ValueError):
        return float((path / "created").read_text())
    now = time.time()
    _replace(path / "created", f"{now:.3f}\n".encode())
    return now


def _replace(path: Path, data: bytes) -> None:
    """Write aside, flush to disk, rename, flush the folder."""
    aside = path.with_name(path.name + _ASIDE)
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _translated(error: OSError, path: Path) -> StoreError:
    kind = Denied if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else Unavailable
    reason = error.strerror or str(error)
    return kind(f"state in {path} cannot be used: {reason}; set TALLYKEEP_STATE_DIR to a folder this user may write")
