"""What engines report to while they run: written into the Book for /metrics, and kept as totals for the display.

Counters count what is durable, or acknowledged. Every series that a run can have is there from its start, at 0, so
that `increase()` sees its first rise.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import ceil
from typing import Literal

from tallykeep.clock import Clock
from tallykeep.errors import TallykeepError, Unavailable
from tallykeep.metrics import Book, Family
from tallykeep.storage.metered import Request
from tallykeep.systems.kafka import families
from tallykeep.systems.kafka.backup_request import Stored
from tallykeep.systems.kafka.failures import code_of
from tallykeep.systems.kafka.manifest import GapEntry
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.rates import Rate

Status = Literal["success", "failure"]
Operation = Literal["backup", "restore", "validate", "offset_reset"]
_LIKELY = (
    "KAFKA_CONNECTION_FAILED", "KAFKA_AUTH_FAILED", "KAFKA_UNAUTHORIZED", "KAFKA_REQUEST_REFUSED",
    "STORAGE_UNAVAILABLE", "STORAGE_ACCESS_DENIED", "VALIDATION_MANIFEST_CORRUPT", "VALIDATION_SEGMENT_CORRUPT",
)  # fmt: skip


@dataclass(slots=True)
class Totals:
    """Where a run stands: for people."""

    target: int = 0  # records (offsets) to be done
    done: int = 0
    records: int = 0
    bytes: int = 0  # uncompressed
    stored: int = 0  # bytes
    lag: dict[Place, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Records that are still to be done."""
        return max(0, self.target - self.done)


class _Run:
    """What backups and restores have in common."""

    def __init__(self, book: Book, operation: Operation, clock: Clock) -> None:
        self.totals = Totals()
        self.book = book
        self.clock = clock
        self.started = clock.monotonic()
        self.records = Rate(self.started)
        self.bytes = Rate(self.started)
        self._operation: Operation = operation
        expect(book, operation)

    def together(self) -> AbstractContextManager[None]:
        """What is told within is one piece of news."""
        return self.book.together()

    def retried(self, reason: str) -> None:
        """Something is tried again; `reason` is an error's code."""
        self.book.add(families.RETRIES, operation=self._operation, reason=reason)

    def failed(self, error: TallykeepError) -> None:
        """Something was given up."""
        self.book.add(families.ERRORS, operation=self._operation, error_type=code_of(error))

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return self.clock.monotonic() - self.started


def expect(book: Book, operation: Operation) -> None:
    """Let the counters of what may go wrong begin at 0."""
    for code in _LIKELY:
        book.add(families.ERRORS, 0, operation=operation, error_type=code)
    for reason in ("unreachable", "refused", "unavailable"):
        book.add(families.RETRIES, 0, operation=operation, reason=reason)


class BackupFigures(_Run):
    """One run of a backup."""

    def __init__(self, book: Book, backup_id: str, clock: Clock) -> None:
        super().__init__(book, "backup", clock)
        self._id = backup_id
        self._targets: dict[Place, int] = {}
        self._remaining: dict[Place, int] = {}
        self._left = 0
        self._by_algorithm: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        self.ticked()

    def targeted(self, place: Place, records: int) -> None:
        """How many offsets lie between the checkpoint and the cut."""
        with self.book.together():
            self.totals.target += records - self._targets.get(place, 0)
            self._targets[place] = records
            for family in (families.RECORDS, families.BACKUP_BYTES, families.SEGMENTS, families.GAPS, families.SKIPPED):
                self._add(family, place, 0)
            self.book.add(families.COMPRESSED, 0, topic=place.topic, backup_id=self._id)
            self.book.set(families.SNAPSHOT_TARGET, self.totals.target, backup_id=self._id)
            self.remaining(place, records)

    def remaining(self, place: Place, records: int) -> None:
        """How many of them are not committed yet."""
        self._left += records - self._remaining.get(place, 0)
        self._remaining[place] = records
        self.totals.done = self.totals.target - self._left
        self.book.set(families.SNAPSHOT_REMAINING, self._left, backup_id=self._id)

    def lag(self, place: Place, records: int) -> None:
        """How many offsets lie between what is durable and the high watermark."""
        self.totals.lag[place] = records
        self._set(families.LAG, place, records)

    def unstable(self, place: Place, records: int) -> None:
        """How many offsets lie between the last stable offset and the high watermark."""
        self._set(families.UNSTABLE, place, records)

    def committed(self, segments: Sequence[Stored]) -> None:
        """Segments that are in the manifest now."""
        with self.book.together():
            for segment in segments:
                self._count(segment)
            for algorithm, (raw, stored) in self._by_algorithm.items():
                self.book.set(families.COMPRESSION, raw / max(1, stored), backup_id=self._id, algorithm=algorithm)
            self.book.set(families.LAST_COMMIT, self.clock.time(), backup_id=self._id)

    def gap(self, entry: GapEntry) -> None:
        """Offsets that were gone."""
        self._add(families.GAPS, Place(entry.topic, entry.partition), 1)

    def skipped(self, place: Place, offsets: int) -> None:
        """How many offsets of those gone were passed over."""
        self._add(families.SKIPPED, place, offsets)

    def finished(self, status: Status) -> None:
        """The run has ended."""
        with self.book.together():
            self.book.observe(families.DURATION, self.seconds, backup_id=self._id, status=status)
            for family in (families.RECORD_RATE, families.BYTE_RATE):
                self.book.set(family, 0, backup_id=self._id)

    def ticked(self) -> None:
        """Bring what changes with time up to date."""
        now = self.clock.monotonic()
        self.book.set(families.RECORD_RATE, self.records.at(now), backup_id=self._id)
        self.book.set(families.BYTE_RATE, self.bytes.at(now), backup_id=self._id)

    def _count(self, segment: Stored) -> None:
        entry, now = segment.entry, self.clock.monotonic()
        size = entry.uncompressed or entry.raw
        place = Place(entry.topic, entry.partition)
        self._add(families.RECORDS, place, entry.records)
        self._add(families.BACKUP_BYTES, place, size)
        self._add(families.SEGMENTS, place, 1)
        self.book.add(families.COMPRESSED, entry.stored, topic=entry.topic, backup_id=self._id)
        self.records.add(now, entry.records)
        self.bytes.add(now, size)
        totals = self.totals
        totals.records, totals.bytes = totals.records + entry.records, totals.bytes + size
        totals.stored += entry.stored
        for algorithm, sizes in segment.algorithms.items():
            found = self._by_algorithm[algorithm]
            found[0], found[1] = found[0] + sizes.raw, found[1] + sizes.stored

    def _add(self, family: Family, place: Place, amount: float) -> None:
        self.book.add(family, amount, topic=place.topic, partition=place.partition, backup_id=self._id)

    def _set(self, family: Family, place: Place, value: float) -> None:
        self.book.set(family, value, topic=place.topic, partition=place.partition, backup_id=self._id)


class RestoreFigures(_Run):
    """One restore."""

    def __init__(self, book: Book, backup_id: str, clock: Clock) -> None:
        super().__init__(book, "restore", clock)
        self._id = backup_id
        self.ticked()

    def targeted(self, records: int) -> None:
        """How many records are to be sent, at the most."""
        self.totals.target = records
        self.ticked()

    def restored(self, place: Place, records: int, bytes: int) -> None:
        """Records that a partition of the target has acknowledged."""
        now = self.clock.monotonic()
        where = {"topic": place.topic, "backup_id": self._id}
        self.book.add(families.RESTORED, records, partition=place.partition, **where)
        self.book.add(families.RESTORED_BYTES, bytes, **where)
        self.records.add(now, records)
        self.bytes.add(now, bytes)
        totals = self.totals
        totals.done, totals.records, totals.bytes = (
            totals.done + records,
            totals.records + records,
            totals.bytes + bytes,
        )

    def finished(self, status: Status) -> None:
        """It has ended."""
        with self.book.together():
            self.book.observe(families.RESTORE_DURATION, self.seconds, backup_id=self._id, status=status)
            self.ticked()
            if status == "success":
                self.book.set(families.RESTORE_PROGRESS, 100, backup_id=self._id)
            self.book.set(families.RESTORE_RATE, 0, backup_id=self._id)
            self.book.set(families.RESTORE_ETA, 0, backup_id=self._id)

    def ticked(self) -> None:
        """Bring what changes with time up to date."""
        totals, rate = self.totals, self.records.at(self.clock.monotonic())
        percent = 100 * totals.done / totals.target if totals.target else 0.0
        self.book.set(families.RESTORE_PROGRESS, min(100.0, percent), backup_id=self._id)
        self.book.set(families.RESTORE_RATE, rate, backup_id=self._id)
        if rate:
            self.book.set(families.RESTORE_ETA, totals.left / rate, backup_id=self._id)


class ResetFigures:
    """Offsets of consumer groups being set."""

    def __init__(self, book: Book) -> None:
        self._book = book
        expect(book, "offset_reset")
        self._latencies: dict[str, list[float]] = defaultdict(list)

    def reset(self, group: str, place: Place, seconds: float, status: Status) -> None:
        """The offset of one partition was set, or was not, within `seconds`."""
        with self._book.together():
            self._book.add(families.RESET_PARTITIONS, consumer_group=group, status=status)
            self._book.observe(families.RESET_LATENCY, seconds, consumer_group=group)
            insort(self._latencies[group], seconds)

    def finished(self, group: str, seconds: float, status: Status) -> None:
        """A group is done."""
        with self._book.together():
            self._book.observe(families.RESET_DURATION, seconds, consumer_group=group, status=status)
            latencies = self._latencies[group]
            for percentile in (50, 90, 99) if latencies else ():
                value = latencies[ceil(len(latencies) * percentile / 100) - 1]
                self._book.set(families.RESET_PERCENTILE, value, consumer_group=group, percentile=f"p{percentile}")

    def failed(self, error: TallykeepError) -> None:
        """A group was given up."""
        self._book.add(families.ERRORS, operation="offset_reset", error_type=code_of(error))


class StorageFigures:
    """Requests to storage: what a MeteredStore reports to."""

    def __init__(self, book: Book, operation: Operation, backup_id: str, backend: str) -> None:
        self._book = book
        self._operation = operation
        self._id = backup_id
        self._backend = backend
        for family in (families.STORAGE_WRITTEN, families.STORAGE_READ_BYTES):
            book.add(family, 0, backend=backend, backup_id=backup_id)

    def retried(self, error: Unavailable) -> None:
        """A request is made again."""
        self._book.add(families.RETRIES, operation=self._operation, reason=error.code)

    def __call__(self, request: Request) -> None:
        """One request has ended."""
        book, backend, id = self._book, self._backend, self._id
        if request.error:
            book.add(families.STORAGE_ERRORS, backend=backend, operation=request.operation, error=request.error)
        elif request.operation in ("create", "replace"):
            book.add(families.STORAGE_WRITTEN, request.sent, backend=backend, backup_id=id)
            operation = operation_of(request.key)
            book.observe(families.STORAGE_WRITE, request.seconds, backend=backend, operation=operation)
        elif request.operation == "read":
            book.add(families.STORAGE_READ_BYTES, request.received, backend=backend, backup_id=id)
            book.observe(families.STORAGE_READ, request.seconds, backend=backend)


def operation_of(key: str) -> str:
    """What a write of that object counts as."""
    if key.startswith("topics/"):
        return "segment"
    return "checkpoint" if key.startswith("manifest/") else "manifest"
