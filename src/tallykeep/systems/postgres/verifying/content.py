"""Single files out of a repository: their chunks in order, proved, without reading whole packs.

Chunks that lie next to one another in a pack are read together. Memory: 8 MiB of frames and one chunk.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.repository.files import BackupFile
from tallykeep.systems.postgres.repository.pack import Pack
from tallykeep.systems.postgres.repository.repository import Repository

_TOGETHER = 8 << 20  # bytes of frames


class _Run(NamedTuple):
    """Frames of a pack that follow one another."""

    pack: Pack
    first: int  # the number of the first
    sizes: list[int]


async def chunks_of(repository: Repository, file: BackupFile) -> AsyncIterator[bytes]:
    """What a file is made of. Raises: IntegrityError; StoreErrors, NotFound for a missing pack."""
    for run in _runs(repository, file):
        start = sum(run.pack.stored[: run.first])
        data = memoryview(await repository.store.read_range(run.pack.key, start, sum(run.sizes)))
        for number, size in enumerate(run.sizes, run.first):
            name = f"{repository.store.name}/{run.pack.key}, chunk {number}"
            yield await in_thread(repository.frames.chunk, run.pack.id(number), data[:size], name)
            data = data[size:]


async def content_of(repository: Repository, file: BackupFile) -> bytes:
    """A whole file, which is a small one. Raises: as chunks_of does."""
    return b"".join([chunk async for chunk in chunks_of(repository, file)])


def _runs(repository: Repository, file: BackupFile) -> Iterator[_Run]:
    run: _Run | None = None
    for id in file.chunks:
        pack, number = repository.place(id)
        size = pack.stored[number]
        if (
            run is not None and run.pack is pack and run.first + len(run.sizes) == number
            and sum(run.sizes) + size <= _TOGETHER
        ):  # fmt: skip
            run.sizes.append(size)
            continue
        if run is not None:
            yield run
        run = _Run(pack, number, [size])
    if run is not None:
        yield run
