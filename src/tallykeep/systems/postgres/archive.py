"""The WAL archive of one cluster, read: its segments, histories and gaps, on local disk.

    identity.json                    whose WAL it is
    gaps.jsonl                       what was lost, one line for each gap
    wal/<16 letters>/<segment>       a complete segment: a block file with its end block
    wal/<16 letters>/<segment>.<n>.part   a stretch of a segment that grows, or was left unfinished
    wal/<timeline>.history           a history file, sealed where there is a key

Complete files and histories have their final names only when they are whole and durable, and never change. Readers
need no lock: what they see is always true, if not the newest. The writer is archiver.py. Every call blocks.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tallykeep.errors import IntegrityError, NotFound
from tallykeep.systems.postgres import blocks
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.coverage import Gap, Held, joined
from tallykeep.systems.postgres.lsn import LSN, History, Segment, history_name, history_timeline, is_segment_name

WAL_FOLDER = "wal"
IDENTITY, GAPS = "identity.json", "gaps.jsonl"
_PART = re.compile(r"([0-9A-F]{24})\.(\d{4,})\.part")
_FORK = re.compile(r"^\s*\d+\s+[0-9A-F]+/[0-9A-F]+", re.MULTILINE)  # what a history file has a line of


class Identity(NamedTuple):
    """Whose WAL an archive holds."""

    system_id: int
    segment_size: int


class Stored(NamedTuple):
    """A segment and the files that hold it."""

    segment: Segment
    complete: bool
    paths: Sequence[Path]  # one, or the parts in the order they were made
    size: int  # bytes on disk


class Archive:
    """An archive as it is now, looked at anew with each call."""

    def __init__(self, folder: Path, cipher: Cipher | None = None) -> None:
        self.folder = folder
        self.cipher = cipher

    @property
    def wal(self) -> Path:
        """The folder of what tier 2 holds too, under the same names."""
        return self.folder / WAL_FOLDER

    @property
    def identity(self) -> Identity | None:
        """None before the first connection to the primary. Raises: IntegrityError."""
        path = self.folder / IDENTITY
        try:
            found = json.loads(path.read_text())
            return Identity(int(found["system_id"]), int(found["segment_size"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(f"{path}: not as it was written; bring it back from a copy.") from None

    # --- segments

    def segments(self) -> list[Stored]:
        """Every segment of which there is a file, by timeline and position."""
        identity = self.identity
        if identity is None or not self.wal.is_dir():
            return []
        files: dict[str, list[Path]] = defaultdict(list)
        for folder in self.wal.iterdir():
            if folder.is_dir():
                for path in folder.iterdir():
                    if is_segment_name(path.name) or _PART.fullmatch(path.name):
                        files[path.name[:24]].append(path)
        return [_stored(name, files[name], identity.segment_size) for name in sorted(files)]

    def find(self, segment: Segment) -> Stored | None:
        """What there is of one segment."""
        folder = self.folder_of(segment)
        paths = [path for path in folder.glob(f"{segment.name}*") if path.name[24:] == "" or _PART.fullmatch(path.name)]
        return _stored(segment.name, paths, segment.size) if paths else None

    def folder_of(self, segment: Segment) -> Path:
        """Where its files are."""
        return self.wal / segment.name[:16]

    def key(self, segment: Segment) -> str:
        """What a complete segment is called in tier 2, and its path here below the archive's folder."""
        return f"{WAL_FOLDER}/{segment.name[:16]}/{segment.name}"

    def read(self, segment: Segment) -> bytes:
        """The WAL of a segment from its beginning: all of it, or as much as is held without a hole.

        Raises: NotFound; IntegrityError where bytes that should count do not.
        """
        stored = self.find(segment)
        data = b"" if stored is None else self._joined(stored)
        if stored is not None and not stored.complete and self._complete(segment):
            return self.read(segment)  # it became complete meanwhile
        if stored is None:
            raise NotFound(f"{self.folder}: holds nothing of the WAL segment {segment.name}.")
        if stored.complete and len(data) != segment.size:
            raise IntegrityError(
                f"{stored.paths[0]}: is damaged behind {segment.start + len(data):X}; bring it back from tier 2."
            )
        return data

    def restored(self, segment: Segment) -> bytes:
        """A whole segment for a server that recovers: behind what is held there are zeros, the end of WAL to it.

        Raises: as read does.
        """
        return self.read(segment).ljust(segment.size, b"\0")

    def _joined(self, stored: Stored) -> bytes:
        data = bytearray()
        for path in stored.paths:
            start, piece = self.read_file(path, complete=stored.complete)
            offset = start - stored.segment.start
            if offset <= len(data) < offset + len(piece):
                data[offset:] = piece
        return bytes(data)

    def read_file(self, path: Path, *, complete: bool = False) -> tuple[LSN, bytes]:
        """Where a block file begins, and the WAL in it; of one that is not `complete`, as far as it counts.

        Raises: IntegrityError.
        """
        name, found = str(path), scan_file(path)
        if found is None:
            return LSN(0), b""
        if complete and (not found.complete or found.problem):
            raise IntegrityError(f"{found.problem or f'{name}: has no end'}; bring it back from tier 2.")
        return found.header.start, b"".join(blocks.contents(found, self.cipher, name))

    def extent(self, stored: Stored) -> LSN:
        """The first position of a segment that is not held, by checksums alone."""
        if stored.complete:
            return stored.segment.end
        end = stored.segment.start
        for path in stored.paths:
            found = scan_file(path)
            if found is not None and found.header.start <= end:
                end = max(end, found.end)
        return stored.segment.end if self._complete(stored.segment) else end

    def _complete(self, segment: Segment) -> bool:
        return (self.folder_of(segment) / segment.name).exists()

    def latest_written(self) -> float | None:
        """When the newest complete segment was written, in Unix seconds; None where there is none."""
        newest = max((stored for stored in self.segments() if stored.complete), default=None)
        if newest is None:
            return None
        with suppress(FileNotFoundError):  # retention was faster
            return newest.paths[0].stat().st_mtime
        return None

    # --- what is held

    def held(self) -> list[Held]:
        """Stretches of WAL without a hole, by timeline and position. Complete segments count by their names."""
        return joined((stored.segment, self.extent(stored)) for stored in self.segments())

    def recorded_gaps(self) -> list[Gap]:
        """What was lost, as it was written down when it was found."""
        with suppress(FileNotFoundError):
            lines = (self.folder / GAPS).read_text().splitlines()
            return [gap for line in lines if (gap := Gap.from_json(line)) is not None]
        return []

    # --- histories

    def timelines(self) -> list[int]:
        """Timelines whose history file is held."""
        found = (history_timeline(path.name) for path in self.wal.glob("*.history"))
        return sorted(timeline for timeline in found if timeline is not None)

    def history_text(self, timeline: int) -> str:
        """A history file as PostgreSQL wrote it. Raises: NotFound; IntegrityError."""
        path = self.wal / history_name(timeline)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFound(f"{self.folder}: holds no history of timeline {timeline}.") from None
        return history_text(data, path.name, self.cipher, str(path))

    def history(self, timeline: int) -> History:
        """How a timeline came to be; the first has no file. Raises: NotFound; IntegrityError; Malformed."""
        return History(1) if timeline == 1 else History.parse(timeline, self.history_text(timeline))


def scan_file(path: Path) -> blocks.Scan | None:
    """What of a block file counts; None where even its header does not, or it has just become a complete one."""
    try:
        return blocks.scan(path.read_bytes(), str(path))
    except (FileNotFoundError, IntegrityError):
        return None


def _stored(name: str, paths: Sequence[Path], size: int) -> Stored:
    complete = [path for path in paths if path.name == name]
    found = complete or sorted(paths, key=_number)
    total = 0
    for path in found:
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return Stored(Segment.parse(name, size), bool(complete), found, total)


def _number(path: Path) -> int:
    return part_number(path) or 0


def part_number(path: Path) -> int | None:
    """The number of a part, by its name."""
    found = _PART.fullmatch(path.name)
    return int(found[2]) if found else None


def part_name(segment: Segment, number: int) -> str:
    """The name of a part."""
    return f"{segment.name}.{number:04d}.part"


def history_text(data: bytes, name: str, cipher: Cipher | None, shown: str) -> str:
    """A history file as PostgreSQL wrote it, of what a tier holds. Raises: IntegrityError."""
    text = (cipher.open(data, name.encode(), shown) if cipher else data).decode(errors="surrogateescape")
    if not _FORK.search(text):
        raise IntegrityError(f"{shown}: is no history file: it needs a key, and none is given, or it is damaged.")
    return text
