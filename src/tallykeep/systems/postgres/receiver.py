"""The receiver of one cluster, as a service: it connects again when a connection ends, and stops when told to.

The supervisor restarts it with backoff when it fails; an archive is opened anew each time, so that it goes on from
what is on disk. The work is done in a thread; stopping it makes durable what has arrived.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tallykeep.clock import Clock
from tallykeep.errors import TallykeepError
from tallykeep.metrics import Book
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres import families
from tallykeep.systems.postgres.archiver import Archiver, Figures
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.replication import Stop, Stopped
from tallykeep.systems.postgres.session import Session, Source

_log = logging.getLogger(__name__)


class _Counted(Figures):
    """What the archiver writes, in the book."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._written = receiver.book.adder(families.WAL_WRITTEN_SIZE, cluster_name=receiver.cluster)
        self._flushes = receiver.book.observer(families.WAL_FLUSH, cluster_name=receiver.cluster)

    def stored(self, size: int) -> None:
        self._written(size)

    def flushed(self, seconds: float) -> None:
        self._flushes(seconds)

    def completed(self, segment: Segment) -> None:
        receiver = self._receiver
        receiver.book.add(families.WAL_WRITTEN, cluster_name=receiver.cluster)
        receiver.book.set(families.WAL_LATEST_WRITTEN_TIME, receiver.clock.time(), cluster_name=receiver.cluster)
        receiver.on_complete(segment)


class Receiver:
    """Service. `durable` and `timeline` say how far the archive reaches, as this process knows it."""

    def __init__(self, source: Source, folder: Path, cipher: Cipher | None, book: Book, clock: Clock) -> None:
        self.name = f"wal-{source.cluster}"
        self.cluster = source.cluster
        self.folder = folder
        self.cipher = cipher
        self.book = book
        self.clock = clock
        self.timeline = 0
        self.on_complete: Callable[[Segment], None] = lambda _: None  # of each segment; in the receiver's thread
        self._source = source
        self._archiver: Archiver | None = None
        self._last = LSN(0)
        self._session: Session | None = None
        self._counted = _Counted(self)
        book.add(families.WAL_WRITTEN, 0, cluster_name=self.cluster)

    @property
    def durable(self) -> LSN:
        """Everything before it is on disk, back to the last gap."""
        return self._last if self._archiver is None else self._archiver.durable

    @property
    def reached(self) -> tuple[int, LSN]:
        """The timeline that is received, and `durable`."""
        archiver = self._archiver
        return (self.timeline, self._last) if archiver is None else (archiver.timeline, archiver.durable)

    @property
    def streaming(self) -> bool:
        """Whether WAL is arriving, or would if there were any."""
        return self._session is not None and self._session.streaming

    async def run(self) -> None:
        """Receive until cancelled; a server that shuts down is waited for. Raises: TallykeepError."""
        stop = Stop()
        work = asyncio.ensure_future(in_thread(self._work, stop))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            with suppress(Stopped, TallykeepError):
                await work
            raise
        finally:
            if work.done():
                stop.close()

    def _work(self, stop: Stop) -> None:
        archiver = Archiver(self.folder, self.cipher, self._counted)
        self._archiver = archiver
        if (written := archiver.archive.latest_written()) is not None:
            self.book.set(families.WAL_LATEST_WRITTEN_TIME, written, cluster_name=self.cluster)
        for problem in archiver.damage():
            _log.warning("%s; it is streamed again from there", problem)
        try:
            while True:
                self._session = Session(self._source, archiver, stop)
                self._session.run()
                _log.warning("%s: PostgreSQL shuts down; waiting for it", self.cluster)
                stop.wait(1.0)
        finally:
            self._leave(archiver)

    def _leave(self, archiver: Archiver) -> None:
        """Make durable what has arrived, if the disk lets us, and let go of the archive."""
        self._session = None
        try:
            with suppress(TallykeepError):
                archiver.flush()
        finally:
            self._last, self.timeline = archiver.durable, archiver.timeline
            self._archiver = None
            archiver.close()
