"""Segments fetched ahead of a server that recovers, so that replay waits neither for a download nor for a start.

    pg_wal/tallykeep.spool/<segment>     whole, durable; restore_command moves it to where PostgreSQL wants it
    pg_wal/tallykeep.spool/following     the segment behind the last that get-wal gave itself: where to go on
    pg_wal/tallykeep.spool/lock          held by the one process that feeds it

Only complete segments, which never change, are put here. The feeder ends by itself: when WAL ends, after a minute in
which nothing was taken, when the server has ended, and when the spool is gone, which recovery's end sees to.
Memory: four segments. Disk: as many segments as are fetched ahead.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tallykeep.clock import Clock
from tallykeep.errors import NotFound, TallykeepError
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.locks import is_held, take
from tallykeep.systems.postgres.lsn import Segment, is_segment_name
from tallykeep.systems.postgres.restoring.asking import Asking
from tallykeep.systems.postgres.restoring.getwal import ASIDE, place
from tallykeep.systems.postgres.restoring.tiered_wal import TieredWal

AHEAD = 8  # segments
_AT_ONCE = 4
_FOLLOWING, _LOCK = "following", "lock"
_POLL, _IDLE = 0.05, 60.0  # seconds


class Spool:
    """The folder. Every call blocks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Idempotent; where it cannot be made nothing is fetched ahead."""
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, exist_ok=True)

    def names(self) -> list[str]:
        """Segments that wait to be taken. Raises: FileNotFoundError where the spool is gone."""
        return sorted(name for name in os.listdir(self.folder) if is_segment_name(name))  # noqa: PTH208

    def following(self) -> str:
        """Where to go on; "" where nobody has said."""
        try:
            return (self.folder / _FOLLOWING).read_text()
        except OSError:
            return ""

    def go_on(self, segment: Segment) -> None:
        """Say where to go on."""
        with suppress(TallykeepError):
            place(segment.name.encode(), self.folder / _FOLLOWING)

    def keep(self, first: Segment, ahead: int) -> None:
        """Throw away what is none of the `ahead` segments from the first on: the server took another course."""
        for name in self.names():
            segment = Segment.parse(name, first.size)
            if segment.timeline != first.timeline or not 0 <= segment.start - first.start < ahead * first.size:
                (self.folder / name).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what one who fed it was writing when it was killed. For the one that feeds it."""
        for name in os.listdir(self.folder):  # noqa: PTH208
            if name.endswith(ASIDE) and is_segment_name(name.partition(".")[0]):
                (self.folder / name).unlink(missing_ok=True)

    def is_fed(self) -> bool:
        """Whether a process feeds it."""
        return is_held(self.folder / _LOCK)

    @contextmanager
    def feeding(self) -> Iterator[bool]:
        """Be the one that feeds while the context lasts; false where another does, or there is no spool."""
        try:
            lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield False
            return
        try:
            yield take(lock)
        finally:
            os.close(lock)


class Feeder:
    """Keeps a spool full from a TieredWal."""

    def __init__(self, wal: TieredWal, spool: Spool, clock: Clock, ahead: int = AHEAD) -> None:
        self._wal, self._spool, self._clock, self._ahead = wal, spool, clock, ahead
        self._said = ""  # where to go on, as it was last told
        self._next: Segment | None = None  # to fetch
        self._taken = clock.monotonic()  # when something last was
        self._had: Sequence[str] = ()

    async def run(self) -> None:
        """Until it is no longer needed. Never raises: get-wal itself tells what is wrong."""
        size = (await self._wal.identity()).segment_size
        with suppress(OSError, TallykeepError):
            await in_thread(self._spool.tidy)
            server = await in_thread(Asking)
            while await in_thread(lambda: server.runs) and await self._step(size):
                pass

    async def _step(self, segment_size: int) -> bool:
        """Fetch what there is room for, or wait a little; whether to go on."""
        held = await in_thread(self._look, segment_size)
        if self._next is None or self._clock.monotonic() - self._taken > _IDLE:
            return False
        room = min(self._ahead - len(held), _AT_ONCE)
        if room <= 0:
            await self._clock.sleep(_POLL)
            return True
        batch: list[Segment] = []
        while len(batch) < room:
            if self._next.name not in held:
                batch.append(self._next)
            self._next = self._next.next()
        self._taken = self._clock.monotonic()
        return all(await asyncio.gather(*(self._fetch(segment) for segment in batch)))

    def _look(self, segment_size: int) -> Sequence[str]:
        """What waits to be taken, after what is not needed was thrown away."""
        said = self._spool.following()
        if said != self._said and is_segment_name(said):
            self._said = said
            self._next = Segment.parse(said, segment_size)
            self._spool.keep(self._next, self._ahead)
        held = self._spool.names()
        if set(self._had) - set(held):
            self._taken = self._clock.monotonic()
        self._had = held
        return held

    async def _fetch(self, segment: Segment) -> bool:
        """Put a segment into the spool; false where it is not complete anywhere."""
        try:
            data = await self._wal.read(segment)
        except NotFound:
            return False
        if len(data) < segment.size:
            return False
        await in_thread(place, data, self._spool.folder / segment.name, durable=True)
        return True
