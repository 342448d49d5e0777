"""The WAL archive of one cluster, written: one process, one thread at a time. Every call blocks.

`append` takes WAL in order, `flush` makes it durable, and only `durable` may be acknowledged. When an archive is
opened, nothing is cut: a new part goes on from the last block that counts, and what stood behind it (torn by a crash,
or damaged later and still to be had from the primary) stays where it is until the segment is complete without it.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

from tallykeep.errors import ConfigError, Conflict, Malformed, Refused
from tallykeep.storage.handing_over import hand_over, make_folders
from tallykeep.systems.postgres import blocks, locks
from tallykeep.systems.postgres.archive import (
    GAPS,
    IDENTITY,
    Archive,
    Identity,
    Stored,
    part_name,
    part_number,
    scan_file,
)
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.coverage import Gap
from tallykeep.systems.postgres.lsn import LSN, Segment, history_bytes, history_name
from tallykeep.systems.postgres.pages import PageCheck
from tallykeep.systems.postgres.part import Part, sync_folder, unavailable, write_file

LOCK = "lock"


class Figures:
    """What an archiver tells of its work; a base for those who want to know. Called in the archiver's thread."""

    def stored(self, size: int) -> None:
        """`size` bytes of blocks were written."""

    def flushed(self, seconds: float) -> None:
        """What had arrived was made durable, and that took so long."""

    def completed(self, segment: Segment) -> None:
        """A segment is complete and durable."""


class Archiver:
    """The one writer of an archive."""

    def __init__(self, folder: Path, cipher: Cipher | None = None, figures: Figures | None = None) -> None:
        """Raises: Conflict where another process writes to it; Unavailable; IntegrityError."""
        self.archive = Archive(folder, cipher)
        self.timeline = 0  # 0: nothing is held yet
        self.position = LSN(0)  # what `append` goes on from, once begun
        self.durable = LSN(0)  # everything before it on the timeline is on disk, back to the last gap
        self._figures = figures or Figures()
        self._pieces: list[bytes | memoryview] = []  # of the next block
        self._pending = 0  # bytes in them
        self._part: Part | None = None
        self._others: list[Path] = []  # earlier parts of the segment that is written
        self._check: PageCheck | None = None
        self._lock = _locked(folder)
        try:
            self._recover()
        except BaseException:
            self.close()
            raise

    def claim(self, identity: Identity, version: int = 0) -> None:
        """Say whose WAL comes; the first time it is written down. Raises: Refused where it is another's."""
        known = self.archive.identity
        if known is None:
            write_file(self.archive.folder / IDENTITY, json.dumps(
                {"system_id": str(identity.system_id), "segment_size": identity.segment_size}).encode())  # fmt: skip
        elif known != identity:
            raise Refused(
                f"{self.archive.folder} holds WAL of the system {known.system_id} with segments of "
                f"{known.segment_size} bytes; this server is {identity.system_id} with {identity.segment_size}. It is "
                "another cluster: give it a name of its own."
            )
        self._check = PageCheck(identity.system_id, identity.segment_size, version)

    # --- WAL

    def begin(self, timeline: int, lsn: int) -> None:
        """WAL of `timeline` comes next, from `lsn`: where it stopped, or the start of a segment."""
        if (timeline, lsn) == (self.timeline, self.position):
            return
        identity = self._identity
        if lsn % identity.segment_size:
            raise Malformed(f"WAL of an archive cannot begin at {LSN(lsn)}, inside a segment.")
        self.flush()
        self._drop()
        self.timeline, self.position, self.durable = timeline, LSN(lsn), LSN(lsn)
        stored = self.archive.find(self._segment)
        self._others = [] if stored is None or stored.complete else list(stored.paths)

    def append(self, lsn: int, data: bytes | memoryview) -> None:
        """Take WAL that goes on from `position`; `data` must not change. It may be lost until `flush`.

        Raises: Malformed; Unavailable.
        """
        if lsn != self.position:
            raise Malformed(f"WAL from {LSN(lsn)} was sent, and {self.position} was due.")
        view, size = memoryview(data), self._identity.segment_size
        while view:
            room = min(blocks.BLOCK - self._pending, size - self.position % size)
            piece, view = view[:room], view[room:]
            self._pieces.append(piece)
            self._pending += len(piece)
            self.position = LSN(self.position + len(piece))
            full = self.position % size == 0
            if full or self._pending >= blocks.BLOCK:
                self._write()
            if full:
                self._complete()

    def flush(self) -> LSN:
        """Make everything that was taken durable; `durable`. Raises: Malformed; Unavailable."""
        self._write()
        if self._part is not None and self.durable != self.position:
            started = time.perf_counter()
            self._part.sync()
            self._figures.flushed(time.perf_counter() - started)
        self.durable = self.position
        return self.durable

    def abandon(self) -> None:
        """Forget what is not durable, after an error: the stream begins again at `durable`."""
        self._drop()
        self._recover()

    def close(self) -> None:
        """Let go of the archive; what was not flushed is forgotten. Idempotent."""
        self._drop()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # --- what is not WAL

    def put_history(self, timeline: int, text: str) -> None:
        """Keep a history file. Raises: Unavailable."""
        name, cipher, data = history_name(timeline), self.archive.cipher, history_bytes(text)
        path = self.archive.wal / name
        if not path.exists():
            write_file(path, cipher.seal(data, name.encode()) if cipher else data)

    def record(self, gap: Gap) -> None:
        """Write down what was lost. Raises: Unavailable."""
        path = self.archive.folder / GAPS
        try:
            with path.open("ab") as file:
                hand_over(file.fileno(), path.parent)
                file.write(b"" if _ends_well(path) else b"\n")
                file.write(gap.to_json().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            sync_folder(path.parent)
        except OSError as error:
            raise unavailable(path, error) from None

    # --- within

    @property
    def _identity(self) -> Identity:
        identity = self.archive.identity if self._known is None else self._known
        assert identity is not None, "claim comes first"
        self._known = identity
        return identity

    _known: Identity | None = None

    @property
    def _segment(self) -> Segment:
        """That of the next byte to write."""
        return Segment.at(self.timeline, self.position - self._pending, self._identity.segment_size)

    def _write(self) -> None:
        if not self._pending:
            return
        data, start = b"".join(self._pieces), self.position - self._pending
        if self._check is not None:
            self._check.feed(self.timeline, start, data)
        if self._part is None:
            self._part = self._new_part(self._segment, LSN(start))
        self._part.append(data)
        self._pieces, self._pending = [], 0

    def _new_part(self, segment: Segment, start: LSN) -> Part:
        folder = self.archive.folder_of(segment)
        number = 1 + max((part_number(path) or 0 for path in folder.glob(f"{segment.name}.*.part")), default=0)
        cipher = self.archive.cipher
        header = blocks.Header(cipher is not None, segment, start, self._identity.system_id, secrets.token_bytes(16))
        return Part(folder / part_name(segment, number), header, cipher, self._figures.stored)

    def _complete(self) -> None:
        """The segment before `position` is full: give it its name."""
        assert self._part is not None, "its last block was just written"
        segment = self._part.header.segment
        if self._part.header.start == segment.start:
            self._part.finish(segment.name)
        else:
            self._part.sync()
            self._part.close()
            self._merge(segment, [*self._others, self._part.path])
        self._remove(self._others)
        self._part, self._others, self.durable = None, [], self.position
        self._figures.completed(segment)

    def _merge(self, segment: Segment, parts: list[Path]) -> None:
        """Make one file of durable parts that hold a whole segment."""
        data = self.archive.read(segment)
        if len(data) != segment.size:
            raise Malformed(f"{self.archive.folder}: the parts of {segment.name} do not make a whole of it.")
        merged = self._new_part(segment, segment.start)
        for at in range(0, len(data), blocks.BLOCK):
            merged.append(data[at : at + blocks.BLOCK])
        merged.finish(segment.name)
        self._remove(parts)

    def _remove(self, paths: list[Path]) -> None:
        for path in paths:
            with suppress(OSError):  # they are tidied up when the archive is opened again
                path.unlink()

    def _drop(self) -> None:
        self._pieces, self._pending = [], 0
        if self._part is not None:
            self._part.close()
            self._part = None

    # --- when it is opened

    def _recover(self) -> None:
        """Find where to go on; what is held is durable afterwards."""
        self._others = []
        stored = self.archive.segments()
        for one in stored:
            self._tidy(one)
        if not stored:
            return
        last = max(stored, key=lambda one: one.segment)
        end = last.segment.end if last.complete else self._durable_end(last)
        self.timeline = last.segment.timeline
        self.position = self.durable = end
        if end == last.segment.end and not last.complete:  # killed before it had its name
            self._merge(last.segment, list(last.paths))
        elif not last.complete:
            self._others = list(last.paths)

    def _tidy(self, stored: Stored) -> None:
        """Remove parts of a segment that is complete: killed between the two."""
        if stored.complete:
            parts = self.archive.folder_of(stored.segment).glob(f"{stored.segment.name}.*.part")
            self._remove(list(parts))

    def _durable_end(self, stored: Stored) -> LSN:
        """How far a segment's parts reach, once they are durable: a killed process may not have synced them."""
        try:
            for path in stored.paths:
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            for folder in (self.archive.folder_of(stored.segment), self.archive.wal):
                sync_folder(folder)
        except OSError as error:
            raise unavailable(stored.paths[0], error) from None
        return self.archive.extent(stored)

    def damage(self) -> list[str]:
        """What of the newest segment's parts does not count, and why: for a log, when the archive is opened."""
        found = [scan_file(path) for path in self._others]
        return [one.problem for one in found if one is not None and one.problem]


def _locked(folder: Path) -> int:
    """The archive's lock, held as long as the file is open. Raises: Conflict; ConfigError."""
    try:
        make_folders(folder)
        file = locks.made(folder / LOCK)
    except OSError as error:
        raise ConfigError(f"{folder}: WAL cannot be kept there: {error.strerror}.") from None
    if not locks.take(file):
        os.close(file)
        raise Conflict(f"{folder}: another process writes WAL there; one cluster has one writer.")
    return file


def _ends_well(path: Path) -> bool:
    """Whether a file is empty or ends with its line."""
    data = path.read_bytes()
    return not data or data.endswith(b"\n")
