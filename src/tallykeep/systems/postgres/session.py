"""One connection's worth of receiving: from the handshake to the end of the stream. Runs in a thread of its own.

What is reported as flushed is the archive's `durable` and nothing else. It is synced when the socket is drained, so a
lone commit waits for one sync, and many commits share one; or when 16 MiB are pending, so a burst costs few. One such
round is the span `receive_block`, around `write_block` and `flush_block`; a stream has none, since it has no end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from tallykeep.errors import Malformed, Refused, Unreachable
from tallykeep.runtime.tracing import tracer
from tallykeep.systems.postgres import slot as slots
from tallykeep.systems.postgres.archive import Identity
from tallykeep.systems.postgres.archiver import Archiver
from tallykeep.systems.postgres.coverage import Gap
from tallykeep.systems.postgres.lsn import LSN, History
from tallykeep.systems.postgres.pages import PAGE
from tallykeep.systems.postgres.replication import (
    Arrived,
    Connection,
    Ended,
    Keepalive,
    ServerError,
    Stop,
)

PENDING = 16 << 20  # bytes that wait for a sync and a report, at most
STATUS = 10.0  # seconds between reports; wal_sender_timeout is 60 s by default
SILENCE = 45.0  # seconds without a word, though one was asked for, after which the connection is dead
_REMOVED = "58P01"  # the WAL that was asked for is not there any more (undefined_file)
_UNREADABLE = "55000"  # nor does the slot keep it (object_not_in_prerequisite_state)

_log = logging.getLogger(__name__)
_tracer = tracer("klio.wal")


@dataclass(frozen=True, slots=True)
class Source:
    """Where WAL comes from."""

    cluster: str  # its name in messages and labels
    conninfo: str  # of libpq; a role with REPLICATION and LOGIN
    slot: str = "tallykeep"
    status_interval: float = STATUS
    silence: float = SILENCE


class Session:
    """Receives WAL of one cluster into its archive until the connection ends."""

    def __init__(self, source: Source, archiver: Archiver, stop: Stop, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._archiver = archiver
        self._stop = stop
        self._clock = clock
        self.seen = LSN(0)  # end of WAL on the server, as last heard
        self._labels = {"cluster_name": source.cluster}
        self.streaming = False
        self._told = self._heard = 0.0
        self._reported = -1

    def run(self) -> None:
        """Return when the server has ended the stream for good: it shuts down.

        Raises: Stopped; SourceErrors, with Refused where a human is needed; Unavailable for the disk.
        """
        with ExitStack() as stack:
            with _tracer.span("manage_wal_stream", self._labels):
                connection = stack.enter_context(Connection(self._source.conninfo, replication=True, stop=self._stop))
                server = self._greet(connection)
                self._slot(connection)
            ended = self._begin(connection, server)
            while ended.timeline:
                self._fetch_histories(connection, ended.timeline)
                server = max(server, ended.timeline)
                start = LSN(ended.lsn - ended.lsn % self._segment_size)
                ended = self._follow(connection, server, ended.timeline, start)

    # --- the handshake

    def _greet(self, connection: Connection) -> int:
        """See whose WAL it is; the server's timeline. Raises: Refused for another system, or for an older timeline."""
        (system_id, timeline, *_) = connection.execute("IDENTIFY_SYSTEM")[0]
        self._segment_size = _size(connection.execute("SHOW wal_segment_size")[0][0])
        if _size(connection.execute("SHOW wal_block_size")[0][0]) != PAGE:
            raise Refused(f"{self._source.cluster}: was compiled with WAL pages of another size than 8 kB.")
        self._archiver.claim(Identity(int(system_id or 0), self._segment_size), connection.version)
        server = int(timeline or 0)
        if server < self._archiver.timeline:
            raise Refused(
                f"{self._source.cluster}: is on timeline {server}, and its archive on {self._archiver.timeline}: this "
                "server was left behind by a promotion, or restored from an older moment. Connect to the primary."
            )
        self._fetch_histories(connection, server)
        return server

    def _fetch_histories(self, connection: Connection, newest: int) -> None:
        held = self._archiver.archive.timelines()
        for timeline in range(2, newest + 1):
            if timeline in held:
                continue
            try:
                with _tracer.span("download_history_file", {"currentTLI": timeline}):
                    text = connection.execute(f"TIMELINE_HISTORY {timeline}")[0][1]
            except ServerError:  # of a timeline that is no ancestor, or older than the server keeps
                continue
            self._archiver.put_history(timeline, text or "")

    def _begin(self, connection: Connection, server: int) -> Ended:
        """Stream from where the archive ends, or from where the slot begins."""
        archiver = self._archiver
        if not archiver.timeline:
            return self._stream(connection, server, self._slot_start())
        return self._follow(connection, server, *self._resume(server))

    def _follow(self, connection: Connection, server: int, timeline: int, lsn: LSN) -> Ended:
        """Stream from there, or from behind what the primary has removed; `server`: its newest timeline."""
        archiver = self._archiver
        try:
            return self._stream(connection, timeline, lsn)
        except ServerError as error:
            if error.state not in (_REMOVED, _UNREADABLE) or archiver.position != archiver.durable:
                raise
            return self._behind_gap(connection, server, str(error))

    def _resume(self, server: int) -> tuple[int, LSN]:
        """Timeline and position to go on from: where we stopped, or a fork that lies before it."""
        timeline, position = self._archiver.timeline, self._archiver.position
        if timeline == server:
            return timeline, position
        history = self._archiver.archive.history(server)
        left = history.left(timeline)
        if left is not None and position <= left:
            return timeline, position
        if left is None:
            raise Refused(
                f"{self._source.cluster}: timeline {server} does not come from {timeline}, which its archive holds: "
                "the server was restored from before. Give it a name of its own, and take a base backup."
            )
        following = _following(history, timeline)
        _log.warning(
            "%s: was promoted at %s, and WAL up to %s had arrived from the old primary; it stays in the archive",
            self._source.cluster, left, position,
        )  # fmt: skip
        return following, LSN(left - left % self._segment_size)

    def _slot(self, connection: Connection) -> None:
        """See that the slot is there, or make it. Raises: Refused."""
        with Connection(self._source.conninfo, stop=self._stop) as asking:
            found = slots.find(asking, self._source.slot)
        if found is not None and not found.physical:
            raise Refused(f"{self._source.cluster}: {self._source.slot} is a logical slot; choose another name.")
        if found is not None and found.lost:
            slots.drop(connection, self._source.slot)
            found = None
        if found is None:
            slots.create(connection, self._source.slot)
            if self._archiver.timeline:
                _log.error("%s: its slot %s was lost or dropped, and is made again", self._source.cluster,
                           self._source.slot)  # fmt: skip

    def _slot_start(self) -> LSN:
        with Connection(self._source.conninfo, stop=self._stop) as asking:
            found = slots.look(asking, self._source.slot)
        start = found.lsn if found.slot is None or found.slot.restart is None else found.slot.restart
        return LSN(start - start % self._segment_size)

    def _behind_gap(self, connection: Connection, server: int, why: str) -> Ended:
        """WAL is gone from the primary: write that down, and go on with what it still has.

        The slot is made anew: what we have told the primary meanwhile may have moved it to where nothing is any more.
        """
        slots.drop(connection, self._source.slot)
        slots.create(connection, self._source.slot)
        start, archiver = self._slot_start(), self._archiver
        gap = Gap(archiver.timeline, archiver.durable, start, why, round(self._clock(), 3))
        _log.error(
            "%s: WAL from %s to %s is gone from the primary: moments in it and after it need a new base backup",
            self._source.cluster, gap.start, gap.end,
        )  # fmt: skip
        archiver.record(gap)
        return self._stream(connection, server, start)

    # --- the stream

    def _stream(self, connection: Connection, timeline: int, lsn: LSN) -> Ended:
        connection.start_wal(self._source.slot, lsn, timeline)
        self._archiver.begin(timeline, lsn)
        _log.info("%s: receiving WAL of timeline %d from %s", self._source.cluster, timeline, lsn)
        self._heard, self._told, self._reported = time.monotonic(), 0.0, -1
        self.streaming = True
        try:
            while True:
                message = connection.take()
                while isinstance(message, Arrived):
                    with _tracer.span("receive_block", self._labels):
                        message = self._receive(connection, message)
                if isinstance(message, Ended):
                    self._archiver.flush()
                    return message
                self._answer(connection, message)
        finally:
            self.streaming = False

    def _receive(self, connection: Connection, message: Arrived) -> Arrived | Keepalive | Ended | None:
        """Take the WAL that is there, make it durable, and say so; the message that follows."""
        following: Arrived | Keepalive | Ended | None = message
        start = self._archiver.position
        while isinstance(following, Arrived) and self._archiver.position - start < PENDING:
            self._archiver.append(following.start, following.data)
            self.seen = following.end
            following = connection.take()
        self._heard = time.monotonic()
        if not isinstance(following, Ended):
            self._sync(connection)
        return following

    def _answer(self, connection: Connection, message: Keepalive | None) -> None:
        if isinstance(message, Keepalive):
            self._heard, self.seen = time.monotonic(), message.end
            if message.reply:
                self._sync(connection, always=True)
        elif self._archiver.durable != self._reported:
            self._sync(connection)
        else:
            self._idle(connection)

    def _sync(self, connection: Connection, *, always: bool = False) -> None:
        """Make durable what is there, and say so."""
        durable = self._archiver.flush()
        if always or durable != self._reported:
            connection.report(durable, durable)
            self._reported, self._told = durable, time.monotonic()

    def _idle(self, connection: Connection) -> None:
        """Nothing to do: wait, and now and then say that we are here."""
        now = time.monotonic()
        if now - self._heard > self._source.silence:
            raise Unreachable(f"{self._source.cluster}: PostgreSQL at {connection.where} has not said a word for "
                              f"{self._source.silence:g} s.")  # fmt: skip
        due = self._told + self._source.status_interval
        if now >= due:
            asked = now - self._heard > self._source.silence / 3
            connection.report(self._reported, self._reported, reply=asked)
            self._told, due = now, now + self._source.status_interval
        connection.wait(due - now)


def _following(history: History, timeline: int) -> int:
    """The timeline that was begun when `timeline` was left."""
    later = [fork.timeline for fork in history.forks if fork.timeline > timeline]
    return min(later, default=history.timeline)


def _size(text: str | None) -> int:
    """Of a setting's value such as 16MB, in bytes. Raises: Malformed."""
    number, units = (text or "").rstrip("kMGTB"), {"": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "B": 1}
    unit = (text or "")[len(number) :]
    if not number.isdigit() or unit not in units:
        raise Malformed(f"PostgreSQL gave {text!r} as the size of a WAL segment.")
    return int(number) * units[unit]
