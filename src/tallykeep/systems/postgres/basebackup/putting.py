"""A base backup out of a repository, into an empty folder: pack by pack, each read once, on several threads.

A folder that is not finished holds a marker with the id of its backup, and PostgreSQL does not start from it. Begun
again, chunks that are there already are proved by their hash and not fetched again. Memory: four packs, 16 MiB each.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tallykeep.errors import RestoreError
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.digest import check_digest
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.repository.files import BackupFile, Files
from tallykeep.systems.postgres.repository.pack import Pack
from tallykeep.systems.postgres.repository.repository import Repository

MARKER = "tallykeep.restoring"
_MAP = "tablespace_map"
_AT_ONCE = 4  # packs
Advance = Callable[[int], None]  # bytes more


class Piece(NamedTuple):
    """A chunk's place in a file."""

    path: Path
    offset: int


class Wanted(NamedTuple):
    """What of a pack is wanted, and where it goes: by the number of the chunk in it."""

    pack: Pack
    pieces: Mapping[int, Sequence[Piece]]


async def put(
    repository: Repository, entry: BackupEntry, target: Path, *, tablespaces: Mapping[int, Path] | None = None,
    advance: Advance = lambda _: None,
) -> Files:  # fmt: skip
    """Restore the files of a backup into `target`, which is empty, does not exist, or was left unfinished by this.

    `tablespaces`: new places by oid; each empty or absent too. Raises: RestoreError where something is in the way;
    IntegrityError; StoreErrors. When this returns everything is on disk, and the marker is gone.
    """
    files = await repository.files(entry)
    places = {space.oid: Path(space.location) for space in files.tablespaces} | dict(tablespaces or {})
    await in_thread(_prepare, entry, files, target, places)
    wanted = await in_thread(_wanted, repository, files, partial(_path, target, places), advance)
    gate = asyncio.Semaphore(_AT_ONCE)
    async with asyncio.TaskGroup() as group:
        for pack in wanted:
            group.create_task(_restore_pack(repository, pack, gate, advance))
    await in_thread(_finish, files, target, places, tablespaces or {})
    return files


def _path(target: Path, places: Mapping[int, Path], file: BackupFile) -> Path:
    """Where a file goes. Raises: RestoreError for a path that leads outside."""
    parts = file.path.split("/")
    if file.path.startswith("/") or ".." in parts:
        raise RestoreError(f"the backup holds a path that leads outside its folder: {file.path}")
    if len(parts) > 2 and parts[0] == "pg_tblspc" and int(parts[1]) in places:
        return places[int(parts[1])].joinpath(*parts[2:])
    return target.joinpath(*parts)


def _prepare(entry: BackupEntry, files: Files, target: Path, places: Mapping[int, Path]) -> None:
    """Make the folders, all or none of them begun before."""
    marker = target / MARKER
    begun = marker.exists() and marker.read_text() == entry.id
    for folder in (target, *places.values()):
        if folder.exists() and any(folder.iterdir()) and not begun:
            raise RestoreError(f"{folder} is not empty: restore into a new folder, or empty this one.")
    for folder in (target, *places.values()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    marker.write_text(entry.id)
    for file in files.files:
        path = _path(target, places, file)
        if file.kind == "directory":
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif file.kind == "file":
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("ab") as there:
                there.truncate(file.size)


def _wanted(repository: Repository, files: Files, path: Callable[[BackupFile], Path], advance: Advance) -> list[Wanted]:
    """What is not there yet, by pack."""
    by_pack: dict[str, dict[int, list[Piece]]] = defaultdict(lambda: defaultdict(list))
    packs: dict[str, Pack] = {}
    for file in files.files:
        place, offset = path(file), 0
        for id in file.chunks:
            pack, number = repository.place(id)
            size = pack.raw[number]
            if _is_there(repository, place, offset, size, id):
                advance(size)
            else:
                packs[pack.key] = pack
                by_pack[pack.key][number].append(Piece(place, offset))
            offset += size
    return [Wanted(packs[key], pieces) for key, pieces in by_pack.items()]


def _is_there(repository: Repository, path: Path, offset: int, size: int, id: bytes) -> bool:
    if path.stat().st_blocks == 0:  # nothing was written yet
        return False
    with path.open("rb") as there:
        data = os.pread(there.fileno(), size, offset)
    return len(data) == size and repository.frames.id_of(data) == id


async def _restore_pack(repository: Repository, wanted: Wanted, gate: asyncio.Semaphore, advance: Advance) -> None:
    name = f"{repository.store.name}/{wanted.pack.key}"
    async with gate:
        data = await repository.store.read(wanted.pack.key)
        await in_thread(_unpack, repository, wanted, data, name, advance)


def _unpack(repository: Repository, wanted: Wanted, data: bytes, name: str, advance: Advance) -> None:
    """Prove the pack and write its chunks to their places."""
    check_digest(name, data, wanted.pack.hash)
    view, offsets = memoryview(data), wanted.pack.offsets()
    for number, pieces in wanted.pieces.items():
        frame = view[offsets[number] : offsets[number + 1]]
        chunk = repository.frames.chunk(wanted.pack.id(number), frame, name)
        for piece in pieces:
            with piece.path.open("r+b") as there:
                os.pwrite(there.fileno(), chunk, piece.offset)
            advance(len(chunk))


def _finish(files: Files, target: Path, places: Mapping[int, Path], moved: Mapping[int, Path]) -> None:
    """Modes, tablespaces at their new places, everything flushed, and the marker gone at last."""
    if moved:
        lines = [f"{oid} {_escaped(place)}\n" for oid, place in places.items()]
        (target / _MAP).write_text("".join(lines))
    folders = set[Path]()
    for file in files.files:
        path = _path(target, places, file)
        if file.kind == "link":
            path.symlink_to(file.target)
            continue
        path.chmod(file.mode & 0o770)
        _flush(path)
        folders.update((path, path.parent) if file.kind == "directory" else (path.parent,))
    _flush_all(folders)
    (target / MARKER).unlink()
    _flush(target)


def _escaped(place: Path) -> str:
    """A line of tablespace_map ends where the path does: what could end it earlier is escaped."""
    return "".join(f"\\{character}" if character in "\n\r\\" else character for character in str(place))


def _flush_all(folders: Iterable[Path]) -> None:
    for folder in folders:
        _flush(folder)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
