"""The Fetch request and its response, version 11: the last before flexible encoding, answered by brokers from 2.3 on.

A response is read where it lies: its records are views of the bytes that came. Sessions are not used: every request
says all that it wants. Source: Apache Kafka protocol guide, FetchRequest and FetchResponse; RequestHeader version 1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tallykeep.errors import Malformed
from tallykeep.systems.kafka.wire.reader import Reader, string

API_KEY, VERSION = 1, 11
READ_COMMITTED = 1  # so that the broker names aborted transactions and sends nothing beyond the last stable offset
_NO_EPOCH = -1

_REQUEST = struct.Struct(">iiiibii")  # replica, wait, least bytes, most bytes, isolation, session, its epoch
_WANTED = struct.Struct(">iiqqi")  # partition, leader epoch, offset, log start, most bytes
_TOP = struct.Struct(">ihi")  # throttle, error, session
_PARTITION = struct.Struct(">ihqqq")  # partition, error, high watermark, last stable offset, log start
_ABORTED = struct.Struct(">qq")
_INT = struct.Struct(">i")


class Aborted(NamedTuple):
    """An aborted transaction: it ends at its producer's next abort marker."""

    producer_id: int
    first_offset: int


class FetchedPartition(NamedTuple):
    """What a broker sent of one partition."""

    topic: str
    partition: int
    error: int  # Kafka's error code; 0: none
    high_watermark: int
    last_stable_offset: int
    log_start: int
    aborted: Sequence[Aborted]  # within the records
    records: memoryview  # whole batches; the last one may be cut


class Fetched(NamedTuple):
    """A response."""

    throttle_ms: int  # what the broker has delayed it by, and asks to be left alone for
    error: int
    partitions: list[FetchedPartition]


def fetch_request(
    offsets: Mapping[str, Iterable[tuple[int, int]]],
    *,
    max_bytes: int,
    partition_max_bytes: int,
    max_wait_ms: int = 500,
) -> bytes:
    """The body of a request for {topic: [(partition, offset), ...]}: whatever is there, or within `max_wait_ms`."""
    out = bytearray(_REQUEST.pack(-1, max_wait_ms, 1, max_bytes, READ_COMMITTED, 0, -1))
    out += _INT.pack(len(offsets))
    for topic, partitions in offsets.items():
        wanted = [
            _WANTED.pack(partition, _NO_EPOCH, offset, -1, partition_max_bytes) for partition, offset in partitions
        ]
        out += string(topic) + _INT.pack(len(wanted)) + b"".join(wanted)
    return bytes(out + _INT.pack(0) + string(""))  # nothing forgotten, no rack


def fetch_response(data: memoryview) -> Fetched:
    """The response in `data`, without its header. Raises: Malformed."""
    try:
        reader = Reader(data)
        throttle, error, _ = reader.unpack(_TOP)
        partitions: list[FetchedPartition] = []
        for _ in range(reader.length()):
            topic = reader.string()
            partitions += [_partition(reader, topic) for _ in range(reader.length())]
    except (struct.error, ValueError) as error_:
        raise Malformed(f"the broker's answer to a Fetch request does not parse: {error_}") from None
    return Fetched(throttle, error, partitions)


def _partition(reader: Reader, topic: str) -> FetchedPartition:
    partition, error, high, stable, start = reader.unpack(_PARTITION)
    aborted = [Aborted._make(reader.unpack(_ABORTED)) for _ in range(reader.length())]
    reader.unpack(_INT)  # preferred replica: there is no rack to prefer one for
    return FetchedPartition(topic, partition, error, high, stable, start, aborted, reader.take(reader.length()))
