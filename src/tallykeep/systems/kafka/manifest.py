"""Records of the manifest: what a backup consists of, as a chain in which each names the hash of the one before.

A record is one object, created and never changed, named by its sequence number alone. It says who wrote it (epoch,
nonce) and what it adds, and closes with its own hash. The first of every writer is a fence, of an epoch that was not
there before: from then on older writers cannot add anything. What the records add up to is the truth about the
backup; the last of them is its checkpoint. Reading and appending is chain.py's business; docs/formats/krb1.md has
the fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tallykeep.errors import IntegrityError
from tallykeep.systems.kafka.digest import digest
from tallykeep.systems.kafka.index import UNKNOWN_TIME
from tallykeep.systems.kafka.segment import Sealed

FORMAT = "KRB1"
FOLDER = "manifest/"


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
_KINDS: dict[str, type[Entry]] = {
    "segment": SegmentEntry,
    "gap": GapEntry,
    "start": StartEntry,
    "snapshot": SnapshotEntry,
    "complete": CompleteEntry,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class Record:
    """One link of the chain."""

    sequence: int  # from 1, without holes
    epoch: int  # of its writer; never falls
    writer: str  # the writer's nonce
    previous: str  # hash of the record before; empty in the first
    time: float  # Unix seconds by the writer's clock: for people, never for decisions
    fence: bool = False  # the first record of a writer; adds nothing else
    entries: tuple[Entry, ...] = ()

    @property
    def key(self) -> str:
        """Where it is stored."""
        return key_of(self.sequence)

    @property
    def hash(self) -> str:
        """What the next record names."""
        return digest(self._body())

    def encode(self) -> bytes:
        """The object: a line of JSON, and a line with its hash."""
        body = self._body()
        return body + _closing(body)

    @classmethod
    def decode(cls, data: bytes, name: str) -> Record:
        """The record in `data`; `name` is for messages. Raises: IntegrityError."""
        try:
            return cls._decode(data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{name}: not a record of the manifest, or not as it was written: {error}") from None

    @classmethod
    def _decode(cls, data: bytes) -> Record:
        line, _, closing = data.partition(b"\n")
        if b"\n" + closing != _closing(line):
            raise ValueError("its hash does not match")
        body = json.loads(line)
        if (found := body.pop("format")) != FORMAT:
            raise ValueError(f"its format is {found!r}, not {FORMAT!r}; a newer tallykeep may read it")
        return cls(entries=tuple(map(_entry, body.pop("entries"))), **body)

    def _body(self) -> bytes:
        entries = [{"kind": _NAMES[type(entry)], **asdict(entry)} for entry in self.entries]
        body = {"format": FORMAT, **_shallow(self), "entries": entries}
        return json.dumps(body, separators=(",", ":")).encode()


def key_of(sequence: int) -> str:
    """Where the record of that number is stored."""
    return f"{FOLDER}{sequence:020d}"


def check_link(record: Record, before: Record | None, name: str) -> None:
    """Prove that `record` follows `before` (None: it is the first). Raises: IntegrityError."""
    if problem := _problem(record, before):
        raise IntegrityError(
            f"{name}: {problem}; this record or the one before it has been changed or replaced: "
            "bring the manifest back from a copy of the backup."
        )


def segment_entry(sealed: Sealed) -> SegmentEntry:
    """What the manifest says of a segment once both its objects are durable."""
    index = sealed.index
    least = None if index.min_timestamp == UNKNOWN_TIME else index.min_timestamp
    return SegmentEntry(
        index.topic, index.topic_id, index.partition, index.start, index.end, index.records,
        least, index.max_timestamp, sealed.stored, index.raw, index.uncompressed,
        sealed.key, sealed.data_digest, sealed.index_key, sealed.index_digest, len(sealed.index_data),
    )  # fmt: skip


def _problem(record: Record, last: Record | None) -> str:
    sequence, epoch, wanted = (last.sequence, last.epoch, last.hash) if last else (0, 0, "")
    if record.sequence != sequence + 1:
        return f"it says it is record {record.sequence} and stands in the place of {sequence + 1}"
    if record.previous != wanted:
        return f"it follows a record with the hash {record.previous or '(none)'}, and the one before has {wanted}"
    if record.fence != (record.epoch > epoch) or record.epoch < epoch:
        return f"it has epoch {record.epoch} after {epoch}, {'with' if record.fence else 'without'} a fence"
    if last and not record.fence and record.writer != last.writer:
        return f"writer {record.writer} goes on in the epoch of writer {last.writer}"
    return ""


def _closing(body: bytes) -> bytes:
    return f'\n{{"hash":"{digest(body)}"}}\n'.encode()


def _entry(body: Mapping[str, Any]) -> Entry:
    values = dict(body)
    kind = _KINDS[values.pop("kind")]
    return kind(**values)


def _shallow(record: Record) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record) if field.name != "entries"}
