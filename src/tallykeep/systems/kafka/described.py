"""What a cluster says of itself, as plain values: they can be had without its client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tallykeep.systems.kafka.connection import Security


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Where a cluster is and how to come to it."""

    bootstrap: tuple[str, ...]  # HOST:PORT of some of its brokers
    security: Security = field(default_factory=Security)
    timeout: float = 30.0  # seconds for one question


class PartitionInfo(NamedTuple):
    """A partition as the cluster has it now."""

    number: int
    leader: int  # broker id; -1: none
    replicas: int


class Topic(NamedTuple):
    """A topic as the cluster has it now."""

    name: str
    topic_id: str  # 32 hex digits; zeros where the broker has none
    internal: bool
    partitions: tuple[PartitionInfo, ...]


class Committed(NamedTuple):
    """What a group has committed for a partition."""

    offset: int  # of the next record it reads
    metadata: str = ""
    leader_epoch: int = -1  # -1: not known


class Group(NamedTuple):
    """A consumer group."""

    name: str
    state: str  # Stable, Empty, Dead, PreparingRebalance, CompletingRebalance, Unknown
    protocol_type: str
    members: int
