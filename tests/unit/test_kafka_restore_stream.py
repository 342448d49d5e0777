"""Segments on their way to a target: read in pieces, and no more of them than has to be."""

from __future__ import annotations

import pytest
from tests.support.kafka_backup import a_batch
from tests.support.kafka_restore import STINT, Stored, a_log, records_of, sent, whole, with_attributes
from tests.support.stores import Wrapped

from tallykeep.errors import IntegrityError, RestoreError
from tallykeep.systems.kafka.restoring.choosing import Window
from tallykeep.systems.kafka.restoring.outgoing import Stint
from tallykeep.systems.kafka.restoring.pieces import PIECE
from tallykeep.systems.kafka.segment import SegmentBuilder
from tallykeep.systems.kafka.wire import Codec, Record, encode_batch, only
from tallykeep.systems.kafka.wire.header import TRANSACTIONAL


class Counting(Wrapped):
    """Notes the ranges that are read."""

    def __init__(self, stored: Stored) -> None:
        super().__init__(stored.store)
        self.ranges: list[tuple[int, int]] = []

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        self.ranges.append((start, length))
        return await self.store.read_range(key, start, length)


async def big(pack: Codec = Codec.NONE) -> tuple[Stored, Counting]:
    """A segment of 40 batches of 300 kB."""
    stored, builder = Stored(), SegmentBuilder("t", "0" * 32, 0, 0, pack=pack)
    for first in range(0, 120, 3):
        builder.add(only(a_batch(first, size=100_000)), uncompressed=1, min_timestamp=1000 + first)
    await stored.add(builder.seal())
    counting = Counting(stored)
    return Stored(counting, stored.entries), counting


async def test_a_segment_is_read_in_pieces() -> None:
    """Each byte is read once, in ranges of about 4 MiB: never the whole segment at once."""
    stored, counting = await big()
    found, _ = await sent(stored)
    assert sum(one.records for one in found) == 120
    assert sum(length for _, length in counting.ranges) == stored.entries[0].stored
    assert max(length for _, length in counting.ranges) < PIECE + 400_000


@pytest.mark.parametrize("pack", [Codec.NONE, Codec.ZSTD])
async def test_only_what_is_missing_is_read(pack: Codec) -> None:
    """A resumed restore passes over what the target has, packed or not; the map has all of it."""
    stored, counting = await big(pack)
    found, runs = await sent(stored, reached=STINT.start + 90)
    assert [one.offset for one in found] == [STINT.start + 90 + 3 * number for number in range(10)]
    assert runs == [(0, STINT.start, 120)]
    assert sum(length for _, length in counting.ranges) < stored.entries[0].stored * 0.4


async def test_only_the_window_is_read() -> None:
    """Batches outside the window are not read, those at its edges are cut."""
    stored, counting = await big()
    found, runs = await sent(stored, window=Window(1031, 1064))
    assert [record.timestamp for one in found for record in records_of(one)] == list(range(1031, 1065))
    assert runs == [(31, STINT.start, 34)]
    assert sum(length for _, length in counting.ranges) < stored.entries[0].stored * 0.35


async def test_batches_keep_their_bytes() -> None:
    """A batch that can go as it is differs from the source only in its head; a transactional one loses that mark."""
    stored = Stored()
    source = [with_attributes(a_batch(5, codec=Codec.LZ4), TRANSACTIONAL, producer_id=3, base_sequence=9), a_batch(8)]
    await stored.add(a_log("t", source, start=5))
    found, _ = await sent(stored)
    assert [bytes(one.payload) for one in found] == [data[61:] for data in source]
    assert [whole(one)[21:23] for one in found] == [b"\0\3", b"\0\0"]


async def test_a_batch_that_begins_before_its_segment() -> None:
    """Its earlier records belong to the segment before, and are not sent again."""
    stored = Stored()
    await stored.add(a_log("t", [a_batch(0, 6)], start=4))
    found, runs = await sent(stored)
    assert [record.key for one in found for record in records_of(one)] == [b"key 4", b"key 5"]
    assert runs == [(4, STINT.start, 2)]


async def test_sequences_wrap() -> None:
    """Behind the last sequence of 31 bits comes 0, in the midst of a batch too."""
    stint = Stint(0, 7, 0)
    assert stint.sequence((1 << 31) - 1) == (1 << 31) - 1
    assert stint.sequence(1 << 31) == 0
    assert Stint(5, 7, 0).sequence((1 << 31) + 7) == 2


async def test_new_stints_begin_at_0() -> None:
    """From a later stint's start on, batches have its producer id and sequences from 0."""
    stored = Stored()
    await stored.add(a_log("t", [a_batch(0), a_batch(3), a_batch(6)]))
    stints = [STINT, Stint(STINT.start + 3, 8, 2)]
    found, _ = await sent(stored, stints=stints)
    heads = [only(whole(one)).header for one in found]
    assert [(h.producer_id, h.producer_epoch, h.base_sequence) for h in heads] == [(7, 1, 0), (8, 2, 0), (8, 2, 3)]


async def test_an_end_between_batches_is_wanted() -> None:
    """A target that ends in the midst of a batch was written to by somebody else."""
    stored = Stored()
    await stored.add(a_log("t", [a_batch(0), a_batch(3)]))
    with pytest.raises(RestoreError, match="ends at offset 104"):
        await sent(stored, reached=STINT.start + 4)


async def test_a_record_that_is_too_large() -> None:
    """What cannot be split is an error that names the offset and what to raise."""
    stored = Stored()
    await stored.add(a_log("t", [encode_batch([Record(0, 0, None, b"x" * 500), Record(1, 0, None, b"y")])]))
    with pytest.raises(RestoreError, match=r"offset 0 makes a batch of 5\d\d bytes.*max.message.bytes"):
        await sent(stored, largest=400)
    found, _ = await sent(stored, largest=575)
    assert [one.records for one in found] == [1, 1]


async def test_flipped_bytes_are_found() -> None:
    """A byte changed anywhere in a segment stops the restore, and the message names the object and the offsets."""
    stored = Stored()
    await stored.add(a_log("t", [a_batch(0), a_batch(3)]))
    [entry] = stored.entries
    data = await stored.store.read(entry.key)
    for at in range(0, len(data), 7):
        await stored.store.replace(entry.key, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(IntegrityError, match=r"batches.*offsets 0 to 5|batches.*offsets \d to \d"):
            await sent(stored)
    await stored.store.replace(entry.key, data[:-1])
    with pytest.raises(IntegrityError):
        await sent(stored)
