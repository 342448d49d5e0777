"""Segments made durable: two objects each, created and never changed, and one record for as many as are ready.

The record comes last. Who dies before it leaves objects that nothing names and nothing misses: the next writer starts
from the chain's last record, and objects with the same bytes have the same names.
"""

from __future__ import annotations

from collections.abc import Sequence

from tallykeep.errors import Conflict
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.digest import check_digest
from tallykeep.storage.store import Store
from tallykeep.systems.kafka.chain import Chain
from tallykeep.systems.kafka.manifest import Entry, GapEntry, Record, segment_entry
from tallykeep.systems.kafka.segment import Sealed
from tallykeep.systems.kafka.steps import reached


async def store_segment(store: Store, sealed: Sealed) -> None:
    """Create both objects of a segment; one that is there with these bytes, from before a crash, is as good.

    Raises: IntegrityError where other bytes are there; StoreErrors.
    """
    for key, data, wanted in (
        (sealed.key, sealed.parts, sealed.data_digest),
        (sealed.index_key, [sealed.index_data], sealed.index_digest),
    ):
        try:
            await store.create(key, data)
        except Conflict:
            await in_thread(check_digest, f"{store.name}/{key}", await store.read(key), wanted)
        reached("object stored")


async def commit(store: Store, chain: Chain, segments: Sequence[Sealed], gaps: Sequence[GapEntry] = ()) -> Record:
    """Store `segments`, then commit them and `gaps` in one record, gaps first. Raises: as its two parts do."""
    for sealed in segments:
        await store_segment(store, sealed)
    entries: list[Entry] = [*gaps, *map(segment_entry, segments)]
    return await chain.append(entries)
