"""OffsetForLeaderEpoch, version 3: where a leader's part of a log ends. The last before flexible encoding; from 2.3 on.

A leader epoch is the number of a leader's term. A log that was cut by an unclean election has another history from
the cut on: asked for an epoch that reached further, the broker says where it ends now.
Source: Apache Kafka protocol guide, OffsetForLeaderEpochRequest, ApiVersionsRequest version 0; KIP-101, KIP-320.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tallykeep.errors import Malformed
from tallykeep.systems.kafka.wire.reader import Reader, string

API_KEY, VERSION = 23, 3
VERSIONS_API_KEY, VERSIONS_VERSION = 18, 0
UNDEFINED = -1  # epoch and offset: the log has never had that epoch

_INT = struct.Struct(">i")
_SHORT = struct.Struct(">h")
_WANTED = struct.Struct(">iii")  # partition, current leader epoch, epoch
_PARTITION = struct.Struct(">hiiq")  # error, partition, epoch, end offset
_RANGE = struct.Struct(">hhh")  # API key, lowest version, highest
_CONSUMER = -1  # who asks is no replica
_ANY = -1  # current leader epoch: not known, not checked


class EpochEnd(NamedTuple):
    """A broker's answer for one partition."""

    topic: str
    partition: int
    error: int  # Kafka's error code; 0: none
    epoch: int  # the largest that is not above the one asked for; UNDEFINED
    end: int  # offset behind its last record; UNDEFINED


def epoch_ends_request(epochs: Mapping[str, Iterable[tuple[int, int]]]) -> bytes:
    """The body of a request for {topic: [(partition, leader epoch), ...]}."""
    out = bytearray(_INT.pack(_CONSUMER) + _INT.pack(len(epochs)))
    for topic, partitions in epochs.items():
        wanted = [_WANTED.pack(partition, _ANY, epoch) for partition, epoch in partitions]
        out += string(topic) + _INT.pack(len(wanted)) + b"".join(wanted)
    return bytes(out)


def epoch_ends_response(data: memoryview) -> list[EpochEnd]:
    """The answers in `data`, a response without its header. Raises: Malformed."""
    try:
        reader, found = Reader(data), list[EpochEnd]()
        reader.unpack(_INT)  # throttle
        for _ in range(reader.length()):
            topic = reader.string()
            for _ in range(reader.length()):
                error, partition, epoch, end = reader.unpack(_PARTITION)
                found.append(EpochEnd(topic, partition, error, epoch, end))
    except (struct.error, ValueError) as error_:
        raise Malformed(f"the broker's answer to an OffsetForLeaderEpoch request does not parse: {error_}") from None
    return found


def answers_epochs(data: memoryview) -> bool:
    """Whether the broker takes the request, by its answer to ApiVersions. Raises: Malformed."""
    try:
        reader = Reader(data)
        reader.unpack(_SHORT)  # error: with one, it names what it takes all the same
        ranges = [reader.unpack(_RANGE) for _ in range(reader.length())]
    except (struct.error, ValueError) as error:
        raise Malformed(f"the broker's answer to an ApiVersions request does not parse: {error}") from None
    return any(key == API_KEY and low <= VERSION <= high for key, low, high in ranges)
