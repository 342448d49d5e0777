"""Blocks: bytes that are collected bit by bit, and never joined as a whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.kafka_backup import ORDERS, a_batch

from tallykeep.errors import IntegrityError
from tallykeep.storage.digest import digest
from tallykeep.systems.kafka.blocks import Blocks
from tallykeep.systems.kafka.segment import SegmentBuilder
from tallykeep.systems.kafka.wire import Codec, only


@settings(deadline=None)
@given(st.lists(st.sampled_from([0, 1, 7, 100_000, 300_000, 1_200_000]), max_size=6), st.integers(1000, 700_000))
def test_bytes_come_back_in_their_order(sizes: list[int], step: int) -> None:
    """Whatever the sizes they come in, and those they are read in; reading twice reads the same."""
    blocks, wanted = Blocks(), b""
    for number, size in enumerate(sizes):
        blocks.add(bytes([number + 1]) * size)
        wanted += bytes([number + 1]) * size
    assert blocks.size == len(wanted)
    for _ in range(2):
        read, found = blocks.read(), list[memoryview]()
        for start in range(0, len(wanted), step):
            found += read(min(step, len(wanted) - start))
        assert b"".join(found) == wanted


def test_small_ones_are_put_together() -> None:
    """Ten thousand bits are a few blocks, and large ones are blocks as they are."""
    blocks = Blocks()
    for _ in range(10_000):
        blocks.add(bytes(500))
    blocks.add(bytes(1 << 20))
    assert [len(view) for view in blocks.read()(blocks.size)] == [1_049_000] * 4 + [804_000, 1 << 20]


@pytest.mark.parametrize("pack", [Codec.NONE, Codec.ZSTD])
def test_batches_at_once_are_batches_one_by_one(pack: Codec) -> None:
    """A run of batches makes the same segment however it was added, and a hash does not know of pieces."""
    sent = [only(a_batch(first, codec=codec)) for first, codec in ((0, Codec.NONE), (3, Codec.LZ4), (6, Codec.NONE))]
    at_once, one_by_one = (SegmentBuilder(*ORDERS, 0, pack=pack) for _ in range(2))
    at_once.extend(sent, [1, 2, 3], [1000, 1003, 1006])
    for number, batch in enumerate(sent):
        one_by_one.add(batch, uncompressed=number + 1, min_timestamp=1000 + 3 * number)
    first, second = at_once.seal(), one_by_one.seal()
    assert (first.data, first.index) == (second.data, second.index)
    assert first.data_digest == digest(first.data) == digest(first.parts)
    assert first.stored == len(first.data)


def test_none_is_added_where_one_lies_behind() -> None:
    """Of batches that come together all are added or none."""
    builder = SegmentBuilder(*ORDERS, 0)
    with pytest.raises(IntegrityError, match="came after offset 5"):
        builder.extend([only(a_batch(3)), only(a_batch(0))], [0, 0], [0, 0])
    assert (builder.size, builder.end) == (0, 0)
    assert builder.seal().data == b""


def test_a_sealed_segment_stays_as_it_is() -> None:
    """What is added afterwards is not in it."""
    builder = SegmentBuilder(*ORDERS, 0)
    builder.add(only(a_batch(0)))
    sealed = builder.seal()
    before = sealed.data
    builder.add(only(a_batch(3)))
    assert (sealed.data, len(sealed.index.rows)) == (before, 1)
    assert builder.seal().data == before + a_batch(3)
