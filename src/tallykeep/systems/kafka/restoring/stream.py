"""One partition of a backup as the batches that go to its target, from the first on or from where the target stands.

The way of it is decided by indexes and by what the batches say, never by what happens while they are sent: a resumed
restore, and the pass that verifies, get the same batches at the same offsets. Two pieces of a segment are in memory
at most, one that is read and one that is worked on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from typing import Protocol

from tallykeep.errors import IntegrityError, RestoreError
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.store import Store
from tallykeep.systems.kafka.index import SegmentIndex
from tallykeep.systems.kafka.manifest import SegmentEntry
from tallykeep.systems.kafka.restoring.choosing import Choice, Fate, Window, choose
from tallykeep.systems.kafka.restoring.outgoing import Kept, Outgoing, Run, Stint, keep, outgoing, unexpected_end
from tallykeep.systems.kafka.restoring.pieces import Piece, PieceBuilder, found
from tallykeep.systems.kafka.transactions import AbortedTransactions
from tallykeep.systems.kafka.wire import Batch


class Source(Protocol):
    """What a stream needs of a backup; a BackupSet is one."""

    @property
    def store(self) -> Store:
        """Where the segments are."""
        ...

    async def index(self, entry: SegmentEntry) -> SegmentIndex:
        """The index of a segment, held against its hash."""
        ...


class Assembler:
    """Puts batches one behind the other at the offsets of the target. Used from one thread at a time."""

    def __init__(self, stints: Sequence[Stint], reached: int, window: Window, largest: int) -> None:
        """`stints`: in order, the first from the target's first offset on; `reached`: where the target stands."""
        self.offset = stints[0].start  # of the next record
        self.runs: list[tuple[int, int, int]] = []  # source offset, target offset, records
        self._stints = stints
        self._reached = reached
        self._window = window
        self._largest = largest

    def take(self, piece: Piece, data: bytes, start: int, name: str) -> list[Outgoing]:
        """What goes out of a piece of the segment that begins at `start` and is not there yet. Blocks."""
        made: list[Outgoing] = []
        for choice, batch in found(piece, data, name):
            if batch is None:
                row = choice.row
                self._note(Run(row.base_offset, row.record_count))
            else:
                made += self._sent(choice, self._keep(choice, batch, start, name))
        return made

    def _keep(self, choice: Choice, batch: Batch, start: int, name: str) -> Kept:
        try:
            return keep(batch, choice.fate, start, self._window, self._largest)
        except RestoreError as error:
            raise RestoreError(f"{name}: {error}") from None
        except IntegrityError as error:
            raise IntegrityError(f"{name}: {error}") from None

    def _sent(self, choice: Choice, kept: Kept) -> list[Outgoing]:
        made, offset = [], self.offset
        share = choice.row.uncompressed // max(1, len(kept.batches))
        for data in kept.batches:
            one = outgoing(data, offset, self._stint(offset), share)
            offset = one.end
            if one.offset < self._reached < one.end:
                raise unexpected_end(self._reached, one)
            if one.offset >= self._reached:
                made.append(one)
        for run in kept.runs:
            self._note(run)
        return made

    def _note(self, run: Run) -> None:
        """Records of the source that have their place now."""
        if self.runs:
            source, target, count = self.runs[-1]
            if (source + count, target + count) == (run.offset, self.offset):
                self.runs[-1] = (source, target, count + run.records)
                self.offset += run.records
                return
        self.runs.append((run.offset, self.offset, run.records))
        self.offset += run.records

    def _stint(self, offset: int) -> Stint:
        return next(stint for stint in reversed(self._stints) if stint.start <= offset)


class PartitionStream:
    """One partition's segments, in order, on their way to the target."""

    def __init__(
        self, backup: Source, segments: Sequence[SegmentEntry], stints: Sequence[Stint], reached: int,
        window: Window, largest: int,
    ) -> None:  # fmt: skip
        """As Assembler; `largest`: bytes of a batch that the target takes."""
        self.assembler = Assembler(stints, reached, window, largest)
        self._backup = backup
        self._segments = segments
        self._aborted = AbortedTransactions()
        self._most = stints[0].start  # offset of the next record, unless the window leaves some out
        self._reached, self._window, self._largest = reached, window, largest

    async def batches(self) -> AsyncGenerator[list[Outgoing], None]:
        """What is to be sent, as many batches at a time as a piece has; the next piece is read meanwhile.

        Raises: IntegrityError; RestoreError where the target does not end behind one of the batches; StoreErrors.
        """
        before: _Load | None = None
        try:
            async for entry, piece in self._pieces():
                after = _Load(self._backup.store, entry, piece)
                if before:
                    yield await before.through(self.assembler)
                before = after
            if before:
                yield await before.through(self.assembler)
        finally:
            if before:
                await before.drop()

    async def _pieces(self) -> AsyncIterator[tuple[SegmentEntry, Piece]]:
        for entry in self._segments:
            index = await self._backup.index(entry)
            for piece in await in_thread(self._cut, index):
                yield entry, piece

    def _cut(self, index: SegmentIndex) -> list[Piece]:
        """The pieces of a segment, without their bytes."""
        builder = PieceBuilder(index)
        pieces = [
            builder.add(choice, read=self._reads(choice))
            for choice in choose(index, self._aborted, self._window, self._largest)
        ]
        return [piece for piece in (*pieces, builder.finish()) if piece]

    def _reads(self, choice: Choice) -> bool:
        """Whether the bytes of a batch are needed: not if it is copied and surely in the target already."""
        if choice.fate is Fate.LEAVE:
            return False
        self._most += choice.row.record_count
        return choice.fate is not Fate.COPY or self._most > self._reached


class _Load:
    """A piece that is being read."""

    def __init__(self, store: Store, entry: SegmentEntry, piece: Piece) -> None:
        self._entry, self._piece = entry, piece
        self._name = f"{store.name}/{entry.key}"
        reads = store.read_range(entry.key, piece.start, piece.length) if piece.length else _nothing()
        self._task = asyncio.create_task(reads)

    async def through(self, assembler: Assembler) -> list[Outgoing]:
        """What becomes of it."""
        data = await self._task
        return await in_thread(assembler.take, self._piece, data, self._entry.start, self._name)

    async def drop(self) -> None:
        """Let go of what nobody waits for any more."""
        self._task.cancel()
        with suppress(BaseException):
            await self._task


async def _nothing() -> bytes:
    return b""
