"""One LiteLLM database, read and never written: the only module that knows psycopg.

Sessions are read-only and pinned to UTC, carry an application_name, and give up after statement_timeout and
lock_timeout, so that tallykeep can neither change nor hold up what it watches.

Source: PostgreSQL, Client Connection Defaults; psycopg 3, Connection pools.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg import errors, sql
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from tallykeep.errors import Malformed, Refused, SourceError, Unreachable
from tallykeep.systems.litellm.schema import NEEDS, PROBE, Schema


class Outdated(Malformed):
    """A table or column is not there: the schema is to be probed again."""

    code = "schema"


class Cancelled(Unreachable):
    """The server gave up on a statement: statement_timeout, lock_timeout or an administrator."""

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
    """A pool of read-only sessions.

    `name` and `address` (host:port/dbname) stand in messages; `conninfo` may hold a password and never does.
    """

    def __init__(self, name: str, conninfo: str, address: str, limits: Limits, schema: str = "") -> None:
        self.name = name
        self.address = address
        self._conninfo = conninfo
        self._schema = schema  # to look into first; "" leaves the search path of the role
        self._limits = limits
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            conninfo,
            min_size=limits.connections_min,
            max_size=max(limits.connections_min, limits.connections_max),
            open=False,
            configure=self._configure,
            check=AsyncConnectionPool.check_connection,
            timeout=limits.connect_timeout,
            reconnect_timeout=limits.connect_timeout,
            kwargs={
                "autocommit": True,
                "connect_timeout": max(2, round(limits.connect_timeout)),
                "prepare_threshold": None,
            },
            name=f"litellm-{name}",
        )

    async def _configure(self, connection: Connection) -> None:
        milliseconds = {"statement_timeout": self._limits.statement_timeout, "lock_timeout": self._limits.lock_timeout}
        values = {name: f"{round(seconds * 1000)}ms" for name, seconds in milliseconds.items()}
        values |= {
            "default_transaction_read_only": "on",
            "TimeZone": "UTC",
            "application_name": "tallykeep",
            "idle_in_transaction_session_timeout": "60s",
            "jit": "off",  # compiling costs more than these statements run
        }
        for name, value in values.items():
            await connection.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        if self._schema:
            await connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(self._schema)))

    async def open(self) -> None:
        """Start connecting in the background; nothing is raised while the server is away."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Let the connections go. Idempotent."""
        await self._pool.close(timeout=2.0)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A read-only transaction.

        Raises: Unreachable, Refused, Cancelled, Outdated, Malformed, each naming the database.
        """
        try:
            async with self._pool.connection() as connection:
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                try:
                    yield Session(connection)
                finally:
                    if not connection.closed:
                        await asyncio.shield(connection.rollback())
        except (psycopg.Error, PoolTimeout, PoolClosed, OSError) as error:
            raise await self._explained(error) from error

    async def _explained(self, error: Exception) -> SourceError:
        """A pool only says that nobody came; one connection of our own tells why."""
        if isinstance(error, PoolTimeout):
            try:
                async with await psycopg.AsyncConnection.connect(self._conninfo, connect_timeout=3):
                    pass
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
                return Refused(f"{where}: {said}; grant the role SELECT on it")
            case errors.InvalidPassword() | errors.InvalidAuthorizationSpecification():
                return Refused(f"{where}: {said}; check user and password")
            case errors.InvalidCatalogName():
                return Refused(f"{where}: {said}; check the name of the database")
            case errors.QueryCanceled() | errors.LockNotAvailable():
                return Cancelled(f"{where}: {said}; the statement took longer than it may")
            case psycopg.OperationalError() if "password" in said or "authentication" in said or "pg_hba" in said:
                return Refused(f"{where}: {said}; check user, password and pg_hba.conf")
            case psycopg.OperationalError() if 'database "' in said and "does not exist" in said:
                return Refused(f"{where}: {said}; check the name of the database")
            case PoolTimeout():
                return Unreachable(f"{where}: no connection came free in time; raise DB_MAX_CONNECTIONS")
            case psycopg.OperationalError() | psycopg.InterfaceError() | PoolClosed() | OSError():
                return Unreachable(f"{where} does not answer: {said}; check host, port and network")
        return Malformed(f"{where}: {said}")

    async def schema(self) -> Schema:
        """What tables and columns are there and may be read."""
        async with self.session() as session:
            return Schema.of(await session.rows(PROBE, ([*NEEDS],)))
