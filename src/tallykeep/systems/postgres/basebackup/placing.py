"""Files of a restored backup in their folders: where each goes, and what is done before and after they are written.

A folder that is not finished holds a marker with the id of its backup. Recovery settings come last, and without them
PostgreSQL finds no WAL and does not start. Every call blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tallykeep.errors import RestoreError
from tallykeep.systems.postgres.basebackup.durable import make_durable
from tallykeep.systems.postgres.part import sync_folder
from tallykeep.systems.postgres.repository.files import BackupFile, Files

MARKER = "tallykeep.restoring"
MODE = 0o600  # of a file as it is made
_MAP = "tablespace_map"


class Owner(NamedTuple):
    """Who owns restored files."""

    user: int
    group: int


@dataclass(frozen=True, slots=True)
class Places:
    """Where a backup goes."""

    folder: Path
    tablespaces: Mapping[int, Path] = field(default_factory=dict)  # by oid
    moved: bool = False  # one of them at least is not where it was
    owner: Owner | None = None  # None: who restores
    settle: Callable[[], None] = lambda: None  # called when all files are durable, before the marker goes

    @property
    def folders(self) -> tuple[Path, ...]:
        """The data directory, and those outside it."""
        return (self.folder, *self.tablespaces.values())

    def path(self, file: BackupFile) -> str:
        """Where a file goes. Raises: RestoreError for a path that leads outside."""
        parts = file.path.split("/")
        if file.path.startswith("/") or ".." in parts:
            raise RestoreError(f"the backup holds a path that leads outside its folder: {file.path}")
        if len(parts) > 2 and parts[0] == "pg_tblspc" and parts[1].isdigit() and int(parts[1]) in self.tablespaces:
            return os.path.join(self.tablespaces[int(parts[1])], *parts[2:])  # noqa: PTH118 - a fifth of Path's time
        return os.path.join(self.folder, *parts)  # noqa: PTH118


def unfinished(folder: Path) -> str:
    """The id of the backup that a restore was begun with there and not ended; "" for none."""
    try:
        return (folder / MARKER).read_text()
    except OSError:
        return ""


def prepare(id: str, files: Files, places: Places) -> bool:
    """Make the folders; whether they were begun before. Raises: RestoreError.

    Files are made as they are written: on ext4 each new one costs 0.8 ms, which threads can share.
    """
    begun = unfinished(places.folder)
    for folder in places.folders:
        if begun != id and folder.exists() and any(folder.iterdir()):
            told = f"holds an unfinished restore of the backup {begun}" if begun else "is not empty"
            raise RestoreError(f"{folder} {told}: restore into a new folder, or empty this one.")
    try:
        for folder in places.folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        (places.folder / MARKER).write_text(id)
        for path in dict.fromkeys(_folder(file, places) for file in files.files):
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RestoreError(f"{error.filename or places.folder}: cannot be made: {error.strerror}.") from None
    return bool(begun)


def _folder(file: BackupFile, places: Places) -> str:
    path = places.path(file)
    return path if file.kind == "directory" else os.path.dirname(path)  # noqa: PTH120


def finish(files: Files, places: Places, *, begun: bool) -> None:
    """Sizes, modes, owners, tablespaces at their new places, everything durable, and the marker gone at last.

    Raises: RestoreError; what `settle` raises.
    """
    try:
        _finish(files, places, begun)
    except OSError as error:
        raise RestoreError(f"{error.filename or places.folder}: cannot be finished: {error.strerror}.") from None


def _finish(files: Files, places: Places, begun: bool) -> None:
    if places.moved:
        lines = [f"{oid} {_escaped(place)}\n" for oid, place in places.tablespaces.items()]
        (places.folder / _MAP).write_bytes(os.fsencode("".join(lines)))
    for file in files.files:
        path = Path(places.path(file))
        if file.kind == "link":
            path.unlink(missing_ok=True)
            path.symlink_to(file.target)
        elif begun or not file.size or file.mode & 0o770 != MODE:
            _complete(path, file)
        _own(path, places.owner)
    for folder in places.folders:
        _own(folder, places.owner)
    make_durable(places.folders)
    places.settle()
    (places.folder / MARKER).unlink()
    sync_folder(places.folder)


def _complete(path: Path, file: BackupFile) -> None:
    """What writing its chunks has not made of a file or directory."""
    if file.kind == "file":
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
        try:
            os.ftruncate(handle, file.size)
        finally:
            os.close(handle)
    path.chmod(file.mode & 0o770)


def _own(path: Path, owner: Owner | None) -> None:
    if owner is not None:
        os.chown(path, owner.user, owner.group, follow_symlinks=False)


def _escaped(place: Path) -> str:
    """A line of tablespace_map ends where the path does: what could end it earlier is escaped."""
    return "".join(f"\\{character}" if character in "\n\r\\" else character for character in str(place))
