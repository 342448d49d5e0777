"""libpq as PostgreSQL protection uses it: commands, and WAL as it is streamed. The one module that wraps psycopg.

TLS, SCRAM, service files and several hosts are libpq's own. Every call blocks its thread and nobody else's: waiting
is done in poll(2), since psycopg holds the interpreter while libpq waits. A `Stop` ends every wait at once.
Source: PostgreSQL, Streaming Replication Protocol; libpq, Asynchronous Command Processing.
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from psycopg import OperationalError, ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tallykeep.errors import ConfigError, Malformed, Refused, SourceError, Unreachable
from tallykeep.systems.postgres.lsn import LSN

TIMEOUT = 20.0  # seconds in which a server answers a command
_WAL = struct.Struct(">cQQq")  # kind, LSN of the first byte, end of WAL on the server, its clock
_KEEPALIVE = struct.Struct(">cQqB")
_STATUS = struct.Struct(">cQQQqB")
_LOOKS, _MOMENT = 8, 0.004  # how often it is read into before it is read out of, and seconds between
_PORTS = 1 << 16
_ENCODED = "What stands in a URL is percent-encoded, in a password too: @ is %40, / is %2F, : is %3A."
_EPOCH = 946_684_800  # 2000-01-01 as Unix time
_REFUSALS = ("28", "42", "0A", "55", "58", "22", "0L", "0P")  # SQLSTATE classes that trying again does not mend
_FULL = "53"  # class of what a limit of the server keeps from being done

Row = tuple[str | None, ...]


class Stopped(Exception):
    """What a wait ends with once its Stop is set."""


class Stop:
    """Set by one thread, it ends the waits of others, now and from now on."""

    def __init__(self) -> None:
        self._here, self._there = socket.socketpair()

    def set(self) -> None:
        """Idempotent."""
        self._there.close()

    def fileno(self) -> int:
        """Readable once it is set."""
        return self._here.fileno()

    def wait(self, seconds: float) -> None:
        """Sleep. Raises: Stopped."""
        if select.select([self._here], [], [], seconds)[0]:
            raise Stopped

    def close(self) -> None:
        """Let the sockets go, once nobody waits any more."""
        self._here.close()
        self._there.close()


class ServerError(Refused):
    """PostgreSQL answered a command with an error, told apart by `state` (SQLSTATE)."""

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        self.state = state


class Arrived(NamedTuple):
    """A piece of WAL."""

    start: LSN
    end: LSN  # of WAL on the server
    data: memoryview


class Keepalive(NamedTuple):
    """The server is there."""

    end: LSN  # of WAL on the server
    reply: bool  # it wants to hear where we are


class Ended(NamedTuple):
    """The server streams no more: `timeline` goes on from `lsn`; 0 when it only stops."""

    timeline: int
    lsn: LSN


class Connection:
    """One connection, used by one thread at a time. With `replication` it takes replication commands."""

    def __init__(
        self, conninfo: str, *, replication: bool = False, timeout: float = TIMEOUT, stop: Stop | None = None,
        application: str = "tallykeep",
    ) -> None:  # fmt: skip
        """Raises: ConfigError; Unreachable; Refused; Stopped."""
        self._timeout = timeout
        self._stop = stop
        check(conninfo)
        text = make_conninfo(conninfo, **_defaults(conninfo, replication), fallback_application_name=application)
        self._conn = pq.PGconn.connect_start(text.encode())
        try:
            self._connect()
        except BaseException:
            self._conn.finish()
            raise

    @property
    def version(self) -> int:
        """server_version_num: 180003."""
        return self._conn.server_version

    @property
    def where(self) -> str:
        """Host and port, for messages."""
        return f"{self._conn.host.decode()}:{self._conn.port.decode()}"

    def execute(self, command: str) -> list[Row]:
        """The rows of one command, as text. Raises: ServerError; Unreachable; Stopped."""
        self._guarded(self._conn.send_query, command.encode())
        result = self._result()
        while (more := self._result()) is not None:
            result = more
        return [] if result is None else _rows(result)

    def close(self) -> None:
        """Idempotent."""
        self._conn.finish()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- WAL

    def start_wal(self, slot: str, lsn: LSN, timeline: int) -> None:
        """Have WAL streamed from `lsn`. Raises: ServerError; Unreachable; Stopped."""
        command = f"START_REPLICATION SLOT {identifier(slot)} PHYSICAL {lsn} TIMELINE {timeline}"
        self._guarded(self._conn.send_query, command.encode())
        result = self._result()
        if result is None or result.status not in (pq.ExecStatus.COPY_BOTH, pq.ExecStatus.TUPLES_OK):
            raise Malformed(f"PostgreSQL at {self.where} did not begin to stream WAL.")
        self._ended = None if result.status == pq.ExecStatus.COPY_BOTH else _next_timeline(result)
        while self._ended is not None and self._result() is not None:
            pass
        if self._ended is None:
            self._widen()

    def take(self) -> Arrived | Keepalive | Ended | None:
        """The next message that is there, without waiting; None when there is none.

        Raises: ServerError; Unreachable; Malformed.
        """
        if self._ended is not None:
            return self._ended
        try:
            size, data = self._conn.get_copy_data(1)
            if size == 0 and (self._readable(0) or self._conn.ssl_in_use):  # what TLS holds back no poll tells of
                self._conn.consume_input()
                size, data = self._conn.get_copy_data(1)
        except OperationalError as error:
            raise self._lost(str(error)) from None
        if size == 0:
            return None
        if size < 0:
            self._ended = self._finish()
            return self._ended
        return _message(data)

    def wait(self, seconds: float) -> None:
        """Until something has arrived, or the time is over. Raises: Stopped."""
        self._readable(seconds)

    def report(self, written: int, flushed: int, *, reply: bool = False) -> None:
        """Tell the server how far WAL is written and durable; with `reply` it answers.

        Nobody reads from an archive, so what is durable counts as applied: remote_apply does not wait for ever.
        """
        now = int((time.time() - _EPOCH) * 1_000_000)
        self._guarded(self._conn.put_copy_data, _STATUS.pack(b"r", written, flushed, flushed, now, reply))
        self._flush()

    # --- within

    _ended: Ended | None = None

    def _connect(self) -> None:
        deadline = time.monotonic() + self._timeout
        while (status := self._conn.connect_poll()) != pq.PollingStatus.OK:
            if status == pq.PollingStatus.FAILED:
                raise _unconnected(self._conn.get_error_message())
            writing = status == pq.PollingStatus.WRITING
            if not self._poll(select.POLLOUT if writing else select.POLLIN, deadline - time.monotonic()):
                raise Unreachable(f"PostgreSQL at {self.where} did not answer within {self._timeout:g} s.")
        self._conn.nonblocking = 1
        self._reading = self._poller(select.POLLIN)

    def _finish(self) -> Ended:
        """End our side of the copy, and read what the server says of its own."""
        with suppress(OperationalError):  # an error has ended the copy already, and is read next
            self._conn.put_copy_end()
        result, ended = self._result(), Ended(0, LSN(0))
        while result is not None:
            if result.status == pq.ExecStatus.TUPLES_OK:
                ended = _next_timeline(result)
            result = self._result()
        return ended

    def _result(self) -> pq.abc.PGresult | None:
        self._flush()
        deadline = time.monotonic() + self._timeout
        while self._conn.is_busy():
            if not self._readable(deadline - time.monotonic()):
                raise Unreachable(f"PostgreSQL at {self.where} did not answer within {self._timeout:g} s.")
            self._guarded(self._conn.consume_input)
        result = self._conn.get_result()
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            error = self._failed(result)
            with suppress(SourceError):  # what follows an error says nothing new, and must be read
                while self._result() is not None:
                    pass
            raise error
        return result

    def _failed(self, result: pq.abc.PGresult) -> SourceError:
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        primary = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
        text = _line(primary.decode(errors="replace") if primary else result.get_error_message())
        if state[:2] == _FULL:
            return Unreachable(f"PostgreSQL at {self.where} has no room: {text}.{_limits(text)}")
        if not state or state[:2] not in _REFUSALS:
            return self._lost(text)
        return ServerError(f"PostgreSQL at {self.where} refused: {text}.", state)

    def _flush(self) -> None:
        deadline = time.monotonic() + self._timeout
        while self._guarded(self._conn.flush):
            if not self._poll(select.POLLIN | select.POLLOUT, deadline - time.monotonic()):
                raise Unreachable(f"PostgreSQL at {self.where} took nothing for {self._timeout:g} s.")
            self._guarded(self._conn.consume_input)

    def _guarded(self, call: Callable[..., int | None], *args: bytes) -> int | None:
        try:
            return call(*args)
        except OperationalError as error:
            raise self._lost(str(error)) from None

    def _lost(self, text: str) -> Unreachable:
        return Unreachable(f"The connection to PostgreSQL at {self.where} was lost: {_line(text)}.")

    def _widen(self) -> None:
        """Have libpq's buffer grow where much is coming: it does so as long as it is read into and not out of.

        From 16 KiB to a MiB or two: a look at the socket then brings many messages, and WAL costs a fifth less CPU.
        """
        for _ in range(_LOOKS):
            if not self._readable(_MOMENT):
                return
            self._guarded(self._conn.consume_input)
            time.sleep(_MOMENT)

    def _readable(self, seconds: float) -> bool:
        return self._ready(self._reading, seconds)

    def _poll(self, events: int, seconds: float) -> bool:
        return self._ready(self._poller(events), seconds)

    def _poller(self, events: int) -> select.poll:
        poll = select.poll()
        poll.register(self._conn.socket, events)
        if self._stop is not None:
            poll.register(self._stop, select.POLLIN)
        return poll

    def _ready(self, poll: select.poll, seconds: float) -> bool:
        """Whether the socket is ready. Raises: Stopped."""
        ready = poll.poll(max(0.0, seconds) * 1000)
        if ready and self._stop is not None and any(fd == self._stop.fileno() for fd, _ in ready):
            raise Stopped
        return bool(ready)


def check(conninfo: str) -> None:
    """See that it is a connection string, without telling any of it: a password may be in the wrong place.

    Raises: ConfigError.
    """
    try:
        told = conninfo_to_dict(conninfo)
    except ProgrammingError as error:
        raise ConfigError(f"The connection string of PostgreSQL cannot be used: {_unquoted(str(error))}.") from None
    url = conninfo.startswith(("postgres://", "postgresql://"))
    if url and any("@" in str(told.get(part) or "").removeprefix("@") for part in ("host", "dbname")):
        raise ConfigError(f"The connection string of PostgreSQL cannot be used: it has an @ too many. {_ENCODED}")
    if not all(port.isascii() and port.isdigit() and int(port) < _PORTS for port in _listed(told.get("port"))):
        raise ConfigError(f"The connection string of PostgreSQL cannot be used: its port is no number. {_ENCODED}")


def _listed(text: object) -> list[str]:
    """The parts of a list that are not empty."""
    return [part for part in str(text or "").split(",") if part]


def _unquoted(text: str) -> str:
    """An error without what it quotes."""
    return re.sub(r'".*"', '"..."', _line(text).replace('"="', "="))


def _defaults(conninfo: str, replication: bool) -> dict[str, str]:
    """What a connection string need not say: a database to ask in is there always."""
    if replication:
        return {"replication": "true"}
    told = conninfo_to_dict(conninfo).get("dbname") or os.environ.get("PGDATABASE")
    return {} if told else {"dbname": "postgres"}


def identifier(name: str) -> str:
    """A name as the replication protocol's grammar takes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL takes it, with standard_conforming_strings."""
    return "'" + text.replace("'", "''") + "'"


def _message(data: memoryview) -> Arrived | Keepalive:
    kind = bytes(data[:1])
    if kind == b"w":
        _, start, end, _ = _WAL.unpack_from(data)
        return Arrived(LSN(start), LSN(end), data[_WAL.size :])
    if kind == b"k":
        _, end, _, reply = _KEEPALIVE.unpack_from(data)
        return Keepalive(LSN(end), bool(reply))
    raise Malformed(f"PostgreSQL sent a message of kind {kind!r} in a stream of WAL; a newer tallykeep may know it.")


def _rows(result: pq.abc.PGresult) -> list[Row]:
    """As text; a server whose encoding is not UTF-8 has bytes that are none, which are kept."""
    return [
        tuple(
            None if (value := result.get_value(row, column)) is None else value.decode(errors="surrogateescape")
            for column in range(result.nfields)
        )
        for row in range(result.ntuples)
    ]


def _next_timeline(result: pq.abc.PGresult) -> Ended:
    (timeline, lsn) = _rows(result)[0]
    return Ended(int(timeline or 0), LSN.parse(lsn or "0/0"))


def _unconnected(message: str) -> SourceError:
    text = _line(message)
    refusals = ("authentication failed", "no pg_hba.conf entry", "does not exist", "permission denied")
    if "certificate" in text or ("SSL" in text and "pg_hba.conf" not in text):
        return Refused(f"PostgreSQL and we do not agree on TLS: {text}. See sslmode and sslrootcert of the connection "
                       "string, and ssl in postgresql.conf.")  # fmt: skip
    if limits := _limits(text):
        return Unreachable(f"PostgreSQL has no room for the connection: {text}.{limits}")
    if any(word in text for word in refusals):
        return Refused(f"PostgreSQL refused the connection: {text}. The role needs REPLICATION and LOGIN, a password "
                       "that is right, and a line in pg_hba.conf.")  # fmt: skip
    return Unreachable(f"PostgreSQL cannot be reached: {text}.")


def _limits(text: str) -> str:
    """What to raise where a limit was reached."""
    if "max_wal_senders" in text:
        return " Raise max_wal_senders: one is taken for WAL, one more for a base backup; wal_level is replica."
    if "replication slots are in use" in text:
        return " Raise max_replication_slots, or drop a slot that nobody uses."
    return ""


def _line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
