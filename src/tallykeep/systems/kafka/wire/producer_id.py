"""InitProducerId, version 1: an id of our own, under which a broker knows our batches again.

Any broker answers it. Source: Apache Kafka protocol guide, InitProducerIdRequest; KIP-98.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tallykeep.errors import Malformed

API_KEY, VERSION = 22, 1

_REQUEST = struct.Struct(">hi")  # length of the transactional id (-1: none), its time-out
_RESPONSE = struct.Struct(">ihqh")  # throttle, error, id, epoch
_NO_TIMEOUT = 60_000  # milliseconds; only transactions have use for it


class ProducerId(NamedTuple):
    """A broker's answer."""

    error: int  # Kafka's error code; 0: none
    producer_id: int
    epoch: int


def producer_id_request() -> bytes:
    """The body of a request for a new id, not for transactions."""
    return _REQUEST.pack(-1, _NO_TIMEOUT)


def producer_id_response(data: memoryview) -> ProducerId:
    """The answer in `data`, a response without its header. Raises: Malformed."""
    try:
        _, error, producer_id, epoch = _RESPONSE.unpack_from(data)
    except struct.error as problem:
        raise Malformed(f"the broker's answer to an InitProducerId request does not parse: {problem}") from None
    return ProducerId(error, producer_id, epoch)
