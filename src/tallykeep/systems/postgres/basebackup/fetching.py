"""Chunks out of packs into their places in files, on two threads for each core, as one of them waits for the disk.

Each chunk is proved by its own hash, and by its seal; one that is damaged or missing comes from the next repository
that has it. Memory: four packs, 16 MiB each, and a chunk for each thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from threading import Lock
from typing import NamedTuple

from tallykeep.errors import IntegrityError, RestoreError, StoreError, TallykeepError
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.basebackup.durable import start_writing
from tallykeep.systems.postgres.basebackup.placing import MODE
from tallykeep.systems.postgres.repository.pack import Pack
from tallykeep.systems.postgres.repository.repository import Repository

_PACKS = 4  # in memory
_BATCH = 8 << 20  # bytes of chunks that a thread unpacks at a time
Advance = Callable[[int], None]  # bytes more
_turns = [Lock() for _ in range(64)]  # by file
_log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """A chunk's place in a file."""

    path: str
    offset: int


class Wanted(NamedTuple):
    """What of a pack is wanted, and where it goes: by the number of the chunk in it, which goes when it is done."""

    pack: Pack
    pieces: dict[int, Sequence[Piece]]


class Source(NamedTuple):
    """Where chunks come from."""

    repository: Repository
    others: Sequence[Repository]

    def elsewhere(self, wanted: Wanted, error: TallykeepError) -> tuple[Source, list[Wanted]]:
        """Where else what is still wanted of a pack lies. Raises: `error` where nothing else has it."""
        if not self.others:
            raise error
        other, *rest = self.others
        packs: dict[str, Wanted] = {}
        for number, pieces in wanted.pieces.items():
            id = wanted.pack.id(number)
            if id not in other:
                return Source(other, rest).elsewhere(wanted, error)
            pack, place = other.place(id)
            packs.setdefault(pack.key, Wanted(pack, {})).pieces[place] = pieces
        _log.warning("%s: %d chunks come from there instead: %s", other.store.name, len(wanted.pieces), error)
        return Source(other, rest), list(packs.values())


class _Work:
    """What is done at a time."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance
        self.packs = asyncio.Semaphore(_PACKS)
        self._threads = asyncio.Semaphore(2 * (os.cpu_count() or 2))

    async def unpack(
        self, repository: Repository, wanted: Wanted, batch: Sequence[int], data: bytes, name: str
    ) -> IntegrityError | None:  # fmt: skip
        """Some chunks of a pack, in a thread; why not all of them could be had, if so."""
        async with self._threads:
            return await in_thread(_unpack, repository, wanted, batch, data, name, self.advance)


async def fetch(source: Source, wanted: Sequence[Wanted], advance: Advance) -> None:
    """Every pack. Raises: of several errors the first."""
    work = _Work(advance)
    try:
        async with asyncio.TaskGroup() as group:
            for pack in wanted:
                group.create_task(_pack(source, pack, work))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _pack(source: Source, wanted: Wanted, work: _Work) -> None:
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
    """Writes to one file at a time, which stays open until another one comes.

    Threads take turns with a file: in the kernel they would spin for it, which cost 2.5 of 3.8 CPU seconds for a GB.
    """

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
            with _turns[hash(piece.path) % len(_turns)]:
                self._write(chunk, piece.offset)
        except OSError as error:
            raise RestoreError(
                f"{piece.path}: cannot be written: {error.strerror}. Mend that, and restore again into the same "
                "folder: what is there is kept."
            ) from None

    def _write(self, chunk: bytes, offset: int) -> None:
        done = 0
        while done < len(chunk):
            done += os.pwrite(self._handle, memoryview(chunk)[done:], offset + done)

    def close(self) -> None:
        """Idempotent."""
        if self._handle >= 0:
            start_writing(self._handle)
            os.close(self._handle)
        self._path, self._handle = "", -1
