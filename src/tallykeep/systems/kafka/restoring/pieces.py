"""A segment read in pieces, so that no more than a few MiB of it are in memory at once.

Only what is to go out is read: what lies outside the window, and what the target has already, is passed over by the
index. A piece is one range of the object; packed chunks in it are unpacked whole. Each batch is checked against its
row of the index, CRC included, and the index against its hash in the manifest: so the bytes are those that were
backed up, though a part of an object cannot be held against the object's hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tallykeep.errors import IntegrityError
from tallykeep.systems.kafka.index import Row, SegmentIndex
from tallykeep.systems.kafka.restoring.choosing import Choice, Fate
from tallykeep.systems.kafka.wire import Batch, BatchError, BatchHeader, Codec
from tallykeep.systems.kafka.wire.codec import decompress

PIECE = 4 << 20  # bytes of the object in a piece, about; a larger batch or chunk makes a larger piece


class Wanted(NamedTuple):
    """A batch that a piece brings."""

    choice: Choice
    at: int  # in its part, unpacked; -1: passed over, not read


@dataclass(slots=True)
class Part:
    """Bytes of one extent, or a whole packed one."""

    codec: Codec
    stored: int  # bytes in the object
    raw: int  # bytes unpacked
    wanted: list[Wanted] = field(default_factory=list)


@dataclass(slots=True)
class Piece:
    """One range of the object and the batches in it, in order; those passed over stand among them."""

    start: int  # bytes
    length: int = 0  # bytes
    parts: list[Part] = field(default_factory=list)

    def add(self, part: Part) -> None:
        """Append what lies behind the end."""
        self.parts.append(part)
        self.length += part.stored


class _Place(NamedTuple):
    """Where a batch lies."""

    extent: int  # its number
    start: int  # of its extent, in the object
    at: int  # in the extent, unpacked


def places(index: SegmentIndex) -> Iterator[_Place]:
    """Of each batch, in the order of the rows."""
    start, rows = 0, iter(index.rows)
    for number, extent in enumerate(index.extents):
        at = 0
        for _ in range(extent.batches):
            yield _Place(number, start, at)
            at += next(rows).size
        start += extent.stored


class PieceBuilder:
    """Takes the batches of a segment one by one and gives out pieces."""

    def __init__(self, index: SegmentIndex, size: int = PIECE) -> None:
        self._index = index
        self._size = size
        self._places = places(index)
        self._piece = Piece(0)
        self._extent = -1  # that the last part is, where it is a packed one

    def add(self, choice: Choice, *, read: bool) -> Piece | None:
        """The next batch; a piece that is full, or that would get a hole, comes back and a new one begins."""
        place = next(self._places)
        if choice.fate is Fate.LEAVE:
            return None
        if not read:
            self._piece.parts.append(Part(Codec.NONE, 0, 0, [Wanted(choice, -1)]))
            self._extent = -1
            return None
        if self._index.extents[place.extent].codec is Codec.NONE:
            return self._begin_part(
                place.start + place.at, Part(Codec.NONE, choice.row.size, choice.row.size, [Wanted(choice, 0)])
            )
        return self._add_packed(choice, place)

    def finish(self) -> Piece | None:
        """What is left."""
        return self._take() if self._piece.parts else None

    def _add_packed(self, choice: Choice, place: _Place) -> Piece | None:
        wanted = Wanted(choice, place.at)
        if self._extent == place.extent:
            self._piece.parts[-1].wanted.append(wanted)
            return None
        extent = self._index.extents[place.extent]
        done = self._begin_part(place.start, Part(extent.codec, extent.stored, extent.raw, [wanted]))
        self._extent = place.extent
        return done

    def _begin_part(self, start: int, part: Part) -> Piece | None:
        """Add a part, to a new piece unless the one there reaches exactly to it and has room."""
        end = self._piece.start + self._piece.length
        fits = not self._piece.length or (end == start and self._piece.length < self._size)
        done = None if fits else self._take()
        if not self._piece.length:
            self._piece.start = start
        self._extent = -1
        self._piece.add(part)
        return done

    def _take(self) -> Piece:
        done, self._piece, self._extent = self._piece, Piece(0), -1
        return done


def found(piece: Piece, data: bytes, name: str) -> Iterator[tuple[Choice, Batch | None]]:
    """The batches of a piece that was read, checked; None for one that was passed over. Blocks.

    Raises: IntegrityError, naming the object and the batch.
    """
    if len(data) != piece.length:
        raise IntegrityError(f"{name}: {len(data)} bytes at {piece.start}, where its index lists {piece.length}.")
    view, position = memoryview(data), 0
    for part in piece.parts:
        stored = view[position : position + part.stored]
        position += part.stored
        yield from _in_part(part, stored, name)


def _in_part(part: Part, stored: memoryview, name: str) -> Iterator[tuple[Choice, Batch | None]]:
    rows = [wanted.choice.row for wanted in part.wanted]
    try:
        raw = stored if part.codec is Codec.NONE else memoryview(decompress(part.codec, stored, part.raw))
        for choice, at in part.wanted:
            yield choice, None if at < 0 else _checked(raw, at, choice.row)
    except BatchError as error:
        raise _spoilt(name, rows, error) from None


def _checked(raw: memoryview, at: int, row: Row) -> Batch:
    batch = Batch(BatchHeader.decode(raw, at), raw[at : at + row.size])
    if Row.of(batch.header, row.uncompressed, row.min_timestamp) != row or len(batch.data) != row.size:
        raise BatchError("bad_header", "it is not the batch that the index lists")
    batch.check()
    return batch


def _spoilt(name: str, rows: Sequence[Row], error: BatchError) -> IntegrityError:
    place = f"offsets {rows[0].base_offset} to {rows[-1].last_offset}"
    return IntegrityError(f"{name}: among the batches at {place}: {error}.")
