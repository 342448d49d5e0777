"""A segment: the batches of one partition, from one offset to another, as one object of the store.

Batches lie in it byte for byte as the broker sent them. Only runs of batches whose producer did not compress them
are packed, as seekable chunks of about a MiB, if a container codec is asked for and makes them smaller. So an object
without packed chunks is what a broker has in its log, and one that is all packed is a plain zstd or lz4 file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tallykeep.errors import IntegrityError
from tallykeep.storage.content import Piece, size_of
from tallykeep.storage.digest import digest
from tallykeep.systems.kafka.blocks import Blocks
from tallykeep.systems.kafka.index import UNKNOWN_TIME, Extent, Row, SegmentIndex
from tallykeep.systems.kafka.wire import Aborted, Batch, BatchError, Codec, walk
from tallykeep.systems.kafka.wire.codec import ZSTD_LEVEL, compress, decompress
from tallykeep.systems.kafka.wire.timestamps import cheap_least_timestamp

_ROW = 400  # bytes that a row takes in memory, with the numbers in it
CHUNK = 1 << 20  # bytes of batches in a packed chunk, about
NO_TOPIC_ID = "0" * 32


class Sizes(NamedTuple):
    """What a part of a segment takes."""

    raw: int  # bytes uncompressed; as they came where that was not counted
    stored: int  # bytes


@dataclass(frozen=True, slots=True)
class Sealed:
    """A segment that is ready to be stored: two objects and what they are called."""

    index: SegmentIndex
    parts: Sequence[Piece]  # of the object, in order
    data_digest: str
    index_data: bytes
    index_digest: str

    @property
    def stored(self) -> int:
        """Bytes of the object."""
        return size_of(self.parts)

    @property
    def data(self) -> bytes:
        """The object in one piece: a copy."""
        return b"".join(self.parts)

    @property
    def key(self) -> str:
        """Where the batches go. The name says what is in it, so that writing it again after a crash is no conflict."""
        index = self.index
        mark = self.data_digest.rpartition(":")[2][:16]
        return f"topics/{index.topic}/{index.topic_id}/{index.partition}/{index.start:020d}-{mark}.batches"

    @property
    def index_key(self) -> str:
        mark = self.index_digest.rpartition(":")[2][:16]
        return f"{self.key.removesuffix('.batches')}-{mark}.index"

    def stored_by_algorithm(self) -> dict[str, Sizes]:
        """Sizes of the object's parts by what they are compressed with, be it by us or by the producer."""
        found: dict[str, Sizes] = {}
        for extent, rows in _by_extent(self.index):
            if extent.codec is not Codec.NONE:
                _grow(found, extent.codec, extent.raw, extent.stored)
                continue
            for row in rows:
                _grow(found, Codec(row.attributes & 7), row.uncompressed or row.size, row.size)
        return found


def _grow(found: dict[str, Sizes], codec: Codec, raw: int, stored: int) -> None:
    before = found.get(name := codec.name.lower(), Sizes(0, 0))
    found[name] = Sizes(before.raw + raw, before.stored + stored)


class SegmentBuilder:
    """Collects batches of one partition until it is sealed.

    It copies them: a batch that is only a place in a Fetch response would keep all of the response in memory. Batches
    that come together are one copy, and are never joined with others again.
    """

    def __init__(
        self, topic: str, topic_id: str, partition: int, start: int, *, pack: Codec = Codec.NONE,
        level: int = ZSTD_LEVEL,
    ) -> None:  # fmt: skip
        """`pack`: what uncompressed batches are packed with (NONE, LZ4, ZSTD); `level`: zstd's."""
        self.topic, self.topic_id, self.partition = topic, topic_id, partition
        self.start = start
        self.end = start
        self.size = 0  # bytes of the batches so far
        self._pack, self._level = pack, level
        self._blocks = Blocks()
        self._rows: list[Row] = []
        self._aborted: dict[Aborted, None] = {}

    @property
    def memory(self) -> int:
        """Bytes that it takes: the batches and what is known of each."""
        return self.size + _ROW * len(self._rows)

    def add(self, batch: Batch, *, uncompressed: int = 0, min_timestamp: int | None = None) -> None:
        """Append a checked batch; the figures as in Row. Raises: IntegrityError where its offsets lie behind."""
        known = cheap_least_timestamp(batch.header) if min_timestamp is None else min_timestamp
        self.extend([batch], [uncompressed], [UNKNOWN_TIME if known is None else known])

    def extend(self, batches: Sequence[Batch], uncompressed: Iterable[int], least: Iterable[int]) -> None:
        """Append checked batches at once, with the figures that Row has of each.

        Raises: IntegrityError where offsets lie behind; then none is added.
        """
        end, rows = self.end, list[Row]()
        for (header, _), size, moment in zip(batches, uncompressed, least, strict=True):
            if header.last_offset < end or ((rows or self._rows) and header.base_offset < end):
                raise IntegrityError(
                    f"{self.topic}-{self.partition}: the batch at offsets {header.base_offset} to "
                    f"{header.last_offset} came after offset {end - 1}."
                )
            rows.append(Row.of(header, size, moment))
            end = rows[-1].last_offset + 1
        self._rows += rows
        self._blocks.add(b"".join([data for _, data in batches]))
        self.size = self._blocks.size
        self.end = end

    def aborted(self, transactions: Iterable[Aborted]) -> None:
        """Note aborted transactions that a Fetch response named; the same one may come many times."""
        self._aborted.update(dict.fromkeys(transactions))

    def vouch(self, end: int) -> None:
        """Let the segment reach to `end`: offsets behind its last batch hold nothing (any more)."""
        assert end >= self.end, "a segment vouches for what it holds"
        self.end = end

    def seal(self) -> Sealed:
        """The two objects. Blocks (packing, hashes): call it off the loop."""
        parts: list[Piece] = []
        extents = []
        unread = self._blocks.read()
        for count, raw, packed in self._runs():
            stored, extent = self._extent(unread(raw), raw, count, packed=packed)
            parts += stored
            extents.append(extent)
        index = SegmentIndex(
            self.topic, self.topic_id, self.partition, self.start, self.end,
            list(self._rows), extents, sorted(self._aborted),
        )  # fmt: skip
        encoded = index.encode()
        return Sealed(index, parts, digest(parts), encoded, digest(encoded))

    def _runs(self) -> Iterator[tuple[int, int, bool]]:
        """Batches that become one extent, their bytes, and whether they are packed.

        All that are kept as they are and follow one another, or a chunk.
        """
        count, size, packed = 0, 0, False
        for row in self._rows:
            wanted = self._pack is not Codec.NONE and row.attributes & 7 == Codec.NONE
            if count and (wanted is not packed or (packed and size >= CHUNK)):
                yield count, size, packed
                count, size = 0, 0
            packed, count, size = wanted, count + 1, size + row.size
        if count:
            yield count, size, packed

    def _extent(
        self, run: Sequence[memoryview], raw: int, count: int, *, packed: bool
    ) -> tuple[Sequence[Piece], Extent]:
        if packed and len(chunk := compress(self._pack, b"".join(run), level=self._level)) < raw:
            return [chunk], Extent(len(chunk), raw, count, self._pack)
        return run, Extent(raw, raw, count, Codec.NONE)


def batches(index: SegmentIndex, data: bytes | memoryview, name: str) -> Iterator[Batch]:
    """Every batch of a segment as it came, checked by its own CRC and against the index.

    Raises: IntegrityError, naming the object and the batch.
    """
    view, position = memoryview(data), 0
    for extent, rows in _by_extent(index):
        stored = view[position : position + extent.stored]
        position += extent.stored
        yield from _in_extent(extent, rows, stored, name)
    if position != len(view):
        raise IntegrityError(f"{name}: {len(view) - position:+} bytes beyond what its index lists.")


def _by_extent(index: SegmentIndex) -> Iterator[tuple[Extent, list[Row]]]:
    start = 0
    for extent in index.extents:
        yield extent, list(index.rows[start : start + extent.batches])
        start += extent.batches


def _in_extent(extent: Extent, rows: list[Row], stored: memoryview, name: str) -> Iterator[Batch]:
    try:
        raw = stored if extent.codec is Codec.NONE else decompress(extent.codec, stored, extent.raw)
        found = walk(raw)
        for row in rows:
            batch = next(found, None)
            if batch is None or Row.of(batch.header, row.uncompressed, row.min_timestamp) != row:
                raise BatchError("bad_header", "it is not the batch that the index lists")
            batch.check()
            yield batch
    except BatchError as error:
        place = f"offsets {rows[0].base_offset} to {rows[-1].last_offset}"
        raise IntegrityError(f"{name}: among the batches at {place}: {error}.") from None
