"""One Fetch request for several partitions, and what its answer means for each of them.

Nothing at or behind the cut is taken. A partition that is asked for alone and sends nothing, though the broker has
offsets there, holds nothing any more up to the cut: compaction has removed it. Among others an empty answer means
nothing, since their batches may have filled it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tallykeep.errors import Malformed, SourceError, TallykeepError, Unreachable
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.kafka.brokers import Brokers
from tallykeep.systems.kafka.collecting import Part, Reading
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.replies import failure
from tallykeep.systems.kafka.wire import Batch, BatchError, walk
from tallykeep.systems.kafka.wire.fetch import (
    API_KEY,
    VERSION,
    FetchedPartition,
    fetch_request,
    fetch_response,
)

_LEAST = 64 << 10  # bytes asked for of one partition
_TIMEOUT = 60.0  # seconds for an answer


class Answer(NamedTuple):
    """What came."""

    parts: Sequence[Part]
    throttle: float  # seconds that the broker asks to be left alone for


class Line(NamedTuple):
    """A connection to a broker."""

    brokers: Brokers
    addresses: Mapping[int, tuple[str, int]]  # of every broker, as the cluster has it now
    leader: int  # broker id
    number: int

    async def fetch(self, body: bytes) -> memoryview:
        """The answer's body. Raises: SourceErrors."""
        address = self.addresses.get(self.leader)
        if address is None:
            raise Unreachable(f"broker {self.leader} is not there any more.")
        return await self.brokers.request(address, self.number, API_KEY, VERSION, body, timeout=_TIMEOUT)


async def fetch(line: Line, wanted: Sequence[Reading], max_bytes: int) -> Answer:
    """Ask for what follows in each of `wanted`. An error is told in the parts that it concerns."""
    asked = {reading.place: (reading, reading.position) for reading in wanted}
    share = max(max_bytes // len(asked), _LEAST)
    offsets: dict[str, list[tuple[int, int]]] = {}
    for place, (_, position) in asked.items():
        offsets.setdefault(place.topic, []).append((place.partition, position))
    body = fetch_request(offsets, max_bytes=max_bytes, partition_max_bytes=share)
    try:
        return await in_thread(_understood, await line.fetch(body), asked)
    except SourceError as error:
        return Answer([_failed(reading, at, error) for reading, at in asked.values()], 0.0)


def _failed(reading: Reading, at: int, error: TallykeepError) -> Part:
    """Nothing came of a partition."""
    return Part(reading, at, (), (), at, False, -1, -1, error)


Asked = Mapping[Place, tuple[Reading, int]]


def _understood(data: memoryview, asked: Asked) -> Answer:
    """Headers are read; the rest is left for later. Blocks for a millisecond for a thousand batches."""
    answer = fetch_response(data)
    if answer.error:
        raise failure(answer.error, "Fetch")
    throttle = max(answer.throttle_ms, 0) / 1000
    found = {Place(part.topic, part.partition): part for part in answer.partitions}
    alone = len(asked) == 1
    parts = [_part(found[place], *asked[place], alone=alone) for place in asked if place in found]
    if not throttle:  # a broker that throttles leaves them all out
        parts += [_failed(*asked[place], _nothing(place)) for place in asked if place not in found]
    return Answer(parts, throttle)


def _part(found: FetchedPartition, reading: Reading, at: int, *, alone: bool) -> Part:
    if found.error:
        return _failed(reading, at, failure(found.error, f"Fetch {reading.place} at offset {at}"))
    batches, end, reached, error = _before_cut(found.records, at, reading)
    if error:
        return _failed(reading, at, error)
    if alone and not batches and not reached:
        if found.records:
            return _failed(reading, at, _no_batch(reading, at, len(found.records)))
        if found.last_stable_offset < reading.end:
            return _failed(reading, at, _too_short(reading, at, found.last_stable_offset))
        end, reached = reading.end, True
    return Part(reading, at, batches, found.aborted, end, reached, found.high_watermark, found.last_stable_offset)


def _before_cut(records: memoryview, at: int, reading: Reading) -> tuple[list[Batch], int, bool, BatchError | None]:
    """Whole batches before the cut, where they end, whether the cut is reached, and what is wrong with the next.

    Brokers end batches at the offsets they report. One that reaches over the cut all the same is left to the next run.
    """
    batches: list[Batch] = []
    end = at
    try:
        for batch in walk(records):
            if batch.header.last_offset >= reading.end:
                return batches, max(end, min(batch.header.base_offset, reading.end)), True, None
            if batch.header.last_offset >= at:  # a broker may begin with a batch before the one that was asked for
                batches.append(batch)
                end = batch.header.last_offset + 1
    except BatchError as error:
        return batches, end, False, None if batches else error
    return batches, end, end >= reading.end, None


def _nothing(place: Place) -> TallykeepError:
    return Malformed(f"{place}: the broker's answer to Fetch leaves it out.")


def _no_batch(reading: Reading, at: int, size: int) -> TallykeepError:
    return Malformed(f"{reading.place}: {size} bytes came at offset {at}, and no whole batch.")


def _too_short(reading: Reading, at: int, stable: int) -> TallykeepError:
    return Unreachable(
        f"{reading.place}: the broker has nothing at offset {at} and says that its log is stable to {stable}; "
        f"it was to {reading.end} when the run began."
    )
