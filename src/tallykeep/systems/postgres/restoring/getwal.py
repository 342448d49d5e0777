"""One WAL file for a server that recovers: written whole to where it wants it, or truly not there.

PostgreSQL takes "not there" for the end of WAL and opens for writing. So that is said only when every tier has
answered and none holds the file; whatever else goes wrong is an error. A segment that is held in part is filled up
with zeros, which are the end of WAL to a server: but what was held when the restore was planned is due, and less than
that is an error as well. Memory: a segment for each tier.
Source: PostgreSQL, Write Ahead Log, restore_command; RestoreArchivedFile in src/backend/access/transam/xlogarchive.c.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tallykeep.errors import Malformed, NotFound, Unavailable
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.lsn import LSN, Segment, history_bytes, history_timeline, is_segment_name
from tallykeep.systems.postgres.restoring.asking import Asking
from tallykeep.systems.postgres.restoring.tiered_wal import TieredWal
from tallykeep.systems.postgres.wal_source import history_of


class Planned(NamedTuple):
    """How far WAL was held when the restore was planned."""

    timeline: int  # that is recovered along
    end: LSN

    @classmethod
    def parse(cls, text: str) -> Planned:
        """Of 2@16/B374D848. Raises: Malformed."""
        timeline, _, end = text.partition("@")
        if not timeline.isascii() or not timeline.isdigit():
            raise Malformed(f"{text!r} is no timeline and LSN; they look like 2@16/B374D848.")
        return cls(int(timeline), LSN.parse(end))

    def __str__(self) -> str:
        return f"{self.timeline}@{self.end}"


class Given(NamedTuple):
    """What was written."""

    segment: Segment | None  # None: a history file
    whole: bool  # all of it is held

    @property
    def following(self) -> Segment | None:
        """What will be asked for next, where that is known."""
        return self.segment.next() if self.segment is not None and self.whole else None


ASIDE = ".tallykeep"  # what ends so is being written, or was when its writer was killed


async def get_wal(
    wal: TieredWal, name: str, path: Path, planned: Planned | None = None, asking: Asking | None = None
) -> Given | None:
    """Write the WAL file of that name to `path`; None where no tier holds it.

    Raises: IntegrityError where it is damaged and no tier heals it; StoreErrors where a tier does not answer, where
    less is held than was `planned`, and where the server that is `asking` has ended.
    """
    if is_segment_name(name):
        segment = Segment.parse(name, (await wal.identity()).segment_size)
        return await _segment(wal, segment, path, planned, asking)
    try:
        timeline = history_timeline(name)
        if timeline is None:
            return None  # PostgreSQL may ask for what was never streamed, such as a backup history file
        await in_thread(place, history_bytes(await wal.history_text(timeline)), path, asking=asking)
        return Given(None, True)
    except NotFound:
        return None


async def _segment(
    wal: TieredWal, segment: Segment, path: Path, planned: Planned | None, asking: Asking | None
) -> Given | None:
    try:
        data = await wal.read(segment)
    except NotFound:
        data = b""
    if planned is not None and len(data) < segment.size:
        await _see_due(wal, segment, LSN(segment.start + len(data)), planned)
    if not data:
        return None
    await in_thread(place, data.ljust(segment.size, b"\0"), path, asking=asking)
    return Given(segment, len(data) == segment.size)


async def _see_due(wal: TieredWal, segment: Segment, end: LSN, planned: Planned) -> None:
    """See that a segment is held as far as was planned. Raises: Unavailable; as history_of does."""
    history, timeline = await history_of(wal, planned.timeline), segment.timeline
    begun = max([fork.lsn for fork in history.forks if fork.timeline < timeline], default=LSN(0))
    due = min(planned.end, segment.end, history.left(timeline) or planned.end)
    if history.knows(timeline) and max(begun, segment.start, end) < due:
        raise Unavailable(
            f"{segment.name}: WAL up to {planned.end} was held when the restore was planned, and of this file nothing "
            f"behind {end} is held now. Bring it back, or restore anew to where WAL reaches."
        )


def place(data: bytes, path: Path, *, durable: bool = False, asking: Asking | None = None) -> None:
    """Make `path` whole or not at all, and not where the server that is `asking` for it has ended. Blocks.

    PostgreSQL syncs what it was given before it relies on it. Raises: Unavailable.
    """
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}{ASIDE}")  # which no other process writes to
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if asking is not None and not asking.runs:
            raise Unavailable(f"{path}: the server that asked for it has ended; one that runs there now asks anew.")
        new.rename(path)
    except OSError as error:
        raise Unavailable(f"{path}: cannot be written: {error.strerror}; make room, or check who owns it.") from None
    finally:
        with suppress(OSError):
            new.unlink()
