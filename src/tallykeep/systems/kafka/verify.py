"""A target read back and held against the backup, batch by batch.

The backup is read again, so what is compared is what will be found, not what is remembered of it. Where a broker kept
a batch as it was sent, the checksums tell; where it made another one of it, as it does to compress it anew, the records
are compared one by one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tallykeep.clock import Clock
from tallykeep.errors import RestoreError, SourceError
from tallykeep.runtime.backoff import Backoff
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.producing import Leaders, Requests
from tallykeep.systems.kafka.replies import failure
from tallykeep.systems.kafka.restoring.outgoing import Outgoing, unexpected_end
from tallykeep.systems.kafka.restoring.stream import PartitionStream
from tallykeep.systems.kafka.wire import Batch, decode_records, only, walk
from tallykeep.systems.kafka.wire.fetch import API_KEY, VERSION, fetch_request, fetch_response

FETCH = 4 << 20  # bytes
_TRIES = 8


class Reader:
    """Reads target partitions back."""

    def __init__(self, requests: Requests, leaders: Leaders, clock: Clock, timeout: float = 30.0) -> None:
        self._requests = requests
        self._leaders = leaders
        self._clock = clock
        self._timeout = timeout

    async def batches(self, place: Place, start: int, end: int) -> AsyncIterator[list[Batch]]:
        """Those from offset `start` to `end`, checked. Raises: RestoreError where the log ends before; SourceErrors."""
        while start < end:
            found = await in_thread(_checked, await self._records(place, start), start, end)
            if not found:
                raise RestoreError(f"{place}: there is nothing at offset {start}, and it was restored to {end}.")
            yield found
            start = found[-1].header.last_offset + 1

    async def _records(self, place: Place, offset: int) -> memoryview:
        """What a Fetch brings, tried again while that makes sense."""
        backoff, tries = Backoff(0.2, 5.0), 0
        while True:
            try:
                return await self._fetch(place, offset, again=tries > 0)
            except SourceError as error:
                tries += 1
                if error.retry is None or tries == _TRIES:
                    raise
            await self._clock.sleep(backoff.delay())

    async def _fetch(self, place: Place, offset: int, *, again: bool) -> memoryview:
        address = await self._leaders.leader(place, again=again)
        body = fetch_request({place.topic: [(place.partition, offset)]}, max_bytes=FETCH, partition_max_bytes=FETCH)
        data = await self._requests.request(address, 1, API_KEY, VERSION, body, timeout=self._timeout)
        answer = fetch_response(data)
        for found in answer.partitions:
            if found.error:
                raise failure(found.error, str(place))
            return found.records
        raise failure(answer.error, str(place))


async def compare(
    stream: PartitionStream, reader: Reader, place: Place, start: int, end: int, *, whole: bool = True
) -> int:
    """Records of the target from `start` to `end`, each equal to what `stream` says should be there.

    `whole`: nothing is missing behind them. Raises: RestoreError, naming the first offset that is not as it should
    be; SourceErrors; StoreErrors.
    """
    wanted: list[Outgoing] = []
    stored: list[Batch] = []
    back = reader.batches(place, start, end)
    async for batches in stream.batches():
        if whole and batches and batches[-1].end > end:
            raise RestoreError(f"{place}: it ends at offset {end}, and was restored beyond {batches[-1].end - 1}.")
        if crossing := next((one for one in batches if one.offset < end < one.end), None):
            raise RestoreError(f"{place}: {unexpected_end(end, crossing)}")
        wanted += [one for one in batches if one.offset < end]
        while wanted and (not stored or stored[-1].header.last_offset + 1 < wanted[-1].end):
            more = await _next(back)
            if not more:
                raise RestoreError(f"{place}: it ends before offset {wanted[-1].end}, which was restored.")
            stored += more
        done = await in_thread(_compared, place, wanted, stored)
        del wanted[:done], stored[:done]
        if not whole and batches and batches[-1].end >= end:
            break
    if stored or wanted or await _next(back):
        raise RestoreError(f"{place}: it does not hold what the backup does up to offset {end}.")
    return end - start


async def _next(batches: AsyncIterator[list[Batch]]) -> list[Batch]:
    """None any more: an empty list."""
    async for found in batches:
        return found
    return []


def _checked(records: memoryview, start: int, end: int) -> list[Batch]:
    found = []
    for batch in walk(records):
        if start <= batch.header.base_offset < end:
            batch.check()
            found.append(batch)
    return found


def _compared(place: Place, wanted: Sequence[Outgoing], stored: Sequence[Batch]) -> int:
    """How many batches were compared: as many as there are of both."""
    pairs = list(zip(wanted, stored, strict=False))
    for one, batch in pairs:
        if not _same(one, batch):
            raise RestoreError(
                f"{place}: what is stored at offset {batch.header.base_offset} is not what the backup has for offset "
                f"{one.offset}: something else has written to it, or the broker has changed it."
            )
    return len(pairs)


def _same(one: Outgoing, batch: Batch) -> bool:
    header = batch.header
    if (header.base_offset, header.record_count, header.last_offset + 1) != (one.offset, one.records, one.end):
        return False
    if header.crc == int.from_bytes(one.head[17:21], "big"):
        return True
    sent = only(one.head + bytes(one.payload))
    return [_without_offset(r) for r in decode_records(sent)] == [_without_offset(r) for r in decode_records(batch)]


def _without_offset(record: tuple[object, ...]) -> tuple[object, ...]:
    return record[1:]
