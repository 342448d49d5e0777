"""Packs, each read once: the object's hash, and of every chunk its seal or its id, its CRC-32C and its pages.

A seal is bound to the id, so with a key a chunk that opens is what was written under it. That this was what PostgreSQL
had sent is proved file by file, by CRC-32C; where that cannot be, judging.py has the ids computed.

Packs are read while others are proved, on as many threads as there are cores. Memory: four packs, 16 MiB each, and
10 MiB of chunks and pages for each core.
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
from tallykeep.systems.postgres.pagesum import BATCH, PAGE, Summer
from tallykeep.systems.postgres.repository.pack import Pack
from tallykeep.systems.postgres.verifying.ledger import Ledger

_AT_ONCE = 4  # packs
_PART = 16 << 20  # bytes of chunks that one thread proves
Advance = Callable[[int], None]  # bytes read, more


async def read_packs(ledger: Ledger, advance: Advance) -> None:
    """Prove every pack of the ledger. What is wrong is noted there. Raises: StoreErrors."""
    packs, provers = iter(ledger.packs), Provers(ledger)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(_work(packs, ledger, provers, advance))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def must_be_there(store: Store) -> None:
    """Tell a missing object from a missing bucket or folder. Raises: NotFound for the latter; StoreErrors."""
    await store.head(key_of(1))


async def _work(packs: Iterator[Pack], ledger: Ledger, provers: Provers, advance: Advance) -> None:
    store = ledger.repository.store
    for pack in packs:
        try:
            data = await store.read(pack.key)
        except NotFound as error:
            await must_be_there(store)
            _missing(ledger, pack, str(error))
        else:
            await provers.prove(pack, data)
        advance(pack.size)


def _missing(ledger: Ledger, pack: Pack, problem: str) -> None:
    ledger.missing.add(pack.key)
    ledger.broken[pack.key] = problem
    ledger.hit.add(pack.key)
    first = ledger.first(pack)
    ledger.bad |= dict.fromkeys(range(first, first + len(pack.stored)), problem)


class Provers:
    """As many as there are cores; a pack goes to several of them, since one may unpack to 20 times its size."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        cores = os.cpu_count() or 2
        self._idle = [_Prover(ledger) for _ in range(cores)]
        self._gate = asyncio.Semaphore(cores)

    async def prove(self, pack: Pack, data: bytes) -> None:
        """Note what is wrong with the pack."""
        await asyncio.gather(
            in_thread(self._object, pack, data), *(self._part(pack, data, part) for part in _parts(pack))
        )

    def _object(self, pack: Pack, data: bytes) -> None:
        try:
            check_digest(f"{self._ledger.repository.store.name}/{pack.key}", data, pack.hash)
        except IntegrityError as error:
            self._ledger.broken[pack.key] = str(error)

    async def _part(self, pack: Pack, data: bytes, part: range) -> None:
        async with self._gate:
            prover = self._idle.pop()
            await in_thread(prover.prove, pack, data, part)
            self._idle.append(prover)


def _parts(pack: Pack) -> Iterator[range]:
    """The numbers of its chunks, in parts of about `_PART` bytes as they came."""
    start, size = 0, 0
    for position, raw in enumerate(pack.raw):
        size += raw
        if size >= _PART:
            yield range(start, position + 1)
            start, size = position + 1, 0
    if start < len(pack.raw):
        yield range(start, len(pack.raw))


class _Prover:
    """Proves chunks; pages of several are looked at together, which is twice as fast as one by one."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._summer = Summer(ledger.page or PAGE)
        self._numbers: list[int] = []
        self._chunks: list[memoryview] = []
        self._size = 0

    def prove(self, pack: Pack, data: bytes, part: range) -> None:
        """Everything that can be told of these chunks by themselves. Blocks."""
        for number, chunk in self._proved(pack, memoryview(data), part):
            self._ledger.crcs[number] = crc32c(chunk)
            if self._ledger.blocks(number):
                self._add(number, chunk)
        self._check()

    def _proved(self, pack: Pack, data: memoryview, part: range) -> Iterator[tuple[int, bytes]]:
        """(number, chunk) of those that are right."""
        ledger, frames = self._ledger, self._ledger.repository.frames
        first, start = ledger.first(pack), sum(pack.stored[: part.start])
        for position in part:
            end = start + pack.stored[position]
            name = f"{ledger.repository.store.name}/{pack.key}, chunk {position} (bytes {start} to {end - 1})"
            try:
                chunk = frames.sealed(pack.id(position), data[start:end], name)
                if len(chunk) != pack.raw[position]:
                    raise IntegrityError(f"{name}: has {len(chunk)} bytes, and its index says {pack.raw[position]}.")
            except IntegrityError as error:
                ledger.hit.add(pack.key)
                ledger.bad[first + position] = str(error)
            else:
                yield first + position, chunk
            start = end

    def _add(self, number: int, chunk: bytes) -> None:
        whole = len(chunk) - len(chunk) % self._ledger.page
        if self._size + whole > BATCH:
            self._check()
        self._numbers.append(number)
        self._chunks.append(memoryview(chunk)[:whole])
        self._size += whole

    def _check(self) -> None:
        """Compare checksums of what was added, and begin anew."""
        if not self._chunks:
            return
        pages, at = self._summer.of(self._chunks), 0
        for number, chunk in zip(self._numbers, self._chunks, strict=True):
            count = len(chunk) // self._ledger.page
            for block in self._ledger.blocks(number):
                wrong = pages[at : at + count].wrong(block)
                if wrong:
                    self._ledger.note_wrong(number, wrong)
            at += count
        self._numbers, self._chunks, self._size = [], [], 0
