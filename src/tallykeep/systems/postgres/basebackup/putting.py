"""A base backup out of a repository, into an empty folder: pack by pack, each read once, on several threads.

A chunk is proved by its own hash, and by its seal; one that is damaged or missing comes from the next repository that
has it. A folder that is not finished holds a marker with the id of its backup, and PostgreSQL does not start from it.
Begun again, chunks that are there already are proved and not fetched again. Memory: four packs, 16 MiB each, and a
chunk for each thread, of which there are as many as cores.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tallykeep.errors import IntegrityError, RestoreError, StoreError, TallykeepError
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.basebackup.placing import MARKER, MODE, Owner, Places, finish, prepare, unfinished
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.repository.files import BackupFile, Files
from tallykeep.systems.postgres.repository.pack import Pack
from tallykeep.systems.postgres.repository.repository import Repository

__all__ = ["MARKER", "Advance", "Owner", "put", "unfinished"]
_PACKS = 4  # in memory
_BATCH = 8 << 20  # bytes of chunks that a thread unpacks at a time
Advance = Callable[[int], None]  # bytes more
_log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """A chunk's place in a file."""

    path: str
    offset: int


class Wanted(NamedTuple):
    """What of a pack is wanted, and where it goes: by the number of the chunk in it, which goes when it is done."""

    pack: Pack
    pieces: dict[int, Sequence[Piece]]


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
    files = await _files(repository, entry, others)
    spaces = _spaces(files, tablespaces or {})
    places = Places(target, spaces, bool(tablespaces), owner, settle)
    begun = await in_thread(prepare, entry.id, files, places)
    wanted = await in_thread(_wanted, repository, files, places.path, advance if begun else None)
    await _all(_Source(repository, others), wanted, advance)
    await in_thread(finish, files, places, begun=begun)
    return files


async def _files(repository: Repository, entry: BackupEntry, others: Sequence[Repository]) -> Files:
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


def _spaces(files: Files, moved: Mapping[int, Path]) -> dict[int, Path]:
    """Where tablespaces go. Raises: RestoreError for one that is none."""
    spaces = {space.oid: Path(space.location) for space in files.tablespaces}
    for oid in moved:
        if oid not in spaces:
            held = ", ".join(map(str, spaces)) or "none"
            raise RestoreError(f"The backup holds no tablespace {oid}; it holds {held}.")
    return spaces | dict(moved)


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


class _Source(NamedTuple):
    """Where chunks come from."""

    repository: Repository
    others: Sequence[Repository]

    def elsewhere(self, wanted: Wanted, error: TallykeepError) -> tuple[_Source, list[Wanted]]:
        """Where else what is still wanted of a pack lies. Raises: `error` where nothing else has it."""
        if not self.others:
            raise error
        other, *rest = self.others
        packs: dict[str, Wanted] = {}
        for number, pieces in wanted.pieces.items():
            id = wanted.pack.id(number)
            if id not in other:
                return _Source(other, rest).elsewhere(wanted, error)
            pack, place = other.place(id)
            packs.setdefault(pack.key, Wanted(pack, {})).pieces[place] = pieces
        _log.warning("%s: %d chunks come from there instead: %s", other.store.name, len(wanted.pieces), error)
        return _Source(other, rest), list(packs.values())


class _Work:
    """What is done at a time."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance
        self.packs = asyncio.Semaphore(_PACKS)
        self._threads = asyncio.Semaphore(max(2, os.cpu_count() or 2))

    async def unpack(
        self, repository: Repository, wanted: Wanted, batch: Sequence[int], data: bytes, name: str
    ) -> IntegrityError | None:  # fmt: skip
        """Some chunks of a pack, in a thread; why not all of them could be had, if so."""
        async with self._threads:
            return await in_thread(_unpack, repository, wanted, batch, data, name, self.advance)


async def _all(source: _Source, wanted: Sequence[Wanted], advance: Advance) -> None:
    """Every pack. Raises: of several errors the first."""
    work = _Work(advance)
    try:
        async with asyncio.TaskGroup() as group:
            for pack in wanted:
                group.create_task(_pack(source, pack, work))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _pack(source: _Source, wanted: Wanted, work: _Work) -> None:
    """One pack, from wherever it can be had."""
    waiting = [(source, wanted)]
    async with work.packs:
        while waiting:
            source, wanted = waiting.pop()
            error = await _restore_pack(source.repository, wanted, work)
            if error is not None:
                source, more = source.elsewhere(wanted, error)
                waiting += [(source, each) for each in more]


async def _restore_pack(repository: Repository, wanted: Wanted, work: _Work) -> TallykeepError | None:
    """Why not all of it could be had, if so: `wanted` then holds the rest."""
    name = f"{repository.store.name}/{wanted.pack.key}"
    try:
        data = await repository.store.read(wanted.pack.key)
    except StoreError as error:
        return error
    batches = [work.unpack(repository, wanted, batch, data, name) for batch in _batches(wanted)]
    return next((error for error in await asyncio.gather(*batches) if error is not None), None)


def _batches(wanted: Wanted) -> list[list[int]]:
    """Chunks that lie side by side, since one pack may hold a whole table."""
    found: list[list[int]] = []
    room = 0
    for number in sorted(wanted.pieces):
        if room <= 0:
            found.append([])
            room = _BATCH
        found[-1].append(number)
        room -= wanted.pack.raw[number]
    return found


def _unpack(
    repository: Repository, wanted: Wanted, batch: Sequence[int], data: bytes, name: str, advance: Advance
) -> IntegrityError | None:  # fmt: skip
    """Prove chunks and write them to their places, each file opened once for what follows one another in it."""
    view, offsets = memoryview(data), wanted.pack.offsets()
    problem: IntegrityError | None = None
    files, written = _OneFile(), 0
    try:
        for number in batch:
            frame = view[offsets[number] : offsets[number + 1]]
            try:
                chunk = repository.frames.chunk(wanted.pack.id(number), frame, name)
            except IntegrityError as error:
                problem = problem or error
                continue
            for piece in wanted.pieces.pop(number):
                files.write(piece, chunk)
                written += len(chunk)
    finally:
        files.close()
        advance(written)
    return problem


class _OneFile:
    """Writes to one file at a time, which stays open until another one comes."""

    def __init__(self) -> None:
        self._path = ""
        self._handle = -1

    def write(self, piece: Piece, chunk: bytes) -> None:
        """Raises: RestoreError."""
        try:
            if piece.path != self._path:
                self.close()
                self._handle = os.open(piece.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
                self._path = piece.path
            done = 0
            while done < len(chunk):
                done += os.pwrite(self._handle, memoryview(chunk)[done:], piece.offset + done)
        except OSError as error:
            raise RestoreError(
                f"{piece.path}: cannot be written: {error.strerror}. Mend that, and restore again into the same "
                "folder: what is there is kept."
            ) from None

    def close(self) -> None:
        """Idempotent."""
        if self._handle >= 0:
            os.close(self._handle)
        self._path, self._handle = "", -1
