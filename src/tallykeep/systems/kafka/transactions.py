"""Which batches belong to aborted transactions: told from headers and from what brokers named in Fetch responses.

A broker names an aborted transaction by its producer and the first offset it wrote; it ends at that producer's next
marker, which is a control batch. Segments repeat each other's lists where a transaction reaches over both.
Source: Apache Kafka, CompletedFetch (consumeAbortedTransactionsUpTo, isBatchAborted).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from tallykeep.systems.kafka.index import Row
from tallykeep.systems.kafka.wire import Aborted
from tallykeep.systems.kafka.wire.header import CONTROL, TRANSACTIONAL


class AbortedTransactions:
    """Goes along one partition, batch by batch from the first of a segment on, and tells what no consumer may see."""

    def __init__(self) -> None:
        self._ahead: list[tuple[int, int]] = []  # heap of (first offset, producer): not reached yet
        self._open: set[int] = set()  # producers in the midst of an aborted transaction
        self._ended: dict[int, int] = {}  # producer: offset of its last marker

    def note(self, transactions: Iterable[Aborted]) -> None:
        """What the next segment's index names; what has ended before is known already."""
        for transaction in transactions:
            if transaction.first_offset > self._ended.get(transaction.producer_id, -1):
                heapq.heappush(self._ahead, (transaction.first_offset, transaction.producer_id))

    def hides(self, row: Row) -> bool:
        """Whether the next batch is a marker or part of an aborted transaction."""
        while self._ahead and self._ahead[0][0] <= row.last_offset:
            self._open.add(heapq.heappop(self._ahead)[1])
        if row.attributes & CONTROL:
            self._open.discard(row.producer_id)
            self._ended[row.producer_id] = row.base_offset
            return True
        return bool(row.attributes & TRANSACTIONAL) and row.producer_id in self._open
