"""LiteLLM's databases at work: pools from the settings, and a collector for each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tallykeep.errors import ConfigError
from tallykeep.runtime.work import Parts
from tallykeep.systems.litellm.collector import DatabaseCollector, Pace
from tallykeep.systems.litellm.database import Database, Limits
from tallykeep.systems.litellm.figures import windows
from tallykeep.systems.litellm.settings import DatabaseSettings, LitellmSettings
from tallykeep.systems.system import Tools


@asynccontextmanager
async def open_litellm(settings: LitellmSettings, tools: Tools) -> AsyncIterator[Parts]:
    """The work that reads every database. Raises: ConfigError."""
    asked = settings.databases or (DatabaseSettings(),)
    pace = Pace(
        settings.interval,
        settings.timeout,
        settings.overlap,
        windows(settings.spend_window, settings.request_window, settings.error_window),
    )
    async with AsyncExitStack() as stack:
        collectors = []
        for one in asked:
            database = connected(one, settings)
            await database.open()
            stack.push_async_callback(database.close)
            collectors.append(
                DatabaseCollector(database, pace, tools.state.path, tools.clock, tools.book, label=len(asked) > 1)
            )
        yield Parts(collectors=collectors)


def connected(one: DatabaseSettings, settings: LitellmSettings) -> Database:
    """A database from its settings, not connected yet. Raises: ConfigError for a URL that does not parse."""
    conninfo = _conninfo(one)
    said = conninfo_to_dict(conninfo)
    address = f"{said.get('host', 'localhost')}:{said.get('port', 5432)}/{said.get('dbname', '')}"
    limits = Limits(
        settings.connections_min,
        settings.connections_max,
        statement_timeout=settings.statement_timeout,
        lock_timeout=settings.lock_timeout,
    )
    return Database(one.name, conninfo, address, limits, schema=one.schema)


def _conninfo(one: DatabaseSettings) -> str:
    if one.url:
        try:
            return make_conninfo(one.url.reveal())
        except Exception:  # the message of a parse error quotes the URL, password and all
            raise ConfigError(
                f"litellm: database {one.name}: the connection URL does not parse; "
                "write postgresql://user:password@host:port/dbname"
            ) from None
    values = {
        "host": one.host,
        "port": str(one.port),
        "dbname": one.dbname,
        "user": one.user,
        "password": one.password.reveal(),
        "sslmode": one.sslmode,
        "sslrootcert": str(one.sslrootcert or ""),
        "sslcert": str(one.sslcert or ""),
        "sslkey": str(one.sslkey or ""),
    }
    return make_conninfo(**{name: value for name, value in values.items() if value})
