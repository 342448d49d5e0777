"""A backup as it is read: its chain, what it adds up to, and its objects, each proved by its hash before it is used.

Nothing here writes. The figures all come from the manifest, so that a list or a plan costs no more than the chain;
an index or a segment is read when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tallykeep.clock import Clock
from tallykeep.errors import IntegrityError, NotFound
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.digest import check_digest
from tallykeep.storage.store import Store
from tallykeep.systems.kafka.chain import Chain
from tallykeep.systems.kafka.failures import NoBackup
from tallykeep.systems.kafka.held import Held, Incarnation, add_up
from tallykeep.systems.kafka.index import SegmentIndex
from tallykeep.systems.kafka.manifest import FOLDER, CompleteEntry, Record, SegmentEntry, SnapshotEntry, key_of
from tallykeep.systems.kafka.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class BackupSet:
    """One backup, as far as `records` go."""

    store: Store
    chain: Chain
    records: Sequence[Record]
    held: dict[Incarnation, Held]
    snapshots: list[SnapshotEntry]  # oldest first: one for each run that began
    completed: dict[str, CompleteEntry]  # by run: those that reached their cut

    @classmethod
    async def open(cls, store: Store, clock: Clock, *, upto: int | None = None) -> BackupSet:
        """The backup in `store`; with `upto`, as it was after the record of that number.

        Raises: NotFound where there is none; IntegrityError, naming the record, where one is missing or not as it was
        written; StoreErrors.
        """
        chain = await Chain.open(store, clock)
        if not chain.records:
            raise NoBackup(f"{store.name} holds no backup: there is no {key_of(1)}. See `tallykeep kafka list`.")
        return await in_thread(_added_up, store, chain, upto)

    @property
    def sequence(self) -> int:
        """Number of the last record."""
        return len(self.records)

    async def snapshot(self, entry: SnapshotEntry | None = None) -> Snapshot:
        """What a run wrote down of the cluster before it began; the newest run's by default.

        Raises: NotFound where no run wrote one; IntegrityError; StoreErrors.
        """
        if entry is None and not self.snapshots:
            raise NotFound(f"{self.store.name}: no run of this backup came as far as its snapshot of the cluster.")
        wanted = entry or self.snapshots[-1]
        data = await self._read(wanted.key, wanted.hash)
        return await in_thread(Snapshot.decode, data, self.name_of(wanted.key))

    def newest_incarnation(self, topic: str) -> str:
        """Topic id under which the topic was backed up last. Raises: NotFound."""
        found = [place.topic_id for place in self.held if place.topic == topic]
        if not found:
            raise NotFound(f"{self.store.name}: topic {topic!r} is not in this backup. See `tallykeep kafka describe`.")
        return found[-1]

    async def index(self, entry: SegmentEntry) -> SegmentIndex:
        """The index of a segment. Raises: IntegrityError, naming the object; StoreErrors."""
        data = await self._read(entry.index_key, entry.index_hash)
        return await in_thread(_index, data, entry, self.name_of(entry.index_key))

    async def segment(self, entry: SegmentEntry) -> tuple[SegmentIndex, bytes]:
        """The index of a segment and its object. Raises: IntegrityError, naming the object; StoreErrors."""
        return await self.index(entry), await self._read(entry.key, entry.hash)

    def name_of(self, key: str) -> str:
        """An object's name for messages."""
        return f"{self.store.name}/{key}"

    async def _read(self, key: str, wanted: str) -> bytes:
        data = await self.store.read(key)
        await in_thread(check_digest, self.name_of(key), data, wanted)
        return data


def _added_up(store: Store, chain: Chain, upto: int | None) -> BackupSet:
    if upto is not None and upto > len(chain.records):
        raise IntegrityError(
            f"{store.name}/{FOLDER} ends at record {len(chain.records)}, and there was a record {upto}: the last ones "
            "are gone: bring the manifest back from a copy of the backup."
        )
    records = chain.records[:upto]
    entries = [entry for record in records for entry in record.entries]
    snapshots = [entry for entry in entries if isinstance(entry, SnapshotEntry)]
    completed = {entry.run: entry for entry in entries if isinstance(entry, CompleteEntry)}
    return BackupSet(store, chain, records, add_up(records), snapshots, completed)


def _index(data: bytes, entry: SegmentEntry, name: str) -> SegmentIndex:
    index = SegmentIndex.decode(data, name)
    found = (index.topic, index.topic_id, index.partition, index.start, index.end, index.records, index.raw)
    if found != (entry.topic, entry.topic_id, entry.partition, entry.start, entry.end, entry.records, entry.raw):
        raise IntegrityError(f"{name}: it is the index of another segment than the manifest says.")
    return index
