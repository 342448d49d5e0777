"""The chain of one Kafka backup."""

from __future__ import annotations

from tallykeep.storage import chain
from tallykeep.storage.chain import Fenced
from tallykeep.systems.kafka.manifest import Record

__all__ = ["Chain", "Fenced"]


class Chain(chain.Chain[Record]):
    """Its records, in order; what writes them."""

    RECORD = Record
