"""What lies under one replica prefix or in one local ltx folder, sorted out from a listing in a single pass.

Only names are read, never contents. A key belongs to this database when its parent folder is a level's folder
directly below the prefix; the level is taken from that folder alone, so digits elsewhere in a path mean nothing.
A range that cannot be (its end before its beginning) is taken as it stands: Litestream's restore trips over it.
What belongs to other databases below a wide prefix is counted by database and never summed. Temporary files,
strays and objects of Litestream 0.3 ("generations/") are counted apart.

An entry costs one lookup of its folder and one match of its name; file names are parsed into TXIDs only when a
level is looked at. 100,000 files take about 0.1 s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from tallykeep.storage.store import ObjectInfo
from tallykeep.systems.litestream.levels import ALWAYS_SHOWN, place_of
from tallykeep.systems.litestream.ltx.name import LtxName

SMALLEST_LTX = 131  # bytes: header 100, end of pages 6, empty page index 1 + 8, trailer 16
TEMPORARY = ".ltx.tmp"

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.ltx")
_V3 = re.compile(r"generations/[0-9a-f]{16}(?:/.*)?")
_V3_BACKUP = re.compile(
    r"generations/[0-9a-f]{16}/(?:snapshots/[0-9a-f]{8}\.snapshot|wal/[0-9a-f]{8}_[0-9a-f]{8}\.wal)\.lz4"
)
_NO_TXID = "0" * 16
_SAMPLES = 5


class LtxFile(NamedTuple):
    """One LTX file as a listing shows it."""

    level: int
    name: LtxName
    key: str
    size: int  # bytes
    modified: float  # Unix seconds: upload time on object stores, data time in folders
    etag: str | None

    @property
    def too_small(self) -> bool:
        """Whether it cannot be an LTX file, whatever it holds: corrupt, seen without reading it."""
        return self.size < SMALLEST_LTX


class Total(NamedTuple):
    """Files and bytes of one level."""

    files: int
    bytes: int


@dataclass(slots=True)
class Tally:
    """A count of things that are not this database's LTX files, with the first few keys."""

    files: int = 0
    bytes: int = 0
    newest: float = 0.0  # Unix seconds
    keys: list[str] = field(default_factory=list)

    def add(self, info: ObjectInfo) -> None:
        """Count one object."""
        self.files += 1
        self.bytes += info.size
        self.newest = max(self.newest, info.modified)
        if len(self.keys) < _SAMPLES:
            self.keys.append(info.key)


@dataclass(slots=True)
class _Folder:
    """What is known of one parent folder; `level` is None where no LTX file of ours can be."""

    level: int | None
    objects: list[ObjectInfo] = field(default_factory=list)
    bytes: int = 0
    foreign: str | None = None


class Inventory:
    """The files of one database, by level. Feed it the pages of a listing; ask it afterwards."""

    __slots__ = ("_files", "_folders", "_v3_written", "foreign", "layouts", "strays", "temporary", "v3")

    def __init__(self, objects: Iterable[ObjectInfo] = ()) -> None:
        self._folders: dict[str, _Folder] = {}
        self._files: dict[int, list[LtxFile]] = {}
        self.temporary = Tally()  # ".ltx.tmp": normal for milliseconds, left over for ever by a killed Litestream
        self.strays = Tally()  # names that mean nothing here
        self.v3 = Tally()  # a replica of Litestream 0.3 at the same place
        self._v3_written = 0.0  # Unix seconds: the newest of what Litestream 0.5 would restore of it
        self.foreign: dict[str, int] = {}  # other databases below the prefix: LTX files of each
        self.layouts: set[str] = set()  # "s3", "folder"; both is a replica copied onto another
        self.add(objects)

    def add(self, page: Iterable[ObjectInfo]) -> None:
        """Take in a page of a listing. Keys are relative to the database's prefix, in any order."""
        folders, match = self._folders, _NAME.fullmatch
        for info in page:
            above, _, name = info.key.rpartition("/")
            folder = folders.get(above) or self._enter(above)
            if folder.level is not None and match(name) and name[17:33] != _NO_TXID:
                folder.objects.append(info)
                folder.bytes += info.size
            else:
                self._set_apart(info, name, folder)
        self._files.clear()

    def _enter(self, above: str) -> _Folder:
        place = place_of(above)
        folder = _Folder(level=None if place is None or place.database else place.level)
        if place is not None and place.database:
            folder.foreign = place.database
        elif place is not None:
            self.layouts.add(place.layout)
        self._folders[above] = folder
        return folder

    def _set_apart(self, info: ObjectInfo, name: str, folder: _Folder) -> None:
        if _V3.fullmatch(info.key):
            self.v3.add(info)
            if _V3_BACKUP.fullmatch(info.key):
                self._v3_written = max(self._v3_written, info.modified)
        elif folder.foreign is not None and _NAME.fullmatch(name):
            self.foreign[folder.foreign] = self.foreign.get(folder.foreign, 0) + 1
        elif folder.level is not None and name.endswith(TEMPORARY):
            self.temporary.add(info)
        else:
            self.strays.add(info)

    @property
    def v3_is_newer(self) -> bool:
        """Whether a restore of the newest state, by Litestream 0.5, would take what Litestream 0.3 has written here."""
        return self._v3_written > max(
            (info.modified for each in self._folders.values() for info in each.objects), default=0
        )

    @property
    def totals(self) -> dict[int, Total]:
        """Files and bytes by level: always the levels of ALWAYS_SHOWN, and any other that has files."""
        sums = {level: [0, 0] for level in ALWAYS_SHOWN}
        for folder in self._folders.values():
            if folder.level is not None and folder.objects:
                total = sums.setdefault(folder.level, [0, 0])
                total[0] += len(folder.objects)
                total[1] += folder.bytes
        return {level: Total(*sums[level]) for level in sorted(sums)}

    @property
    def total(self) -> Total:
        """Files and bytes of all levels together."""
        totals = self.totals.values()
        return Total(sum(t.files for t in totals), sum(t.bytes for t in totals))

    @property
    def levels(self) -> Sequence[int]:
        """Levels that have files, ascending."""
        return sorted({f.level for f in self._folders.values() if f.level is not None and f.objects})

    def level(self, level: int) -> Sequence[LtxFile]:
        """The files of one level in the order of their names: by first TXID, then by last."""
        if level not in self._files:
            folders = (folder.objects for folder in self._folders.values() if folder.level == level)
            files = [_parse(level, info) for info in chain.from_iterable(folders)]
            files.sort(key=lambda file: file.name)
            self._files[level] = files
        return self._files[level]

    def __iter__(self) -> Iterator[LtxFile]:
        """Every file, level by level."""
        for level in self.levels:
            yield from self.level(level)

    @property
    def too_small(self) -> Sequence[LtxFile]:
        """Files that cannot be LTX files: empty, or shorter than the shortest there is."""
        return [file for file in self if file.too_small]


def _parse(level: int, info: ObjectInfo) -> LtxFile:
    return LtxFile(level, LtxName.parse(info.key[-37:]), info.key, info.size, info.modified, info.etag)
