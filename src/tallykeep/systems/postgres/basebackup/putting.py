"""A base backup out of a repository, into an empty folder.

A folder that is not finished holds a marker with the id of its backup, and PostgreSQL does not start from it. Begun
again, chunks that are there already are proved and not fetched again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tallykeep.errors import IntegrityError, RestoreError, StoreError
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.basebackup.fetching import Advance, Piece, Source, Wanted, fetch
from tallykeep.systems.postgres.basebackup.placing import MARKER, Owner, Places, finish, prepare, unfinished
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.repository.files import BackupFile, Files
from tallykeep.systems.postgres.repository.pack import Pack
from tallykeep.systems.postgres.repository.repository import Repository

__all__ = ["MARKER", "Advance", "Owner", "files_of", "put", "unfinished"]
_log = logging.getLogger(__name__)


async def put(
    repository: Repository, entry: BackupEntry, target: Path, *, tablespaces: Mapping[int, Path] | None = None,
    others: Sequence[Repository] = (), owner: Owner | None = None, advance: Advance = lambda _: None,
    settle: Callable[[], None] = lambda: None,
) -> Files:  # fmt: skip
    """Restore the files of a backup into `target`, which is empty, does not exist, or was left unfinished by this.

    `tablespaces`: new places by oid; each empty or absent too. `others` may hold the same chunks, for those that this
    repository has lost. `settle` is called in a thread when all files are durable, before the restore counts as
    finished. Raises: RestoreError where something is in the way; IntegrityError; StoreErrors. When this returns
    everything is on disk, and the marker is gone.
    """
    files = _with_places(await files_of(repository, entry, others))
    spaces = _spaces(files, tablespaces or {})
    places = Places(target, spaces, bool(tablespaces), owner, settle)
    begun = await in_thread(prepare, entry.id, files, places)
    wanted = await in_thread(_wanted, repository, files, places.path, advance if begun else None)
    await fetch(Source(repository, others), wanted, advance)
    await in_thread(finish, files, places, begun=begun)
    return files


async def files_of(repository: Repository, entry: BackupEntry, others: Sequence[Repository]) -> Files:
    """The list of files, from the first that has it whole. Raises: of several errors the first."""
    try:
        return await repository.files(entry)
    except (IntegrityError, StoreError) as error:
        for other in others:
            if entry.id in other.backups:
                _log.warning("%s: the list of files comes from there instead: %s", other.store.name, error)
                with suppress(IntegrityError, StoreError):
                    return await other.files(other.backups[entry.id])
        raise


def _with_places(files: Files) -> Files:
    """With the folders of tablespaces that lie in the data directory: PostgreSQL sends only what is in them."""
    there = {file.path for file in files.files}
    inside = [space.location for space in files.tablespaces if not Path(space.location).is_absolute()]
    made = [BackupFile(path, "directory", 0o700, 0) for path in inside if path not in there]
    return Files([*made, *files.files], files.tablespaces)


def _spaces(files: Files, moved: Mapping[int, Path]) -> dict[int, Path]:
    """Where tablespaces go; one in the data directory stays there. Raises: RestoreError for one that is none."""
    spaces = {space.oid: Path(space.location) for space in files.tablespaces}
    for oid in moved:
        if oid not in spaces:
            held = ", ".join(map(str, spaces)) or "none"
            raise RestoreError(f"The backup holds no tablespace {oid}; it holds {held}.")
    return {oid: moved.get(oid, place) for oid, place in spaces.items() if place.is_absolute()}


def _wanted(
    repository: Repository, files: Files, path: Callable[[BackupFile], str], there: Advance | None
) -> list[Wanted]:
    """What is not there yet, by pack; `there` is told of what is, and is None where nothing is."""
    by_pack: dict[str, dict[int, Sequence[Piece]]] = {}
    packs: dict[str, Pack] = {}
    for file in files.files:
        place, offset = path(file), 0
        written = there is not None and bool(file.chunks) and _holds_any(place)
        for id in file.chunks:
            pack, number = repository.place(id)
            size = pack.raw[number]
            if written and there is not None and _is_there(repository, place, offset, size, id):
                there(size)
            else:
                packs[pack.key] = pack
                pieces = by_pack.setdefault(pack.key, {})
                pieces[number] = (*pieces.get(number, ()), Piece(place, offset))
            offset += size
    return [Wanted(packs[key], pieces) for key, pieces in by_pack.items()]


def _holds_any(path: str) -> bool:
    try:
        return Path(path).stat().st_blocks > 0
    except FileNotFoundError:
        return False


def _is_there(repository: Repository, path: str, offset: int, size: int, id: bytes) -> bool:
    with open(path, "rb") as file:  # noqa: PTH123
        data = os.pread(file.fileno(), size, offset)
    return len(data) == size and repository.frames.id_of(data) == id
