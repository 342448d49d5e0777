"""A look at fetched batches before they are kept: every CRC, and with exact accounting what their records come to.

Exact accounting uncompresses each batch, keeping nothing: so its size is counted, its records are gone through and
their least timestamp is found, and the batch is known to be readable. A batch whose bytes are what its producer sent
(the CRC holds) but cannot be read is no reason not to back it up: it is counted as it came, and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tallykeep.systems.kafka.index import UNKNOWN_TIME
from tallykeep.systems.kafka.wire import HEADER_SIZE, Batch, BatchError, Codec
from tallykeep.systems.kafka.wire.codec import pieces
from tallykeep.systems.kafka.wire.timestamps import cheap_least_timestamp, least_timestamp

_HELD = 64 << 20  # bytes of a batch's records that are gone through; of larger ones only the size is counted


class Looked(NamedTuple):
    """What was found, a number for each batch."""

    uncompressed: Sequence[int]  # bytes with the records uncompressed, header included; 0 where not counted
    least: Sequence[int]  # the least timestamp, Unix milliseconds, or UNKNOWN_TIME
    unreadable: Sequence[BatchError]  # batches that cannot be read, whoever produced them so


def look(batches: Sequence[Batch], *, exact: bool) -> Looked:
    """Prove every batch by its CRC; with `exact` count and read it as well. Blocks: call it off the loop.

    Raises: BatchError (checksum).
    """
    for batch in batches:
        batch.check()
    if not exact:
        return Looked([0] * len(batches), [_known(batch) for batch in batches], ())
    sizes, least, unreadable = [], [], []
    for batch in batches:
        try:
            size, moment = _read(batch)
        except BatchError as error:
            size, moment = batch.header.size, _known(batch)
            unreadable.append(error)
        sizes.append(size)
        least.append(moment)
    return Looked(sizes, least, unreadable)


def _read(batch: Batch) -> tuple[int, int]:
    """Bytes uncompressed, and the least timestamp. Raises: BatchError."""
    header = batch.header
    if header.record_count == 0:
        return header.size, header.max_timestamp
    size, records = _records(header.codec, batch.payload)
    moment = least_timestamp(header, records) if records is not None else _known(batch)
    return HEADER_SIZE + size, moment if UNKNOWN_TIME < moment <= header.max_timestamp else UNKNOWN_TIME


def _records(codec: Codec, payload: memoryview) -> tuple[int, bytes | memoryview | None]:
    """The size of the records, and the records themselves, or None where they are too large to be held."""
    if codec is Codec.NONE:
        return len(payload), payload
    size, held = 0, []
    for piece in pieces(codec, payload):
        size += len(piece)
        held.append(piece)
        if size > _HELD:
            held.clear()
    if size > _HELD:
        return size, None
    return size, held[0] if len(held) == 1 else b"".join(held)


def _known(batch: Batch) -> int:
    known = cheap_least_timestamp(batch.header)
    return UNKNOWN_TIME if known is None else known
