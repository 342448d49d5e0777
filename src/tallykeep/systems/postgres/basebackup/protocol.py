"""BASE_BACKUP: one command, answered with everything a data directory holds.

From PostgreSQL 15 on one COPY carries all archives and the manifest, and its messages say what they are; 14 sends one
COPY for each tablespace and one for the manifest. WAL is not asked for: it is streamed already.
Every call blocks: use it from a thread.
Source: PostgreSQL, Streaming Replication Protocol, BASE_BACKUP.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from psycopg import pq
from psycopg.conninfo import make_conninfo

from tallykeep.errors import Malformed, Refused, SourceError, Unreachable

_MODERN = 150000  # server_version_num


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


class BaseBackup:
    """A connection for one base backup. Closed, it ends the backup on the server as well."""

    def __init__(self, conninfo: str) -> None:
        """Raises: Unreachable; Refused."""
        self._conn = pq.PGconn.connect(make_conninfo(conninfo, replication="true").encode())
        if self._conn.status != pq.ConnStatus.OK:
            raise _translated(self._conn.get_error_message())
        self.version = self._conn.server_version
        self._begun = Begun("", 0, ())

    def identify(self) -> str:
        """The system identifier."""
        result = self._conn.exec_(b"IDENTIFY_SYSTEM")
        self._check(result, pq.ExecStatus.TUPLES_OK)
        return _text(result, 0, 0)

    def begin(self, label: str) -> Begun:
        """Ask for the backup, with a fast checkpoint, and wait until it starts. Raises: Refused; Unreachable."""
        quoted = label.replace("'", "''")
        if self.version >= _MODERN:
            options = f"LABEL '{quoted}', CHECKPOINT 'fast', WAIT false, TABLESPACE_MAP true, PROGRESS true, "
            command = f"BASE_BACKUP ({options}MANIFEST 'yes', MANIFEST_CHECKSUMS 'SHA256')"
        else:
            options = f"LABEL '{quoted}' PROGRESS FAST NOWAIT TABLESPACE_MAP "
            command = f"BASE_BACKUP {options}MANIFEST 'yes' MANIFEST_CHECKSUMS 'SHA256'"
        self._conn.send_query(command.encode())
        start, spaces = self._next(pq.ExecStatus.TUPLES_OK), self._next(pq.ExecStatus.TUPLES_OK)
        found = tuple(
            Space(int(_text(spaces, row, 0) or 0), _text(spaces, row, 1), 1024 * int(_text(spaces, row, 2) or 0))
            for row in range(spaces.ntuples)
        )
        self._begun = Begun(_text(start, 0, 0), int(_text(start, 0, 1)), found)
        return self._begun

    def messages(self) -> Iterator[Message]:
        """Everything that is sent, in order. Raises: Refused, Unreachable, Malformed."""
        if self.version >= _MODERN:
            self._next(pq.ExecStatus.COPY_OUT)
            for message in self._copied():
                if (found := _modern(message)) is not None:
                    yield found
            return
        for space in self._begun.spaces:
            self._next(pq.ExecStatus.COPY_OUT)
            yield Archive(space.oid)
            for data in self._copied():
                yield memoryview(data)
        self._next(pq.ExecStatus.COPY_OUT)
        yield Manifest()
        for data in self._copied():
            yield memoryview(data)

    def end(self) -> tuple[str, int]:
        """LSN and timeline at the end, once everything has been read."""
        result = self._next(pq.ExecStatus.TUPLES_OK)
        while self._conn.get_result() is not None:
            pass
        return _text(result, 0, 0), int(_text(result, 0, 1))

    def close(self) -> None:
        """Idempotent."""
        self._conn.finish()

    def _copied(self) -> Iterator[bytes]:
        while True:
            size, data = self._conn.get_copy_data(0)
            if size < 0:
                break
            yield bytes(data)
        if size < -1:
            raise _translated(self._conn.get_error_message())

    def _next(self, wanted: pq.ExecStatus) -> pq.abc.PGresult:
        result = self._conn.get_result()
        while result is not None and result.status == pq.ExecStatus.COMMAND_OK:
            result = self._conn.get_result()
        if result is None:
            raise Malformed("PostgreSQL ended the base backup before it was complete.")
        self._check(result, wanted)
        return result

    def _check(self, result: pq.abc.PGresult, wanted: pq.ExecStatus) -> None:
        if result.status != wanted:
            raise _translated(result.get_error_message() or f"answered {pq.ExecStatus(result.status).name}")


def _modern(message: bytes) -> Message | None:
    kind = message[:1]
    if kind == b"d":
        return memoryview(message)[1:]
    if kind == b"n":
        name = message[1:].split(b"\0")[0].decode()
        return Archive(0 if name == "base.tar" else int(name.removesuffix(".tar")))
    if kind == b"m":
        return Manifest()
    if kind == b"p":
        return None
    raise Malformed(f"PostgreSQL sent a message of kind {kind!r} in a base backup; a newer tallykeep may know it.")


def _text(result: pq.abc.PGresult, row: int, column: int) -> str:
    return (result.get_value(row, column) or b"").decode()


def _translated(message: str) -> SourceError:
    text = " ".join(message.split())
    if any(word in text for word in ("authentication", "no pg_hba.conf entry", "permission denied", "must be")):
        return Refused(
            f"PostgreSQL refused the base backup: {text}. The role needs REPLICATION and a line in pg_hba.conf."
        )
    return Unreachable(f"The base backup could not go on: {text}.")
