"""Chunks into packs: hashed, compressed and sealed on threads, stored while more come.

Memory: at most 8 MiB of chunks that wait, in rooms that are used again, and four packs of 16 MiB each on their way to
the store.
Durable in this order: packs, their index, the record that names the index. What a writer that died has left behind is
named by nothing, but for the packs of earlier records: those the next backup finds and need not store again.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import BoundedSemaphore, Lock
from typing import Any

from tallykeep.errors import Conflict
from tallykeep.storage.digest import check_digest, digest
from tallykeep.systems.postgres.repository.chunk import SIZE as CHUNK
from tallykeep.systems.postgres.repository.entries import PacksEntry
from tallykeep.systems.postgres.repository.pack import SIZE, Pack, PackBuilder, encode_index
from tallykeep.systems.postgres.repository.repository import Repository

_WAITING = (8 << 20) // CHUNK  # more would only be cold by the time it is hashed
_UNDER_WAY = 4  # packs
PACKS_IN_AN_INDEX = 64
FOLDER = "indexes/"


class Filler:
    """Fills packs from one thread that is not the loop's; `repository.chain` has been taken over."""

    def __init__(self, repository: Repository, loop: asyncio.AbstractEventLoop) -> None:
        self.stored = 0  # bytes of new packs
        self.added = 0  # new chunks
        self._repository = repository
        self._loop = loop
        self._pool = ThreadPoolExecutor(os.cpu_count() or 2, "tallykeep-chunks")
        self._waiting = BoundedSemaphore(_WAITING)
        self._under_way = BoundedSemaphore(_UNDER_WAY)
        self._lock = Lock()
        self._naming = Lock()  # a chain is appended to by one at a time
        self._builder = PackBuilder()
        self._error: Exception | None = None
        self._claimed: set[bytes] = set()  # chunks of this run that no record names yet
        self._uploads: list[Future[Pack]] = []
        self._durable: list[Pack] = []
        self._free: deque[bytearray] = deque()

    def room(self) -> bytearray:
        """Room for a chunk, to be filled and put: used again afterwards, since new memory costs as much as a copy."""
        try:
            return self._free.pop()
        except IndexError:
            return bytearray(CHUNK)

    def put(self, chunk: bytes | memoryview, ids: list[bytes]) -> None:
        """Append the chunk's id to `ids`, empty until it is known, at the latest when `finish` returns.

        A chunk in a room is the filler's from now on.

        Blocks while too much waits. Raises: what making or storing an earlier chunk raised; Stopped.
        """
        self._waiting.acquire()
        if self._error is not None:
            raise self._error
        ids.append(b"")
        self._pool.submit(self._work, chunk, ids, len(ids) - 1)

    def finish(self) -> None:
        """Return when everything that was put is durable and named by the manifest.

        Raises: what storing raised; the packs that are durable are kept for the next attempt.
        """
        self._pool.shutdown(wait=True)
        if self._error is not None:
            raise self._error
        if self._builder.frames:
            self._send(self._builder)
        self._collect(everything=True)

    def fail(self, error: Exception) -> None:
        """Have the next `put`, or `finish`, raise it. From any thread."""
        self._error = self._error or error

    def abandon(self) -> None:
        """Leave off: what is under way ends, nothing more is named."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for upload in self._uploads:
            upload.cancel()

    def _work(self, chunk: bytes | memoryview, ids: list[bytes], position: int) -> None:
        try:
            ids[position] = self._chunk(chunk)
            if isinstance(chunk, memoryview) and isinstance(chunk.obj, bytearray):
                self._free.append(chunk.obj)
        except Exception as error:
            self.fail(error)
        finally:
            self._waiting.release()

    def _chunk(self, chunk: bytes | memoryview) -> bytes:
        frames = self._repository.frames
        id = frames.id_of(chunk)
        with self._lock:
            if self._repository.has_sound(id) or id in self._claimed:
                return id
            self._claimed.add(id)
        frame = frames.frame(id, chunk)
        full = self._add(id, frame, len(chunk))
        if full is not None:
            self._send(full)
        return id

    def _add(self, id: bytes, frame: bytes, raw: int) -> PackBuilder | None:
        with self._lock:
            self._builder.add(id, frame, raw)
            self.added += 1
            self.stored += len(frame)
            if self._builder.size < SIZE:
                return None
            full, self._builder = self._builder, PackBuilder()
            return full

    def _send(self, builder: PackBuilder) -> None:
        pack = builder.seal()
        self._under_way.acquire()
        upload = self._run(self._store(pack, builder.frames))
        upload.add_done_callback(lambda _: self._under_way.release())
        with self._lock:
            self._uploads.append(upload)
            ready = len(self._uploads) >= PACKS_IN_AN_INDEX
        if ready:
            self._collect(everything=False)

    def _collect(self, *, everything: bool) -> None:
        """Name the packs whose uploads have ended, or wait for all and name them."""
        with self._lock:
            ended = [upload for upload in self._uploads if everything or upload.done()]
            self._uploads = [upload for upload in self._uploads if upload not in ended]
        failed = [upload for upload in ended if upload.exception() is not None]
        packs = [upload.result() for upload in ended if upload not in failed]
        if packs:
            with self._naming:
                self._run(self._name(packs)).result()
        for upload in failed:
            upload.result()

    async def _store(self, pack: Pack, frames: list[bytes]) -> Pack:
        store = self._repository.store
        pack = pack._replace(key=self._repository.unused(pack.key))
        try:
            await store.create(pack.key, frames)
        except Conflict:  # from a writer that died before its record
            check_digest(f"{store.name}/{pack.key}", await store.read(pack.key), pack.hash)
        return pack

    async def _name(self, packs: list[Pack]) -> None:
        await self._repository.commit([await store_index(self._repository, packs)])
        with self._lock:
            for pack in packs:
                self._repository.add_pack(pack)
                self._claimed.difference_update(pack.id(number) for number in range(len(pack.stored)))

    def _run(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


async def store_index(repository: Repository, packs: Sequence[Pack]) -> PacksEntry:
    """Store the index of durable packs; what is to be committed. Raises: StoreErrors."""
    data = encode_index(packs)
    found = digest(data)
    key = repository.unused(FOLDER + found.rpartition(":")[2][:32])
    with suppress(Conflict):  # its name is its hash
        await repository.store.create(key, data)
    chunks, raw = sum(len(pack.stored) for pack in packs), sum(sum(pack.raw) for pack in packs)
    return PacksEntry(key, found, len(data), len(packs), chunks, raw, sum(pack.size for pack in packs))
