"""DescribeProducers, version 0: what a partition's leader remembers of those who write to it. Brokers from 2.8 on.

It is a flexible API: its header and each structure end with tagged fields, of which there are none here, and lengths
are unsigned varints of one more. So the body of the request begins with the empty tags of the header, and that of the
answer too. Source: Apache Kafka protocol guide; KIP-482, KIP-664.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tallykeep.errors import Malformed
from tallykeep.systems.kafka.wire.reader import Reader

API_KEY, VERSION = 61, 0

_BYTE = struct.Struct(">B")
_INT = struct.Struct(">i")
_SHORT = struct.Struct(">h")
_PRODUCER = struct.Struct(">qiiqiq")  # id, epoch, last sequence, last timestamp, coordinator epoch, transaction start
_NO_TAGS = b"\0"


class ActiveProducer(NamedTuple):
    """Somebody who writes, or did not long ago."""

    producer_id: int
    epoch: int
    last_sequence: int  # -1: none


class Described(NamedTuple):
    """A leader's answer for one partition."""

    topic: str
    partition: int
    error: int
    producers: list[ActiveProducer]


def describe_producers_request(places: Mapping[str, Iterable[int]]) -> bytes:
    """The body of a request for {topic: partitions}."""
    out = bytearray(_NO_TAGS)
    out += _length(len(places))
    for topic, partitions in places.items():
        name, wanted = topic.encode(), [_INT.pack(partition) for partition in partitions]
        out += _length(len(name)) + name + _length(len(wanted)) + b"".join(wanted) + _NO_TAGS
    return bytes(out + _NO_TAGS)


def describe_producers_response(data: memoryview) -> list[Described]:
    """The answer in `data`. Raises: Malformed."""
    try:
        reader = _Reader(data)
        reader.tags()
        reader.unpack(_INT)  # throttle
        return [found for _ in range(reader.length()) for found in _topic(reader)]
    except (struct.error, IndexError, ValueError) as error:
        raise Malformed(f"the broker's answer to a DescribeProducers request does not parse: {error}") from None


def _topic(reader: _Reader) -> list[Described]:
    topic = reader.string()
    found = [_partition(reader, topic) for _ in range(reader.length())]
    reader.tags()
    return found


def _partition(reader: _Reader, topic: str) -> Described:
    (partition,), (error,) = reader.unpack(_INT), reader.unpack(_SHORT)
    reader.string()  # its message
    producers = []
    for _ in range(reader.length()):
        producer_id, epoch, sequence, _, _, _ = reader.unpack(_PRODUCER)
        producers.append(ActiveProducer(producer_id, epoch, sequence))
        reader.tags()
    reader.tags()
    return Described(topic, partition, error, producers)


def _length(count: int) -> bytes:
    """One more than a count, seven bits a byte."""
    out, rest = bytearray(), count + 1
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


class _Reader(Reader):
    """The same in the flexible encoding."""

    def length(self) -> int:
        """A count of what follows; null counts as none."""
        count = max(self._varint() - 1, 0)
        if count > self.left:
            raise ValueError(f"{count} are said to follow where {self.left} bytes do")
        return count

    def string(self) -> str:
        return str(self.take(self.length()), "utf-8")

    def tags(self) -> None:
        """Skip them."""
        for _ in range(self._varint()):
            self._varint()
            self.take(self._varint())

    def _varint(self) -> int:
        value = shift = 0
        while True:
            (byte,) = self.unpack(_BYTE)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
