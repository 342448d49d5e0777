"""The Produce request and its response, version 8: the last before flexible encoding, taken by brokers from 2.4 on.

A request is handed on in pieces, so that batches are never joined: what it costs does not grow with what it carries.
One batch for each partition: brokers refuse more. Source: Apache Kafka protocol guide, ProduceRequest and
ProduceResponse.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tallykeep.errors import Malformed
from tallykeep.systems.kafka.wire.reader import Reader

API_KEY, VERSION = 0, 8

Piece = bytes | memoryview

_TOP = struct.Struct(">hhii")  # length of the transactional id (-1: none), acks, time-out, topics
_INT = struct.Struct(">i")
_SHORT = struct.Struct(">h")
_PAIR = struct.Struct(">ii")
_PARTITION = struct.Struct(">ihqqq")  # partition, error, base offset, append time, log start
_RECORD_ERROR = struct.Struct(">i")


class Produced(NamedTuple):
    """What a broker did with the batch for one partition."""

    topic: str
    partition: int
    error: int  # Kafka's error code; 0: none
    base_offset: int  # offset of its first record; -1 where it was not appended
    log_append_time: int  # Unix milliseconds; -1 unless the topic uses it
    log_start: int
    message: str  # why it was refused, where the broker says so


def produce_request(
    batches: Mapping[str, Iterable[tuple[int, Sequence[Piece]]]], *, acks: int = -1, timeout_ms: int
) -> list[Piece]:
    """The body of a request for {topic: [(partition, pieces of one batch), ...]}, in pieces."""
    out: list[Piece] = [_TOP.pack(-1, acks, timeout_ms, len(batches))]
    for topic, partitions in batches.items():
        wanted = list(partitions)
        name = topic.encode()
        out.append(_SHORT.pack(len(name)) + name + _INT.pack(len(wanted)))
        for partition, pieces in wanted:
            out.append(_PAIR.pack(partition, sum(map(len, pieces))))
            out.extend(pieces)
    return out


def produce_response(data: memoryview) -> list[Produced]:
    """The answers in `data`, a response without its header. Raises: Malformed."""
    try:
        reader = Reader(data)
        return [found for _ in range(reader.length()) for found in _topic(reader)]
    except (struct.error, ValueError) as error:
        raise Malformed(f"the broker's answer to a Produce request does not parse: {error}") from None


def _topic(reader: Reader) -> list[Produced]:
    topic = reader.string()
    return [_partition(reader, topic) for _ in range(reader.length())]


def _partition(reader: Reader, topic: str) -> Produced:
    partition, error, base, appended, start = reader.unpack(_PARTITION)
    records = [_record_error(reader) for _ in range(reader.length())]
    message = reader.words()
    return Produced(topic, partition, error, base, appended, start, "; ".join(filter(None, [message, *records])))


def _record_error(reader: Reader) -> str:
    (number,) = reader.unpack(_RECORD_ERROR)
    said = reader.words()
    return f"record {number} of the batch: {said}" if said else ""
