"""Packs, each read once: the object's hash, and of every chunk its seal, its id, its CRC-32C and its pages.

Packs are read while others are proved on as many threads as there are cores. Memory: a pack of 16 MiB and 3 MiB of
chunks for each core, and two packs that are being read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator

from tallykeep.errors import IntegrityError, NotFound
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.chain_record import key_of
from tallykeep.storage.digest import check_digest
from tallykeep.storage.store import Store
from tallykeep.systems.postgres.checksum import crc32c
from tallykeep.systems.postgres.pagesum import BATCH, Pages
from tallykeep.systems.postgres.repository.pack import Pack
from tallykeep.systems.postgres.verifying.ledger import Ledger

_AHEAD = 2  # packs
Advance = Callable[[int], None]  # bytes read, more


async def read_packs(ledger: Ledger, advance: Advance) -> None:
    """Prove every pack of the ledger. What is wrong is noted there. Raises: StoreErrors."""
    cores = os.cpu_count() or 2
    packs, proving = iter(ledger.packs), asyncio.Semaphore(cores)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(cores + _AHEAD):
                group.create_task(_work(packs, ledger, proving, advance))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def must_be_there(store: Store) -> None:
    """Tell a missing object from a missing bucket or folder. Raises: NotFound for the latter; StoreErrors."""
    await store.head(key_of(1))


async def _work(packs: Iterator[Pack], ledger: Ledger, proving: asyncio.Semaphore, advance: Advance) -> None:
    store = ledger.repository.store
    for pack in packs:
        try:
            data = await store.read(pack.key)
        except NotFound as error:
            await must_be_there(store)
            _missing(ledger, pack, str(error))
        else:
            async with proving:
                await in_thread(_prove, ledger, pack, data)
        advance(pack.size)


def _missing(ledger: Ledger, pack: Pack, problem: str) -> None:
    ledger.missing.add(pack.key)
    ledger.broken[pack.key] = problem
    ledger.hit.add(pack.key)
    first = ledger.first(pack)
    ledger.bad |= dict.fromkeys(range(first, first + len(pack.stored)), problem)


def _prove(ledger: Ledger, pack: Pack, data: bytes) -> None:
    """Everything that can be told of a pack by itself. Blocks."""
    try:
        check_digest(f"{ledger.repository.store.name}/{pack.key}", data, pack.hash)
    except IntegrityError as error:
        ledger.broken[pack.key] = str(error)
    batch = _Batch(ledger)
    for number, chunk in _chunks(ledger, pack, memoryview(data)):
        ledger.crcs[number] = crc32c(chunk)
        if ledger.blocks(number):
            batch.add(number, chunk)
    batch.check()


def _chunks(ledger: Ledger, pack: Pack, data: memoryview) -> Iterator[tuple[int, bytes]]:
    """(number, chunk) of those that prove right."""
    repository, first, offsets = ledger.repository, ledger.first(pack), pack.offsets()
    for position in range(len(pack.stored)):
        start, end = offsets[position], offsets[position + 1]
        name = f"{repository.store.name}/{pack.key}, chunk {position} (bytes {start} to {end - 1})"
        try:
            chunk = repository.frames.chunk(pack.id(position), data[start:end], name)
            if len(chunk) != pack.raw[position]:
                raise IntegrityError(f"{name}: has {len(chunk)} bytes, and its index says {pack.raw[position]}.")
        except IntegrityError as error:
            ledger.hit.add(pack.key)
            ledger.bad[first + position] = str(error)
        else:
            yield first + position, chunk


class _Batch:
    """Chunks whose pages are looked at together, which is twice as fast as one by one."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._numbers: list[int] = []
        self._chunks: list[memoryview] = []
        self._size = 0

    def add(self, number: int, chunk: bytes) -> None:
        whole = len(chunk) - len(chunk) % self._ledger.page
        self._numbers.append(number)
        self._chunks.append(memoryview(chunk)[:whole])
        self._size += whole
        if self._size >= BATCH:
            self.check()

    def check(self) -> None:
        """Compare checksums, and begin anew."""
        page, at = self._ledger.page, 0
        pages = Pages.of(b"".join(self._chunks), page) if self._chunks else None
        for number, chunk in zip(self._numbers, self._chunks, strict=True):
            assert pages is not None
            count = len(chunk) // page
            for block in self._ledger.blocks(number):
                wrong = pages[at : at + count].wrong(block)
                if wrong:
                    self._ledger.note_wrong(number, wrong)
            at += count
        self._numbers, self._chunks, self._size = [], [], 0
