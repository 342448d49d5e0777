"""Where the records of a backup lie in the cluster that they were restored to.

A run says that records at consecutive offsets of the source became records at consecutive offsets of the target. A
topic without holes is one run however long it is; compaction, transaction markers and what a window left out begin
new ones. So the map stays small where a note for each record would fill the memory, and nothing in it is a guess:
what is not in a run is not in the target.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tallykeep.errors import IntegrityError, RestoreError
from tallykeep.storage.digest import digest
from tallykeep.systems.kafka.places import Place

FORMAT = "KRB1 offset map"


class MapRun(NamedTuple):
    """Records that follow one another without a hole, in the source and in the target."""

    source: int  # offset of the first
    target: int  # offset that it has now
    records: int


class Mapped:
    """One source partition's part of the map. Kept as columns: 24 bytes a run."""

    def __init__(self, target: Place, end: int) -> None:
        self.target = target
        self.end = end  # offset of the target behind what was restored from here; where it began, if that is nothing
        self._source, self._target, self._count = array("q"), array("q"), array("q")

    def __len__(self) -> int:
        return len(self._source)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapped) and (self.target, self.end, [*self]) == (other.target, other.end, [*other])

    def __iter__(self) -> Iterator[MapRun]:
        return map(MapRun, self._source, self._target, self._count)

    @property
    def records(self) -> int:
        return sum(self._count)

    def add(self, run: MapRun) -> None:
        """Append a run; one that goes on where the last one ended makes it longer. Raises: IntegrityError."""
        ahead = self._source[-1] + self._count[-1] if len(self) else 0
        if run.records < 1 or run.source < ahead or (len(self) and run.target < self.end):
            raise IntegrityError(f"{self.target}: the runs of an offset map do not ascend at {run}.")
        if len(self) and (run.source, run.target) == (ahead, self.end):
            self._count[-1] += run.records
        else:
            self._source.append(run.source)
            self._target.append(run.target)
            self._count.append(run.records)
        self.end = run.target + run.records

    def next(self, offset: int) -> int | None:
        """Where the first record at or behind the source's `offset` is now; None where none is."""
        at = bisect_right(self._source, offset) - 1
        if at >= 0 and offset < self._source[at] + self._count[at]:
            return self._target[at] + offset - self._source[at]
        return self._target[at + 1] if at + 1 < len(self) else None


class OffsetMap:
    """The map of one restore. `source` places are the backup's, `target` places the cluster's."""

    def __init__(self, restore: str = "", backup: str = "", target_cluster: str = "") -> None:
        self.restore = restore  # what the restore is called
        self.backup = backup  # the store it came from, for messages
        self.target_cluster = target_cluster  # id of the cluster it went to; empty: not known
        self.places: dict[Place, Mapped] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OffsetMap) and vars(self) == vars(other)

    def begin(self, source: Place, target: Place, end: int) -> None:
        """Say where a partition goes, before or without any record of it; `end`: the target's end offset then."""
        self.places.setdefault(source, Mapped(target, end))

    def add(self, source: Place, target: Place, source_offset: int, target_offset: int, count: int) -> None:
        """Note `count` records that are in the target now; for one source in the order of their offsets.

        Raises: IntegrityError where they are not.
        """
        mapped = self.places.setdefault(source, Mapped(target, target_offset))
        if mapped.target != target:
            raise IntegrityError(f"{source}: is restored to {mapped.target}, and to {target} as well.")
        mapped.add(MapRun(source_offset, target_offset, count))

    def target(self, source: Place) -> Place | None:
        """The partition that it was restored to."""
        mapped = self.places.get(source)
        return None if mapped is None else mapped.target

    def end(self, target: Place) -> int:
        """Offset of a target partition behind everything that was restored to it."""
        return max(mapped.end for mapped in self.places.values() if mapped.target == target)

    def translate(self, source: Place, offset: int) -> int:
        """The target's offset at which a reader that would read the source's `offset` next has to go on.

        Where no record has that offset (any more), it is that of the next one; behind the last, the end of what was
        restored. Raises: RestoreError where the partition was not restored.
        """
        mapped = self.places.get(source)
        if mapped is None:
            raise RestoreError(
                f"{source} was not restored by {self.restore or 'this restore'}: it has no offsets there."
            )
        found = mapped.next(offset)
        return self.end(mapped.target) if found is None else found

    def encode(self) -> bytes:
        """The object that it is kept in: a line of JSON, and one with its hash."""
        places = [
            {"source": source, "target": mapped.target, "end": mapped.end, "runs": list(mapped)}
            for source, mapped in sorted(self.places.items())
        ]
        body = {"format": FORMAT, "restore": self.restore, "backup": self.backup,
                "target_cluster": self.target_cluster, "places": places}  # fmt: skip
        line = json.dumps(body, separators=(",", ":")).encode()
        return line + _closing(line)

    @classmethod
    def decode(cls, data: bytes, name: str) -> OffsetMap:
        """The map in `data`; `name` is for messages. Blocks where it is large. Raises: IntegrityError."""
        line, _, closing = data.partition(b"\n")
        try:
            if b"\n" + closing != _closing(line):
                raise ValueError("its hash does not match")
            return cls._decode(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, IntegrityError) as error:
            raise IntegrityError(f"{name}: not an offset map, or not as it was written: {error}") from None

    @classmethod
    def _decode(cls, body: Any) -> OffsetMap:
        if body["format"] != FORMAT:
            raise ValueError(f"its format is {body['format']!r}, not {FORMAT!r}")
        found = cls(str(body["restore"]), str(body["backup"]), str(body["target_cluster"]))
        for place in body["places"]:
            mapped = Mapped(_place(place["target"]), int(place["end"]))
            _fill(mapped, place["runs"])
            if mapped.end != int(place["end"]) and len(mapped):
                raise ValueError(f"{mapped.target} does not end where its last run does")
            found.places[_place(place["source"])] = mapped
        return found


def _fill(mapped: Mapped, runs: Iterable[Iterable[int]]) -> None:
    for run in runs:
        mapped.add(MapRun(*run))


def _place(value: Any) -> Place:
    topic, partition = value
    return Place(str(topic), int(partition))


def _closing(line: bytes) -> bytes:
    return f'\n{{"hash":"{digest(line)}"}}\n'.encode()
