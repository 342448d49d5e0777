"""InitProducerId, version 4: an id of our own, under which a broker knows our batches again. Brokers from 2.7 on.

It is a flexible API: its header and its body end with tagged fields, of which there are none here, so that the body
of the request begins with the empty tags of the header, and that of the answer too.
Source: Apache Kafka protocol guide, InitProducerIdRequest; KIP-98, KIP-482.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tallykeep.errors import Malformed

API_KEY, VERSION = 22, 4

_REQUEST = struct.Struct(">BBiqhB")  # tags, no transactional id, its time-out, no id yet, no epoch yet, tags
_RESPONSE = struct.Struct(">xihqh")  # tags, throttle, error, id, epoch
_NO_TIMEOUT = 60_000  # milliseconds; only transactions have use for it


class ProducerId(NamedTuple):
    """A broker's answer."""

    error: int  # Kafka's error code; 0: none
    producer_id: int
    epoch: int


def producer_id_request() -> bytes:
    """The body of a request for a new id, not for transactions."""
    return _REQUEST.pack(0, 0, _NO_TIMEOUT, -1, -1, 0)


def producer_id_response(data: memoryview) -> ProducerId:
    """The answer in `data`, a response without its header. Raises: Malformed."""
    try:
        _, error, producer_id, epoch = _RESPONSE.unpack_from(data)
    except struct.error as problem:
        raise Malformed(f"the broker's answer to an InitProducerId request does not parse: {problem}") from None
    return ProducerId(error, producer_id, epoch)
