"""What a backup is asked for, what it reports while it runs, and what it answers. No settings file is known here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from tallykeep.errors import TallykeepError
from tallykeep.systems.kafka.manifest import GapEntry, SegmentEntry
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.segment import Sizes
from tallykeep.systems.kafka.selecting import Selection
from tallykeep.systems.kafka.wire import Codec
from tallykeep.systems.kafka.wire.codec import ZSTD_LEVEL

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """One run: everything that is selected, from where the backup ends to where the cluster ends when it begins."""

    topics: Selection = field(default_factory=Selection)
    start: Literal["earliest", "latest"] | Mapping[Place, int] = "earliest"  # of topics the backup does not know yet
    groups: bool = True  # whether the offsets of consumer groups are saved as well
    exact: bool = True  # whether uncompressed bytes are counted, and minimum timestamps looked for
    pack: Codec = Codec.NONE  # what batches that came uncompressed are packed with: NONE, LZ4, ZSTD
    level: int = ZSTD_LEVEL  # of zstd, where that packs: 1 to 19
    segment_bytes: int = 64 * MIB  # a segment is closed when it has so many bytes of batches, before packing
    segment_records: int = 0  # or so many records; 0: any number
    segment_seconds: float = 60.0  # or when it has been open so long
    fetch_bytes: int = 16 * MIB  # asked for in one request; an answer is larger only where a single batch is
    partitions: int = 8  # read at the same time
    lanes: int = 2  # connections to each broker
    memory_bytes: int = 256 * MIB  # answers and segments that may be in memory, together
    patience: float = 60.0  # seconds that a partition may make no progress before it is given up


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What a run came to; all that it counts is durable."""

    run: str
    topics: int
    partitions: int
    records: int
    bytes: int  # of the batches, uncompressed as far as they were counted, else as they came
    stored: int  # bytes of segments
    segments: int
    gaps: Sequence[GapEntry]
    new_incarnations: Sequence[str]  # topics that were deleted and made again since the last run
    seconds: float
    interrupted: bool  # it was stopped before it had reached the cut
    unfinished: Mapping[Place, str]  # partitions that did not reach the cut, and why

    @property
    def complete(self) -> bool:
        """Whether every partition has reached the cut."""
        return not self.interrupted and not self.unfinished


class Stored(NamedTuple):
    """A segment of which both objects are durable."""

    entry: SegmentEntry
    algorithms: Mapping[str, Sizes]  # of the object's parts by what they are compressed with


class Figures(Protocol):
    """Who wants to know how a run goes on. Calls are quick and do not raise."""

    def together(self) -> AbstractContextManager[None]:
        """What is told within is one piece of news."""
        ...

    def targeted(self, place: Place, records: int) -> None:
        """How many offsets lie between the checkpoint and the cut."""

    def remaining(self, place: Place, records: int) -> None:
        """How many of them are not committed yet."""

    def lag(self, place: Place, records: int) -> None:
        """How many offsets lie between the last that was read and the high watermark."""

    def unstable(self, place: Place, records: int) -> None:
        """How many offsets lie between the last stable offset and the high watermark."""

    def committed(self, segments: Sequence[Stored]) -> None:
        """Segments that are in the manifest now."""

    def gap(self, entry: GapEntry) -> None:
        """Offsets that were gone."""

    def skipped(self, place: Place, offsets: int) -> None:
        """How many offsets of those gone were passed over."""

    def retried(self, reason: str) -> None:
        """Something is tried again; `reason` is an error's code."""

    def failed(self, error: TallykeepError) -> None:
        """A partition was given up, or the run."""

    def finished(self, status: Literal["success", "failure"]) -> None:
        """The run has ended."""
