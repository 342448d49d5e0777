"""What a run wrote down of the cluster before it took anything: topics, their settings, groups, and the cut.

One JSON object for each run, named by its hash in the manifest. The offsets of groups were read before the cut was
taken, so that none lies behind it. What was then taken is the manifest's business: a run that was killed has a
snapshot and only part of what it speaks of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from tallykeep.errors import IntegrityError
from tallykeep.storage.digest import digest
from tallykeep.systems.kafka.manifest import FORMAT, SnapshotEntry

FOLDER = "snapshots/"


class SnapshotPartition(NamedTuple):
    """A partition: what there was of it, and what the run was to take."""

    partition: int
    log_start: int  # first offset that the cluster had
    start: int  # checkpoint before the run
    end: int  # the cut: offset behind the last that the run was to take (the last stable offset)
    high_watermark: int


@dataclass(frozen=True, slots=True)
class SnapshotTopic:
    """A topic, as it would have to be created again."""

    name: str
    topic_id: str  # 32 hex digits
    replication_factor: int
    configs: Mapping[str, str]  # what was set for the topic itself, without defaults
    partitions: Sequence[SnapshotPartition]


class SnapshotOffset(NamedTuple):
    """How far a group had come in a partition."""

    topic: str
    partition: int
    offset: int  # of the next record to be read
    metadata: str
    leader_epoch: int  # -1: not known


@dataclass(frozen=True, slots=True)
class SnapshotGroup:
    """A consumer group."""

    name: str
    state: str  # as Kafka names it: Stable, Empty, ...
    protocol_type: str
    offsets: Sequence[SnapshotOffset]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run's view of its cluster."""

    run: str  # nonce, 32 hex digits
    cluster_id: str
    bootstrap: str  # HOST:PORT,...
    time: float  # Unix seconds, of the cut
    mode: str  # full: nothing had been backed up before; incremental
    topics: Sequence[SnapshotTopic]
    groups: Sequence[SnapshotGroup]

    def topic(self, name: str) -> SnapshotTopic | None:
        """The topic of that name, if the run had it."""
        return next((topic for topic in self.topics if topic.name == name), None)

    def encode(self) -> bytes:
        """The object. Blocks for large clusters: call it off the loop."""
        body = {
            "format": FORMAT, "run": self.run, "cluster_id": self.cluster_id, "bootstrap": self.bootstrap,
            "time": self.time, "mode": self.mode, "topics": list(map(_topic_body, self.topics)),
            "groups": list(map(_group_body, self.groups)),
        }  # fmt: skip
        return json.dumps(body, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes, name: str) -> Snapshot:
        """The snapshot in `data`, whose hash has been checked; `name` is for messages. Raises: IntegrityError."""
        try:
            return cls._decode(json.loads(data))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise IntegrityError(f"{name}: not a snapshot of a cluster, or not as it was written: {error}") from None

    @classmethod
    def _decode(cls, body: Any) -> Snapshot:
        if (found := body["format"]) != FORMAT:
            raise ValueError(f"its format is {found!r}, not {FORMAT!r}; a newer tallykeep may read it")
        return cls(
            str(body["run"]), str(body["cluster_id"]), str(body["bootstrap"]), float(body["time"]), str(body["mode"]),
            list(map(_topic, body["topics"])), list(map(_group, body["groups"])),
        )  # fmt: skip

    def entry(self, data: bytes) -> SnapshotEntry:
        """What the manifest says of it; `data` is what `encode` made."""
        mark = digest(data)
        return SnapshotEntry(
            self.run, f"{FOLDER}{self.run}-{mark.rpartition(':')[2][:16]}.json", mark, len(data),
            len(self.topics), sum(len(topic.partitions) for topic in self.topics), len(self.groups),
        )  # fmt: skip


def _topic_body(topic: SnapshotTopic) -> dict[str, Any]:
    return asdict(topic) | {"partitions": [part._asdict() for part in topic.partitions]}


def _group_body(group: SnapshotGroup) -> dict[str, Any]:
    return asdict(group) | {"offsets": [offset._asdict() for offset in group.offsets]}


def _topic(body: Any) -> SnapshotTopic:
    configs = {str(name): str(value) for name, value in body["configs"].items()}
    partitions = [SnapshotPartition(**part) for part in body["partitions"]]
    return SnapshotTopic(
        str(body["name"]), str(body["topic_id"]), int(body["replication_factor"]), configs, partitions
    )  # fmt: skip


def _group(body: Any) -> SnapshotGroup:
    offsets = [SnapshotOffset(**offset) for offset in body["offsets"]]
    return SnapshotGroup(str(body["name"]), str(body["state"]), str(body["protocol_type"]), offsets)
