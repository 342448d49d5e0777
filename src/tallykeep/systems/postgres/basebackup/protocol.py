"""BASE_BACKUP: one command, answered with everything a data directory holds.

From PostgreSQL 15 on one COPY carries all archives and the manifest, and its messages say what they are; 14 sends one
COPY for each tablespace and one for the manifest. WAL is not asked for: it is streamed already.
Every call blocks its thread and nobody else's, and a Stop ends every wait, as in replication.py.
Source: PostgreSQL, Streaming Replication Protocol, BASE_BACKUP.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from psycopg import OperationalError, pq

from tallykeep.errors import Malformed, Unreachable
from tallykeep.systems.postgres.replication import Connection, Stop, literal

_MODERN = 150000  # server_version_num
_DATA, _ARCHIVE, _MANIFEST, _PROGRESS = b"dnmp"  # kinds of messages
_GLANCE = 0.2  # seconds between two looks while nothing comes
SILENCE = 900.0  # seconds without a word after which the server is given up: a checkpoint may take minutes


class Space(NamedTuple):
    """A tablespace, or the data directory itself."""

    oid: int  # 0: the data directory
    location: str
    size: int  # bytes, about


class Begun(NamedTuple):
    """What the server says before it sends anything."""

    start_lsn: str
    timeline: int
    spaces: tuple[Space, ...]


class Archive(NamedTuple):
    """What follows is the archive of a tablespace."""

    oid: int  # 0: the data directory


class Manifest(NamedTuple):
    """What follows is the backup manifest."""


Message = Archive | Manifest | memoryview


class BaseBackup(Connection):
    """A connection for one base backup. Closed, it ends the backup on the server as well."""

    def __init__(self, conninfo: str, stop: Stop | None = None) -> None:
        """Raises: ConfigError; Unreachable; Refused; Stopped."""
        super().__init__(conninfo, replication=True, stop=stop, application="tallykeep base backup")
        self._begun = Begun("", 0, ())

    def identify(self) -> str:
        """The system identifier. Raises: ServerError; Unreachable; Stopped."""
        return self.execute("IDENTIFY_SYSTEM")[0][0] or ""

    def begin(self, label: str) -> Begun:
        """Ask for the backup, with a fast checkpoint, and wait until it starts.

        Raises: ServerError; Unreachable; Stopped.
        """
        label = literal(label)
        if self.version >= _MODERN:
            options = f"LABEL {label}, CHECKPOINT 'fast', WAIT false, TABLESPACE_MAP true, PROGRESS true, "
            command = f"BASE_BACKUP ({options}MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C')"
        else:
            options = f"LABEL {label} PROGRESS FAST NOWAIT TABLESPACE_MAP "
            command = f"BASE_BACKUP {options}MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'"
        self._guarded(self._conn.send_query, command.encode())
        self._flush()
        start, spaces = self._next(pq.ExecStatus.TUPLES_OK), self._next(pq.ExecStatus.TUPLES_OK)
        found = tuple(
            Space(int(_text(spaces, row, 0) or 0), _text(spaces, row, 1), 1024 * int(_text(spaces, row, 2) or 0))
            for row in range(spaces.ntuples)
        )
        self._begun = Begun(_text(start, 0, 0), int(_text(start, 0, 1)), found)
        return self._begun

    def messages(self) -> Iterator[Message]:
        """Everything that is sent, in order. Raises: ServerError; Unreachable; Malformed; Stopped."""
        if self.version >= _MODERN:
            self._next(pq.ExecStatus.COPY_OUT)
            for message in self._copied():
                if (found := _modern(message)) is not None:
                    yield found
            return
        for space in self._begun.spaces:
            self._next(pq.ExecStatus.COPY_OUT)
            yield Archive(space.oid)
            yield from self._copied()
        self._next(pq.ExecStatus.COPY_OUT)
        yield Manifest()
        yield from self._copied()

    def end(self) -> tuple[str, int]:
        """LSN and timeline at the end, once everything has been read."""
        result = self._next(pq.ExecStatus.TUPLES_OK)
        while self._answer() is not None:
            pass
        return _text(result, 0, 0), int(_text(result, 0, 1))

    def _copied(self) -> Iterator[memoryview]:
        take, consume = self._conn.get_copy_data, self._conn.consume_input
        waited, silent = True, 0.0
        try:
            self._widen()  # a GB costs half the CPU time then
            while True:
                size, data = take(1)
                if size > 0:
                    yield data
                    waited, silent = False, 0.0
                elif size < 0:
                    return
                elif waited:
                    silent = self._await(silent)
                    consume()
                else:  # more has nearly always come by now, and asking poll would cost as much as looking
                    consume()
                    waited = True
        except OperationalError as error:
            raise self._lost(str(error)) from None

    def _next(self, wanted: pq.ExecStatus) -> pq.abc.PGresult:
        result = self._answer()
        while result is not None and result.status == pq.ExecStatus.COMMAND_OK:
            result = self._answer()
        if result is None:
            raise Malformed("PostgreSQL ended the base backup before it was complete.")
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise self._failed(result)
        if result.status != wanted:
            raise Malformed(f"PostgreSQL answered {pq.ExecStatus(result.status).name} in a base backup.")
        return result

    def _answer(self) -> pq.abc.PGresult | None:
        """The next result, however long the server takes."""
        silent = 0.0
        while self._conn.is_busy():
            silent = self._await(silent)
            self._guarded(self._conn.consume_input)
        return self._conn.get_result()

    def _await(self, silent: float) -> float:
        """Until something has come, or a moment has passed: with TLS, poll does not see all. Since when that lasts."""
        now = time.monotonic()
        if silent and now - silent > SILENCE:
            raise Unreachable(f"PostgreSQL at {self.where} has sent nothing of its base backup for {SILENCE:g} s.")
        self._readable(_GLANCE)
        return silent or now


def _modern(message: memoryview) -> Message | None:
    kind = message[0] if len(message) else 0
    if kind == _DATA:
        return message[1:]
    if kind == _ARCHIVE:
        name = bytes(message[1:]).split(b"\0")[0].decode()
        return Archive(0 if name == "base.tar" else int(name.removesuffix(".tar")))
    if kind == _MANIFEST:
        return Manifest()
    if kind == _PROGRESS:
        return None
    raise Malformed(f"PostgreSQL sent a message of kind {kind} in a base backup; a newer tallykeep may know it.")


def _text(result: pq.abc.PGresult, row: int, column: int) -> str:
    return (result.get_value(row, column) or b"").decode(errors="surrogateescape")
