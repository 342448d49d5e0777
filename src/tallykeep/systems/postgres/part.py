"""One block file as it is written: appended to, made durable, finished. Used by one thread.

What was acknowledged is never cut off. After a failed write or sync everything behind the last durable block is cut,
since nobody knows what the disk has of it, and the file is done with: the rest is streamed again into a new part.

Behind small blocks zeros are written, as room for the next ones: a sync that changes no size waits for no journal of
the file system (ext4: 180 us instead of 260).
Source: fsync(2); PostgreSQL, "fsyncgate": after a failed fsync a second one proves nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tallykeep.errors import Unavailable
from tallykeep.runtime.tracing import tracer
from tallykeep.storage.handing_over import hand_over, make_folders
from tallykeep.systems.postgres.blocks import Encoder, Header
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.lsn import LSN

ROOM = 256 << 10  # bytes of zeros, made once they are used up
_SMALL = 64 << 10  # bytes of a block that is written into room
_tracer = tracer("klio.wal")


class Part:
    """A file that is appended to."""

    def __init__(
        self, path: Path, header: Header, cipher: Cipher | None, stored: Callable[[int], None] = lambda _: None
    ) -> None:  # fmt: skip
        """Make the file; `stored` is told the size of each block that was written. Raises: Unavailable."""
        self.path = path
        self.header = header
        self.end = header.start  # of what was appended
        self.durable = header.start
        self.size = 0  # bytes written
        self._durable_size = 0
        self._room = 0  # where zeros end
        self._named = False  # the folder knows the file, durably
        self._stored = stored
        self._labels = {"wal_name": header.segment.name}
        self._encoder = Encoder(header, cipher)
        try:
            make_folders(path.parent)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            hand_over(self._file, path.parent)
        except OSError as error:
            raise unavailable(path, error) from None
        self._write(self._encoder.header)

    def append(self, data: bytes) -> None:
        """Write one block of WAL that goes on from `end`. Raises: Unavailable."""
        with _tracer.span("write_block", self._labels):
            block = self._encoder.block(self.end, data)
            self._write(block)
        self.end = LSN(self.end + len(data))
        self._stored(len(block))
        if self.size > self._room and len(block) <= _SMALL:
            self._make_room()

    def sync(self) -> None:
        """Make everything that was appended durable. Raises: Unavailable, and then the part is closed."""
        if self._durable_size == self.size:
            return
        with _tracer.span("flush_block", self._labels):
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
        self._trim()
        self._write(self._encoder.end(self.end))
        self.sync()
        self.close()
        publish(self.path, name)

    def close(self) -> None:
        """Idempotent. Nothing more is written."""
        if self._file >= 0:
            with suppress(Unavailable):
                self._trim()
            os.close(self._file)
            self._file = -1

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:] if written else data)
        except OSError as error:
            self._fail()
            raise unavailable(self.path, error) from None
        self.size += len(data)

    def _make_room(self) -> None:
        """Zeros behind what is written. On a full disk there are none, and nothing is the worse for it."""
        try:
            self._room = self.size + os.pwrite(self._file, bytes(ROOM), self.size)
        except OSError:
            self._room = 0

    def _trim(self) -> None:
        """Cut off room."""
        if self._room <= self.size:
            return
        try:
            os.ftruncate(self._file, self.size)
        except OSError as error:
            raise unavailable(self.path, error) from None
        self._room = 0

    def _fail(self) -> None:
        with suppress(OSError):
            os.ftruncate(self._file, self._durable_size)
            self._room = 0
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
        make_folders(path.parent)
        with new.open("wb") as file:
            hand_over(file.fileno(), path.parent)
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
