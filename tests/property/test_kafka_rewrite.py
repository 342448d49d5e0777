"""What a restore sends, for any backup: exactly what consumers saw, in order, as a broker will take it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.kafka_restore import STINT, Stored, records_of, sent, whole, with_attributes

from tallykeep.systems.kafka.restoring.choosing import Window
from tallykeep.systems.kafka.segment import SegmentBuilder
from tallykeep.systems.kafka.wire import Aborted, Codec, Record, decode_records, encode_batch, only
from tallykeep.systems.kafka.wire.checksum import crc32c
from tallykeep.systems.kafka.wire.header import CONTROL, DELETE_HORIZON, LOG_APPEND_TIME, TRANSACTIONAL
from tallykeep.systems.kafka.wire.slices import joined, slices

optional = st.none() | st.binary(max_size=30)
moments = st.integers(0, 100)


class Made(NamedTuple):
    """One batch of a log and what consumers see of it."""

    data: bytes
    visible: list[Record]
    aborted: Aborted | None = None


@st.composite
def logs(draw: Callable[..., object]) -> list[Made]:
    """Batches of one partition: gapped, with the broker's timestamps, with a horizon, in transactions, with markers."""
    made: list[Made] = []
    offset, open_since = 0, -1
    for _ in range(draw(st.integers(1, 8))):  # type: ignore[call-overload]
        kind = draw(st.sampled_from(["plain", "gapped", "append", "horizon", "transaction", "marker"]))
        steps = draw(st.lists(st.integers(1, 3) if kind == "gapped" else st.just(1), min_size=1, max_size=5))
        offsets = [offset + sum(steps[:index]) for index in range(len(steps))]  # type: ignore[arg-type,index]
        records = [Record(at, draw(moments), draw(optional), draw(optional), ((b"h", None),)) for at in offsets]  # type: ignore[arg-type]
        data = encode_batch(records, draw(st.sampled_from(list(Codec))))  # type: ignore[arg-type]
        offset = offsets[-1] + 1
        if kind == "append":
            late = with_attributes(data, LOG_APPEND_TIME)
            made.append(Made(late, decode_records(only(late))))
        elif kind == "transaction":
            open_since = offsets[0] if open_since < 0 else open_since
            made.append(Made(with_attributes(data, TRANSACTIONAL, producer_id=5, base_sequence=0), records))
        elif kind == "marker" and open_since >= 0:
            offset = offsets[0] + 1
            marker = encode_batch([Record(offsets[0], 0, b"\0\0\0\0", b"")])
            marker = with_attributes(marker, TRANSACTIONAL | CONTROL, producer_id=5)
            aborted = Aborted(5, open_since) if draw(st.booleans()) else None
            made.append(Made(marker, [], aborted))
            open_since = -1
        else:
            made.append(Made(with_attributes(data, DELETE_HORIZON if kind == "horizon" else 0), records))
    if open_since >= 0:  # nothing is backed up beyond an open transaction's beginning, so it ends
        marker = with_attributes(encode_batch([Record(offset, 0, b"", b"")]), TRANSACTIONAL | CONTROL, producer_id=5)
        made.append(Made(marker, [], Aborted(5, open_since)))
    return made


def visible(log: list[Made], window: Window) -> list[Record]:
    """What a reader of committed records sees, by the ends of transactions that the log was made with."""
    found = list[Record]()
    ends = [(only(made.data).header.base_offset, made.aborted) for made in log if made.aborted]
    for made in log:
        header = only(made.data).header
        hidden = header.is_transactional and any(a.first_offset <= header.base_offset < end for end, a in ends)
        found += [] if hidden else [record for record in made.visible if record.timestamp in window]
    return found


async def stored(log: list[Made], cuts: set[int], pack: Codec) -> Stored:
    """Segments of the log, a new one before each batch whose number is in `cuts`."""
    backup, builder = Stored(), SegmentBuilder("t", "0" * 32, 0, 0, pack=pack)
    for number, made in enumerate(log):
        batch = only(made.data)
        if number in cuts and builder.size:
            await backup.add(builder.seal())
            builder = SegmentBuilder("t", "0" * 32, 0, builder.end, pack=pack)
        builder.add(batch, min_timestamp=min((record.timestamp for record in made.visible), default=0))
        for other in log:  # a broker names those that reach into what was fetched
            if (
                other.aborted
                and other.aborted.first_offset <= batch.header.last_offset <= only(other.data).header.base_offset
            ):
                builder.aborted([other.aborted])
    await backup.add(builder.seal())
    return backup


packs = st.sampled_from([Codec.NONE, Codec.LZ4, Codec.ZSTD])
windows = st.just(Window()) | st.tuples(moments, moments).map(lambda pair: Window(min(pair), max(pair)))


@settings(deadline=None)
@given(logs(), st.sets(st.integers(1, 7)), packs, windows, st.integers(150, 500), st.integers(0, 20))
def test_exactly_what_consumers_saw(
    log: list[Made], cuts: set[int], pack: Codec, window: Window, largest: int, step: int
) -> None:
    """Records, timestamps and headers are equal; offsets have no holes; the map leads from each to each; a resume
    sends the rest of the same bytes."""
    wanted = visible(log, window)

    async def scenario() -> None:
        backup = await stored(log, cuts, pack)
        found, runs = await sent(backup, window=window, largest=largest)
        records = [record for one in found for record in records_of(one)]
        assert [r._replace(offset=0) for r in records] == [r._replace(offset=0) for r in wanted]
        assert [record.offset for record in records] == list(range(STINT.start, STINT.start + len(wanted)))
        mapped = [source + index for source, _, count in runs for index in range(count)]
        assert mapped == [record.offset for record in wanted]
        assert [target for _, target, _ in runs] == [
            STINT.start + sum(r[2] for r in runs[:i]) for i in range(len(runs))
        ]
        for one in found:
            header = only(whole(one)).header
            assert (header.base_offset, header.leader_epoch, header.producer_id) == (0, -1, STINT.producer_id)
            assert header.base_sequence == one.offset - STINT.start
            assert not header.is_gapped
            assert not header.attributes & ~0x07
            assert one.size <= largest
        ends = [STINT.start, *(one.end for one in found)]
        resumed, again = await sent(backup, window=window, largest=largest, reached=ends[step % len(ends)])
        assert again == runs
        assert list(map(whole, resumed)) == [whole(one) for one in found if one.offset >= ends[step % len(ends)]]

    asyncio.run(scenario())


@given(logs(), st.sampled_from(list(Codec)))
def test_slices_are_records(log: list[Made], codec: Codec) -> None:
    """A batch joined from slices has the records that decoding finds, one offset behind the other from 0 on."""
    for made in log:
        batch = only(made.data)
        data = bytearray(joined(slices(batch), codec))
        again = only(with_crc(data))
        expected = decode_records(batch)
        assert decode_records(again) == [r._replace(offset=number) for number, r in enumerate(expected)]


def with_crc(data: bytearray) -> bytes:
    data[17:21] = crc32c(memoryview(data)[21:]).to_bytes(4, "big")
    return bytes(data)
