"""A segment: the batches of one partition, from one offset to another, as one object of the store.

Batches lie in it byte for byte as the broker sent them. Only runs of batches whose producer did not compress them
are packed, as seekable chunks of about a MiB, if a container codec is asked for and makes them smaller. So an object
without packed chunks is what a broker has in its log, and one that is all packed is a plain zstd or lz4 file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tallykeep.errors import IntegrityError
from tallykeep.systems.kafka.digest import digest
from tallykeep.systems.kafka.index import UNKNOWN_TIME, Extent, Row, SegmentIndex
from tallykeep.systems.kafka.wire import Aborted, Batch, BatchError, Codec, walk
from tallykeep.systems.kafka.wire.codec import compress, decompress

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
    data: bytes
    data_digest: str
    index_data: bytes
    index_digest: str

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

    It copies them: a batch that is only a place in a Fetch response would keep all of the response in memory.
    """

    def __init__(self, topic: str, topic_id: str, partition: int, start: int, *, pack: Codec = Codec.NONE) -> None:
        """`pack`: what uncompressed batches are packed with (NONE, LZ4, ZSTD)."""
        self.topic, self.topic_id, self.partition = topic, topic_id, partition
        self.start = start
        self.end = start
        self.size = 0  # bytes of the batches so far
        self._pack = pack
        self._batches: list[bytes] = []
        self._rows: list[Row] = []
        self._aborted: dict[Aborted, None] = {}

    def add(self, batch: Batch, *, uncompressed: int = 0, min_timestamp: int | None = None) -> None:
        """Append a checked batch; the figures as in Row. Raises: IntegrityError where its offsets lie behind."""
        if batch.header.last_offset < self.end or (self._rows and batch.header.base_offset < self.end):
            raise IntegrityError(
                f"{self.topic}-{self.partition}: the batch at offsets {batch.header.base_offset} to "
                f"{batch.header.last_offset} came after offset {self.end - 1}."
            )
        known = cheap_min_timestamp(batch) if min_timestamp is None else min_timestamp
        self._rows.append(Row.of(batch.header, uncompressed, UNKNOWN_TIME if known is None else known))
        self._batches.append(bytes(batch.data))
        self.size += batch.header.size
        self.end = batch.header.last_offset + 1

    def aborted(self, transactions: Iterable[Aborted]) -> None:
        """Note aborted transactions that a Fetch response named; the same one may come many times."""
        self._aborted.update(dict.fromkeys(transactions))

    def vouch(self, end: int) -> None:
        """Let the segment reach to `end`: offsets behind its last batch hold nothing (any more)."""
        assert end >= self.end, "a segment vouches for what it holds"
        self.end = end

    def seal(self) -> Sealed:
        """The two objects. Blocks (packing, hashes): call it off the loop."""
        parts: list[bytes] = []
        extents = []
        for run in self._runs():
            stored, extent = self._extent(run)
            parts += stored
            extents.append(extent)
        data = b"".join(parts)
        index = SegmentIndex(
            self.topic, self.topic_id, self.partition, self.start, self.end,
            self._rows, extents, sorted(self._aborted),
        )  # fmt: skip
        encoded = index.encode()
        return Sealed(index, data, digest(data), encoded, digest(encoded))

    def _runs(self) -> Iterator[list[bytes]]:
        """Batches that become one extent: all that are kept as they are and follow one another, or a chunk."""
        run: list[bytes] = []
        packed, size = False, 0
        for row, data in zip(self._rows, self._batches, strict=True):
            wanted = self._pack is not Codec.NONE and row.attributes & 7 == Codec.NONE
            if run and (wanted is not packed or (packed and size >= CHUNK)):
                yield run
                run, size = [], 0
            packed, size = wanted, size + row.size
            run.append(data)
        if run:
            yield run

    def _extent(self, run: list[bytes]) -> tuple[list[bytes], Extent]:
        raw = sum(map(len, run))
        if self._pack is not Codec.NONE and run[0][22] & 7 == Codec.NONE:
            chunk = compress(self._pack, b"".join(run))
            if len(chunk) < raw:
                return [chunk], Extent(len(chunk), raw, len(run), self._pack)
        return run, Extent(raw, raw, len(run), Codec.NONE)


def cheap_min_timestamp(batch: Batch) -> int | None:
    """The least timestamp of a batch as far as its header tells: of a single record, or set by the broker for all."""
    header = batch.header
    return header.max_timestamp if header.record_count == 1 or header.is_log_append_time else None


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
