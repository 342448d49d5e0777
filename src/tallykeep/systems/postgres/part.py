"""One block file as it is written: appended to, made durable, finished. Used by one thread.

What was acknowledged is never cut off. After a failed write or sync everything behind the last durable block is cut,
since nobody knows what the disk has of it, and the file is done with: the rest is streamed again into a new part.
Source: fsync(2); PostgreSQL, "fsyncgate": after a failed fsync a second one proves nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tallykeep.errors import Unavailable
from tallykeep.systems.postgres.blocks import Encoder, Header
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.lsn import LSN


class Part:
    """A file that is appended to."""

    def __init__(self, path: Path, header: Header, cipher: Cipher | None) -> None:
        """Make the file. Raises: Unavailable."""
        self.path = path
        self.header = header
        self.end = header.start  # of what was written
        self.durable = header.start
        self.size = 0  # bytes written
        self._durable_size = 0
        self._named = False  # the folder knows the file, durably
        self._encoder = Encoder(header, cipher)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unavailable(path, error) from None
        self._write(self._encoder.header)

    def append(self, data: bytes) -> int:
        """Write one block of WAL that goes on from `end`; bytes of the file it took. Raises: Unavailable."""
        block = self._encoder.block(self.end, data)
        self._write(block)
        self.end = LSN(self.end + len(data))
        return len(block)

    def sync(self) -> None:
        """Make everything that was written durable. Raises: Unavailable, and then the part is closed."""
        if self._durable_size == self.size:
            return
        try:
            os.fdatasync(self._file)  # the size of the file as well, as it is needed to read it
            if not self._named:
                sync_folder(self.path.parent)
                sync_folder(self.path.parent.parent)
        except OSError as error:
            self._fail()
            raise unavailable(self.path, error) from None
        self._named = True
        self.durable, self._durable_size = self.end, self.size

    def finish(self, name: str) -> None:
        """Write the end block, make all durable, and give the file its final name. Raises: Unavailable."""
        self._write(self._encoder.end(self.end))
        self.sync()
        self.close()
        publish(self.path, name)

    def close(self) -> None:
        """Idempotent. Nothing is written."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            self._fail()
            raise unavailable(self.path, error) from None
        self.size += len(data)

    def _fail(self) -> None:
        with suppress(OSError):
            os.ftruncate(self._file, self._durable_size)
        self.close()
        if not self._durable_size:
            with suppress(OSError):
                self.path.unlink()


def publish(path: Path, name: str) -> None:
    """Give a durable file its final name, durably. Raises: Unavailable."""
    try:
        path.rename(path.with_name(name))
        sync_folder(path.parent)
    except OSError as error:
        raise unavailable(path, error) from None


def write_file(path: Path, data: bytes) -> None:
    """Make a small file, durable and whole or not at all. Raises: Unavailable."""
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unavailable(path, error) from None
    publish(new, path.name)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises: OSError."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def unavailable(path: Path, error: OSError) -> Unavailable:
    """What to raise where the disk does not do as asked."""
    return Unavailable(f"{path}: {error.strerror}. Nothing that was acknowledged is lost; WAL stays on the primary "
                       "until this is mended: free space, or mend the disk.")  # fmt: skip
