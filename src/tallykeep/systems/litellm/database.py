"""One LiteLLM database, read and never written: the only module that knows psycopg.

Every statement runs in a read-only transaction that is pinned to UTC and gives up after statement_timeout and
lock_timeout, so that tallykeep can neither change nor hold up what it watches. All of that is set for the
transaction, in the message that begins it, and nothing for the session: behind a pooler that hands a server
connection to another client after each transaction (PgBouncer) a session's settings would be somebody else's.

Source: PostgreSQL, Client Connection Defaults and libpq; psycopg 3, Connection pools; PgBouncer, Features.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg import errors, sql
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from tallykeep.errors import Malformed, Refused, SourceError, Unreachable
from tallykeep.systems.litellm.schema import NEEDS, PROBE, REQUIRED, Schema

logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # what it warns of, session() raises


class Outdated(Malformed):
    """A table or column is not there (any more): the schema is to be probed again."""

    code = "schema"


class Ungranted(Refused):
    """A table or column may not be read (any more): the schema is to be probed again."""


class Cancelled(Unreachable):
    """The server gave up on a statement: statement_timeout, lock_timeout, recovery or an administrator."""

    code = "cancelled"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the server a session may take."""

    connections_min: int = 1
    connections_max: int = 10
    connect_timeout: float = 10.0  # seconds
    statement_timeout: float = 30.0  # seconds
    lock_timeout: float = 2.0  # seconds


Row = tuple[Any, ...]
Connection = psycopg.AsyncConnection[Row]


class Session:
    """One read-only transaction: every statement in it sees the same rows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def rows(
        self, statement: str, parameters: Mapping[str, object] | Sequence[object] | None = None
    ) -> list[Row]:
        """All rows of a statement."""
        cursor = self._connection.cursor(binary=True)
        async with cursor:
            await cursor.execute(cast("Any", statement), parameters)
            return await cursor.fetchall()


class Database:
    """A pool of connections, and read-only sessions on them.

    `name` and `address` (host:port/dbname) stand in messages; `conninfo` may hold a password and never does.
    """

    def __init__(self, name: str, conninfo: str, address: str, limits: Limits, schema: str = "") -> None:
        self.name = name
        self.address = address
        self._conninfo = conninfo
        self._limits = limits
        self._begin = _begin(limits, schema)
        self._pool: AsyncConnectionPool[Connection] | None = None  # none before the server has answered
        self._connecting = asyncio.Lock()

    async def open(self) -> None:
        """Nothing is connected before the first session, and nothing is raised while the server is away."""

    async def close(self) -> None:
        """Let the connections go. Idempotent."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close(timeout=2.0)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A read-only transaction.

        Raises: Unreachable, Refused, Cancelled, Outdated, Malformed, each naming the database.
        """
        try:
            pool = await self._connected()
            async with pool.connection() as connection:
                await connection.execute(self._begin)
                try:
                    yield Session(connection)
                finally:
                    if not connection.closed:
                        await asyncio.shield(connection.rollback())
        except PoolTimeout as error:
            await self.close()
            raise await self._explained(error) from error
        except (psycopg.OperationalError, PoolClosed, OSError) as error:
            said = self.translated(error)
            if type(said) is Unreachable:  # look for the server anew, not for what is left of the pool
                await self.close()
            raise said from error
        except psycopg.Error as error:
            raise self.translated(error) from error

    async def _connected(self) -> AsyncConnectionPool[Connection]:
        """The pool, made once one connection has succeeded: a pool only says that none came in time, not why."""
        async with self._connecting:
            if self._pool is None:
                await self._try()
                limits = self._limits
                alone = limits.connections_max == 1  # then one session waits for the other, not for the server
                self._pool = AsyncConnectionPool(
                    self._conninfo,
                    min_size=limits.connections_min,
                    max_size=max(1, limits.connections_min, limits.connections_max),
                    open=False,
                    check=AsyncConnectionPool.check_connection,
                    timeout=limits.connect_timeout + (2 * limits.statement_timeout if alone else 0),
                    reconnect_timeout=limits.connect_timeout,
                    kwargs=self._options(),
                    name=f"litellm-{self.name}",
                )
                await self._pool.open(wait=False)
            return self._pool

    def _options(self) -> dict[str, Any]:
        return {
            "autocommit": True,
            "connect_timeout": max(2, round(self._limits.connect_timeout)),
            "prepare_threshold": None,  # a pooler may put each transaction on another server connection
        }

    async def _try(self) -> None:
        connection = await psycopg.AsyncConnection.connect(self._conninfo, **self._options())
        await connection.close()

    async def _explained(self, error: PoolTimeout) -> SourceError:
        try:
            await self._try()
        except (psycopg.Error, OSError) as reason:
            return self.translated(reason)
        return self.translated(error)

    def translated(self, error: Exception) -> SourceError:
        """The error of our tree for one of psycopg's, in words that say what to do."""
        where = f"database {self.name} ({self.address})"
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        match error:
            case errors.UndefinedTable() | errors.UndefinedColumn() | errors.UndefinedFunction():
                return Outdated(f"{where}: {said}; the schema is probed again")
            case errors.InsufficientPrivilege():
                return Ungranted(f"{where}: {said}; grant the role SELECT on it")
            case errors.InvalidPassword() | errors.InvalidAuthorizationSpecification():
                return Refused(f"{where}: {said}; check user and password")
            case errors.InvalidCatalogName():
                return Refused(f"{where}: {said}; check the name of the database")
            case errors.QueryCanceled() | errors.LockNotAvailable() | errors.SerializationFailure():
                return Cancelled(f"{where}: {said}; the statement was given up and is tried again")
            case psycopg.OperationalError() if _is_of_login(said):
                return Refused(f"{where}: {said}; check user, password and pg_hba.conf")
            case psycopg.OperationalError() if 'database "' in said and "does not exist" in said:
                return Refused(f"{where}: {said}; check the name of the database")
            case psycopg.OperationalError() if "certificate" in said or "SSL" in said:
                return Unreachable(f"{where}: {said}; check LITELLM_DB_SSLMODE and the certificates")
            case PoolTimeout():
                return Unreachable(f"{where}: no connection came free in time; raise DB_MAX_CONNECTIONS")
            case psycopg.OperationalError() | psycopg.InterfaceError() | PoolClosed() | OSError():
                return Unreachable(f"{where} does not answer: {said}; check host, port and network")
        return Malformed(f"{where}: {said}")

    async def schema(self) -> Schema:
        """What tables and columns are there, and which of them may be read."""
        async with self.session() as session:
            return Schema.of(await session.rows(PROBE, ([*{**REQUIRED, **NEEDS}],)))


def _is_of_login(said: str) -> bool:
    return any(word in said for word in ("password", "authentication", "pg_hba", "role ")) and "SSL error" not in said


def _begin(limits: Limits, schema: str) -> sql.Composed:
    """What begins a session, as one message."""
    values = {
        "TimeZone": "UTC",
        "statement_timeout": f"{round(limits.statement_timeout * 1000)}ms",
        "lock_timeout": f"{round(limits.lock_timeout * 1000)}ms",
        "idle_in_transaction_session_timeout": "60s",
        "jit": "off",  # compiling costs more than these statements run
        "work_mem": "32MB",  # the groups of a day are hashed, not sorted: a third of the time
        "max_parallel_workers_per_gather": "0",  # one core of the server and no more
    }
    if schema:
        values["search_path"] = schema
    settings = [
        sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in values.items()
    ]
    return sql.SQL("; ").join([sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"), *settings])
