"""A base backup into a repository: files cut into chunks as they come, none of them ever whole in memory."""

from __future__ import annotations

from collections.abc import Callable
from tarfile import TarInfo
from typing import NamedTuple

from tallykeep.systems.postgres.basebackup.protocol import Archive, BaseBackup, Begun, Manifest
from tallykeep.systems.postgres.basebackup.tar import TarReader
from tallykeep.systems.postgres.repository.chunk import SIZE
from tallykeep.systems.postgres.repository.files import BackupFile, Files, Kind, Tablespace
from tallykeep.systems.postgres.repository.filling import Filler

MANIFEST = "backup_manifest"
_MODE = 0o600
Advance = Callable[[int], None]  # bytes more


class Taken(NamedTuple):
    """What was received: everything but the manifest's record of it."""

    begun: Begun
    stop_lsn: str
    files: Files

    @property
    def raw(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.files)

    def count(self, kind: Kind) -> int:
        """How many files, directories or links there are."""
        return sum(file.kind == kind for file in self.files.files)


def take(source: BaseBackup, label: str, filler: Filler, begun: Callable[[Begun], None], advance: Advance) -> Taken:
    """Receive a base backup into `filler`. Returns when its last chunk is durable. Blocks for as long as that takes.

    `begun` is told what comes. Raises: SourceErrors; what storing raises.
    """
    start = source.begin(label)
    begun(start)
    cutter = _Cutter(filler, advance)
    reader: TarReader | None = None
    for message in source.messages():
        if isinstance(message, Archive):
            _close(reader)
            cutter.prefix = f"pg_tblspc/{message.oid}/" if message.oid else ""
            reader = TarReader(cutter)
        elif isinstance(message, Manifest):
            _close(reader)
            reader = None
            cutter.open(BackupFile(MANIFEST, "file", _MODE, 0))
        elif reader is not None:
            reader.feed(message)
        else:
            cutter.data(message)
    cutter.end()
    stop, _ = source.end()
    filler.finish()
    spaces = [Tablespace(space.oid, space.location) for space in start.spaces if space.oid]
    return Taken(start, stop, Files(cutter.files, spaces))


def _close(reader: TarReader | None) -> None:
    if reader is not None:
        reader.close()


class _Cutter:
    """Cuts files into chunks. Each piece is copied once, to its place in the chunk."""

    def __init__(self, filler: Filler, advance: Advance) -> None:
        self.prefix = ""
        self.files: list[BackupFile] = []
        self._filler = filler
        self._advance = advance
        self._chunk = memoryview(filler.room())
        self._held = 0  # bytes of the chunk

    def begin(self, member: TarInfo) -> None:
        name = member.name.removeprefix("./").rstrip("/")
        kind: Kind = "directory" if member.isdir() else "link" if member.issym() else "file"
        self.open(BackupFile(self.prefix + name, kind, member.mode & 0o7777, int(member.mtime), 0, member.linkname))

    def open(self, file: BackupFile) -> None:
        """What follows belongs to `file`."""
        self.files.append(file)

    def data(self, data: memoryview) -> None:
        held, size = self._held, len(data)
        if held + size >= SIZE:
            data = self._full(data)
            held = 0
        self._chunk[held : held + len(data)] = data
        self._held = held + len(data)
        self.files[-1].size += size

    def end(self) -> None:
        if self._held:
            self._cut()

    def _full(self, data: memoryview) -> memoryview:
        """Cut as many chunks as can be filled; what is left."""
        while self._held + len(data) >= SIZE:
            room = SIZE - self._held
            self._chunk[self._held :] = data[:room]
            self._held, data = SIZE, data[room:]
            self._cut()
        return data

    def _cut(self) -> None:
        self._filler.put(self._chunk[: self._held], self.files[-1].chunks)
        self._advance(self._held)
        self._chunk, self._held = memoryview(self._filler.room()), 0
