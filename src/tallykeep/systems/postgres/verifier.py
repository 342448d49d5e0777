"""Proves in the background what the archive holds: each complete segment from its bytes on disk to its last record.

On arrival only pages are looked at, so that a commit waits for nothing but the disk. Here everything is: blocks,
seals, records, their chain. How far that has come is kept in verified.json, and told as a position of its own; so is
what was found damaged, which is looked at again at each start, and when its file is another or gone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import NamedTuple

from tallykeep.clock import Clock
from tallykeep.errors import IntegrityError, Malformed, NotFound
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.part import write_file
from tallykeep.systems.postgres.records import Records

VERIFIED = "verified.json"
_EVERY = 30.0  # seconds between looks for new segments
_log = logging.getLogger(__name__)


class Damage(NamedTuple):
    """A segment that is not as it should be."""

    segment: Segment
    problem: str
    file: tuple[int, int] | None = None  # when it was changed, and its size; None: it is not there


class Verifier:
    """Service. Blocks and records of complete segments are proved once, in order; damage is remembered."""

    def __init__(self, cluster: str, archive: Archive, clock: Clock) -> None:
        self.name = f"wal-verifier-{cluster}"
        self.archive = archive
        self.damage: dict[Segment, Damage] = {}
        self.verified: Segment | None = None  # the last that was proved
        self._clock = clock
        self._records: Records | None = None
        self._path = archive.folder / VERIFIED

    @property
    def lsn(self) -> LSN:
        """Complete segments before it have been looked at; 0 before the first."""
        return LSN(0) if self.verified is None else self.verified.end

    async def run(self) -> None:
        """Until cancelled."""
        await in_thread(self.resume)
        while True:
            while (segment := await in_thread(self.following)) is not None:
                await in_thread(self.prove, segment)
            await in_thread(self.look_again)
            await self._clock.sleep(_EVERY)

    def resume(self) -> None:
        """Take up what was proved before. Blocks."""
        identity = self.archive.identity
        try:
            found = json.loads(self._path.read_text())
            if identity is not None:
                self.verified = Segment.parse(found["segment"], identity.segment_size)
                for name in found.get("damaged", ()):
                    self._look_again(Segment.parse(name, identity.segment_size))
        except (FileNotFoundError, ValueError, KeyError, TypeError, Malformed):
            self.verified = None

    def following(self) -> Segment | None:
        """The next complete segment to prove. Blocks."""
        for stored in self.archive.segments():
            if stored.complete and (self.verified is None or stored.segment > self.verified):
                return stored.segment
        return None

    def prove(self, segment: Segment) -> None:
        """Prove one segment, and go on from it whatever the outcome. Blocks."""
        if self._records is None or self.verified is None or segment != self.verified.next():
            self._records = Records(segment.size, segment.start)
        try:
            self._records.feed(self.archive.read(segment))
        except NotFound:  # retention was faster
            self._records = None
        except IntegrityError as error:
            self._records = None
            self._damaged(segment, error)
        self.verified = segment
        self._write_down(segment)

    def look_again(self) -> None:
        """Prove anew what was damaged and is another file now: it was brought back, or retention let it go. Blocks."""
        changed = [each for each in self.damage.values() if self._file(each.segment) != each.file]
        for each in changed:
            del self.damage[each.segment]
            self._look_again(each.segment)
        if changed and self.verified is not None:
            self._write_down(self.verified)

    def _write_down(self, verified: Segment) -> None:
        told = {"segment": verified.name, "damaged": [damaged.name for damaged in self.damage]}
        write_file(self._path, json.dumps(told).encode())

    def _look_again(self, segment: Segment) -> None:
        """Prove a segment that was damaged, behind the one before it where that can be had: it may be mended."""
        before = segment._replace(start=LSN(segment.start - segment.size))
        records = Records(segment.size, before.start)
        try:
            records.feed(self.archive.read(before))
        except (NotFound, IntegrityError):
            records = Records(segment.size, segment.start)
        try:
            records.feed(self.archive.read(segment))
        except IntegrityError as error:
            self._damaged(segment, error)
        except NotFound:  # retention let it go
            return

    def _damaged(self, segment: Segment, error: IntegrityError) -> None:
        self.damage[segment] = Damage(segment, str(error), self._file(segment))
        _log.error("%s: the WAL segment %s is damaged: %s", self.archive.folder, segment.name, error)

    def _file(self, segment: Segment) -> tuple[int, int] | None:
        try:
            found = (self.archive.folder_of(segment) / segment.name).stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size


async def verify_all(archive: Archive, advance: Callable[[Segment], None] = lambda _: None) -> list[Damage]:
    """Prove every complete segment now; what is damaged."""
    found: list[Damage] = []
    records: Records | None = None
    last: Segment | None = None
    for stored in await in_thread(archive.segments):
        if not stored.complete:
            continue
        segment = stored.segment
        if records is None or last is None or segment != last.next():
            records = Records(segment.size, segment.start)
        try:
            await in_thread(lambda s=segment, r=records: r.feed(archive.read(s)))  # type: ignore[misc]
        except IntegrityError as error:
            records = None
            found.append(Damage(segment, str(error)))
        last = segment
        advance(segment)
    return found
