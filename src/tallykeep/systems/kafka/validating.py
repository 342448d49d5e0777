"""Whether a backup is sound: every object that its manifest names is there, and with `deep` is what it was.

The manifest says what there has to be, never a listing: a listing only brings sizes, and shows what nothing names. A
backup that is at work, or was killed, has such objects: they are noted and are no problem. Everything is looked at,
whatever was found before. Memory: each of four segments at a time, and a batch of each uncompressed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tallykeep.clock import Clock
from tallykeep.errors import IntegrityError, NotFound
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.store import Store
from tallykeep.systems.kafka.failures import code_of
from tallykeep.systems.kafka.held import Held, Incarnation
from tallykeep.systems.kafka.manifest import FOLDER, Record, SegmentEntry, SnapshotEntry, key_of
from tallykeep.systems.kafka.proving import Proof
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.restoring.tasks import at_once
from tallykeep.systems.kafka.snapshot import FOLDER as SNAPSHOTS
from tallykeep.systems.kafka.snapshot import Snapshot

MANIFEST, SEGMENT = "VALIDATION_MANIFEST_CORRUPT", "VALIDATION_SEGMENT_CORRUPT"
_AT_ONCE = 4  # partitions
_SHOWN = 5  # objects of a kind that are named


class Problem(NamedTuple):
    """Something that is not as it should be."""

    code: str  # published error code
    message: str  # which object, and what is wrong with it


class Expected(NamedTuple):
    """How far a manifest has been seen to reach: what lies behind cannot be cut off unseen."""

    sequence: int
    hash: str = ""  # of that record; empty: any

    @classmethod
    def parse(cls, text: str) -> Expected:
        """As `status` tells it: "42" or "42:blake3:0123...". Raises: ValueError."""
        number, _, mark = text.partition(":")
        return cls(int(number), mark)


@dataclass(slots=True)
class Report:
    """What was found."""

    deep: bool = False
    sequence: int = 0  # records of the manifest
    head: str = ""  # hash of the last one
    runs: int = 0
    completed: int = 0
    topics: int = 0
    partitions: int = 0
    segments: int = 0
    records: int = 0
    stored: int = 0  # bytes of segments
    proved: int = 0  # segments that have been read
    interrupted: bool = False
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.problems

    def problem(self, error: IntegrityError | NotFound | str, code: str = SEGMENT) -> None:
        """Note a problem, once."""
        found = Problem(code if isinstance(error, str) else code_of(error), str(error))
        if found not in self.problems:
            self.problems.append(found)


async def validate(
    store: Store, clock: Clock, *, deep: bool = False, expected: Expected | None = None,
    stop: asyncio.Event | None = None, progress: Callable[[Report], None] = lambda _: None,
) -> Report:  # fmt: skip
    """Look at a whole backup. `progress` is called after each segment that was read.

    Raises: NotFound where there is no backup; StoreErrors where objects cannot be asked for.
    """
    report = Report(deep=deep)
    try:
        backup = await BackupSet.open(store, clock)
    except IntegrityError as error:
        await _look_at_records(store, report)
        report.problem(error, MANIFEST)
        return report
    _count(backup, report)
    _check_end(backup, expected, report)
    await _Look(backup, report, stop or asyncio.Event(), progress).run()
    return report


async def _look_at_records(store: Store, report: Report) -> None:
    """Which records of a broken manifest are broken by themselves, or missing."""
    keys = [found.key async for page in store.list(FOLDER) for found in page]
    last = max((int(key.removeprefix(FOLDER)) for key in keys if key.removeprefix(FOLDER).isdigit()), default=0)
    for sequence in range(1, last + 1):
        key = key_of(sequence)
        try:
            Record.decode(await store.read(key), f"{store.name}/{key}")
        except NotFound:
            report.problem(f"{store.name}/{key} is missing: bring it back from a copy of the backup.", MANIFEST)
        except IntegrityError as error:
            report.problem(error)


def _count(backup: BackupSet, report: Report) -> None:
    segments = [entry for held in backup.held.values() for entry in held.segments]
    report.sequence, report.head = backup.sequence, backup.records[-1].hash
    report.runs, report.completed = len(backup.snapshots), len(backup.completed)
    report.topics, report.partitions = len({place.topic for place in backup.held}), len(backup.held)
    report.segments = len(segments)
    report.records = sum(entry.records for entry in segments)
    report.stored = sum(entry.stored for entry in segments)
    for place, held in backup.held.items():
        for gap in held.gaps:
            offsets = f"offsets {gap.start} to {gap.end - 1}"
            report.notes.append(f"{place}: {offsets} were gone before they could be backed up ({gap.reason})")


def _check_end(backup: BackupSet, expected: Expected | None, report: Report) -> None:
    """Whether the manifest reaches as far as it has been seen to."""
    if expected is None:
        return
    name = f"{backup.store.name}/{key_of(expected.sequence)}"
    if backup.sequence < expected.sequence:
        message = f"{name} is missing: the manifest ends at record {backup.sequence}: its end has been cut off."
        report.problem(message, MANIFEST)
    elif expected.hash and (found := backup.records[expected.sequence - 1].hash) != expected.hash:
        message = f"{name}: it has the hash {found} and should have {expected.hash}: it has been replaced."
        report.problem(message, MANIFEST)


class _Look:
    """One look at a backup whose manifest is sound."""

    def __init__(
        self, backup: BackupSet, report: Report, stop: asyncio.Event, progress: Callable[[Report], None]
    ) -> None:
        self._backup, self._report, self._stop, self._progress = backup, report, stop, progress
        self._sizes: dict[str, int] = dict(_named(backup))
        self._missing: set[str] = set()

    async def run(self) -> None:
        await self._look_at_sizes()
        for entry in self._backup.snapshots:
            await self._snapshot(entry)
        if self._report.deep:
            await at_once((self._prove(*item) for item in self._backup.held.items()), _AT_ONCE)
            self._report.interrupted = self._stop.is_set()

    async def _look_at_sizes(self) -> None:
        """Is everything there, and as large as it was? What a listing does not have is asked for by itself."""
        found: dict[str, int] = {}
        orphans: list[str] = []
        for folder in ("topics/", SNAPSHOTS):
            async for page in self._backup.store.list(folder):
                for info in page:
                    (found.__setitem__(info.key, info.size) if info.key in self._sizes else orphans.append(info.key))
        for key, size in self._sizes.items():
            await self._check_size(key, size, found.get(key))
        if orphans:
            shown = ", ".join(sorted(orphans)[:_SHOWN])
            self._report.notes.append(
                f"{len(orphans)} objects are named by no record, as a run leaves them that is at work or was killed: "
                f"{shown}{', ...' if len(orphans) > _SHOWN else ''}"
            )

    async def _check_size(self, key: str, size: int, found: int | None) -> None:
        if found is None:
            try:
                found = (await self._backup.store.head(key)).size
            except NotFound:
                self._missing.add(key)
                self._report.problem(
                    f"{self._backup.name_of(key)} is missing: bring it back from a copy of the backup."
                )
                return
        if found != size:
            self._report.problem(f"{self._backup.name_of(key)} has {found} bytes and should have {size}.")

    async def _snapshot(self, entry: SnapshotEntry) -> None:
        """Whether a run's view of the cluster is as it was; and whether a run that says it is complete is."""
        if entry.key in self._missing:
            return
        try:
            snapshot = await self._backup.snapshot(entry)
        except (IntegrityError, NotFound) as error:
            self._report.problem(error)
            return
        for problem in _contradictions(snapshot, entry, self._backup):
            self._report.problem(f"{self._backup.name_of(entry.key)}: {problem}")

    async def _prove(self, place: Incarnation, held: Held) -> None:
        """Read one partition, segment by segment."""
        proof = Proof()
        for entry in held.segments:
            if self._stop.is_set():
                return
            await self._segment(entry, proof)
            self._report.proved += 1
            self._progress(self._report)
        for problem in proof.problems:
            self._report.problem(problem)
        self._report.notes += proof.notes

    async def _segment(self, entry: SegmentEntry, proof: Proof) -> None:
        backup, name = self._backup, self._backup.name_of(entry.key)
        if self._missing & {entry.key, entry.index_key}:
            proof.skipped()
            return
        data = await backup.store.read(entry.key)
        try:
            index = await backup.index(entry)
        except IntegrityError as error:
            self._report.problem(error)
            await in_thread(proof.object, entry, data, name)
            proof.skipped()
        else:
            await in_thread(proof.segment, entry, index, data, name)


def _named(backup: BackupSet) -> Iterator[tuple[str, int]]:
    """Every object that the manifest names, and its size."""
    for held in backup.held.values():
        for entry in held.segments:
            yield entry.key, entry.stored
            yield entry.index_key, entry.index_size
    for snapshot in backup.snapshots:
        yield snapshot.key, snapshot.size


def _contradictions(snapshot: Snapshot, entry: SnapshotEntry, backup: BackupSet) -> Iterator[str]:
    """Where a snapshot and the manifest say different things."""
    counts = len(snapshot.topics), sum(len(topic.partitions) for topic in snapshot.topics), len(snapshot.groups)
    if (snapshot.run, *counts) != (entry.run, entry.topics, entry.partitions, entry.groups):
        yield f"it is of run {snapshot.run} with {counts}, and the manifest says otherwise"
    if entry.run not in backup.completed:
        return
    for topic in snapshot.topics:
        for part in topic.partitions:
            held = backup.held.get(Incarnation(topic.name, topic.topic_id, part.partition))
            reached = held.checkpoint if held else None
            if reached is None or reached < part.end:
                yield (
                    f"run {entry.run} is said to be complete, and of {topic.name}-{part.partition} the backup has "
                    f"{'nothing' if reached is None else f'offsets up to {reached}'} instead of up to {part.end}"
                )
