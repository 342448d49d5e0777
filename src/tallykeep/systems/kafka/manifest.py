"""Records of the manifest: what a backup consists of, as a chain in which each names the hash of the one before.

A record is one object, created and never changed, named by its sequence number alone. It says who wrote it (epoch,
nonce) and what it adds, and closes with its own hash. The first of every writer is a fence, of an epoch that was not
there before: from then on older writers cannot add anything. What the records add up to is the truth about the
backup; the last of them is its checkpoint. Reading and appending is the business of
storage/chain.py; docs/formats/krb1.md has
the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tallykeep.storage.chain_record import FOLDER, ChainRecord, check_link, key_of
from tallykeep.systems.kafka.index import UNKNOWN_TIME
from tallykeep.systems.kafka.segment import Sealed

__all__ = [
    "FOLDER",
    "FORMAT",
    "CompleteEntry",
    "Entry",
    "GapEntry",
    "Placed",
    "Record",
    "SegmentEntry",
    "SnapshotEntry",
    "StartEntry",
    "check_link",
    "key_of",
    "segment_entry",
]

FORMAT = "KRB1"


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A segment that is durable: its two objects, and what restores and reports need to know without reading them."""

    topic: str
    topic_id: str
    partition: int
    start: int  # offset from which it vouches for the partition
    end: int  # offset behind the last for which it does
    records: int
    min_timestamp: int | None  # Unix milliseconds; None: not known, but not after the maximum
    max_timestamp: int  # Unix milliseconds; -1 without records
    stored: int  # bytes of the object
    raw: int  # bytes of the batches as they came
    uncompressed: int  # bytes of the batches uncompressed; 0 where they were not counted
    key: str
    hash: str
    index_key: str
    index_hash: str
    index_size: int  # bytes
    last_end: int = -1  # offset behind its last batch; -1: it has none, or it is not known
    last_epoch: int = -1  # leader epoch of that batch; -1: not known


@dataclass(frozen=True, slots=True)
class GapEntry:
    """Offsets that were gone before they could be backed up."""

    topic: str
    topic_id: str
    partition: int
    start: int  # first offset that is missing
    end: int  # offset behind the last
    reason: str  # "log_start": the log's start had moved past the checkpoint


@dataclass(frozen=True, slots=True)
class StartEntry:
    """Where the backup of a partition begins: what came before was not asked for, or was gone before the first run."""

    topic: str
    topic_id: str
    partition: int
    start: int  # offset of the first record that is to be backed up

    @property
    def end(self) -> int:
        """Where the next entry of the partition has to begin."""
        return self.start


@dataclass(frozen=True, slots=True)
class SnapshotEntry:
    """A run that began, and the object in which it wrote down the cluster; it comes before all data of the run."""

    run: str  # nonce of the run: 32 hex digits
    key: str
    hash: str
    size: int  # bytes
    topics: int
    partitions: int
    groups: int


@dataclass(frozen=True, slots=True)
class CompleteEntry:
    """A run that has reached its cut in every partition, and what it added."""

    run: str
    records: int
    bytes: int  # of the batches, uncompressed as far as they were counted, else as they came
    stored: int  # bytes of segments
    seconds: float  # how long it took


Placed = SegmentEntry | GapEntry | StartEntry  # entries of a partition: each begins where the one before ended
Entry = Placed | SnapshotEntry | CompleteEntry


@dataclass(frozen=True, slots=True)
class Record(ChainRecord[Entry]):
    """One link of the chain."""

    FORMAT: ClassVar[str] = FORMAT
    KINDS: ClassVar[Mapping[str, type[Entry]]] = {
        "segment": SegmentEntry,
        "gap": GapEntry,
        "start": StartEntry,
        "snapshot": SnapshotEntry,
        "complete": CompleteEntry,
    }


def segment_entry(sealed: Sealed) -> SegmentEntry:
    """What the manifest says of a segment once both its objects are durable."""
    index = sealed.index
    last = index.rows[-1] if index.rows else None
    least = None if index.min_timestamp == UNKNOWN_TIME else index.min_timestamp
    return SegmentEntry(
        index.topic, index.topic_id, index.partition, index.start, index.end, index.records,
        least, index.max_timestamp, sealed.stored, index.raw, index.uncompressed,
        sealed.key, sealed.data_digest, sealed.index_key, sealed.index_digest, len(sealed.index_data),
        last.last_offset + 1 if last else -1, last.leader_epoch if last else -1,
    )  # fmt: skip
