"""LiteLLM's databases at work: pools from the settings, and a collector for each.

psycopg is an extra of the installation, so nothing here is imported before a database is to be read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from tallykeep.errors import ConfigError
from tallykeep.runtime.work import Parts
from tallykeep.systems.litellm.figures import windows
from tallykeep.systems.litellm.settings import DatabaseSettings, LitellmSettings
from tallykeep.systems.system import Tools

if TYPE_CHECKING:
    from tallykeep.systems.litellm.database import Database

NOT_INSTALLED = "litellm: the PostgreSQL client is not installed: pip install 'tallykeep[litellm]'"


@asynccontextmanager
async def open_litellm(settings: LitellmSettings, tools: Tools) -> AsyncIterator[Parts]:
    """The work that reads every database. Raises: ConfigError."""
    asked = settings.databases or (DatabaseSettings(),)
    databases = [connected(one, settings) for one in asked]
    from tallykeep.systems.litellm.collector import DatabaseCollector, Pace

    pace = Pace(
        settings.interval,
        settings.timeout,
        settings.overlap,
        windows(settings.spend_window, settings.request_window, settings.error_window),
    )
    async with AsyncExitStack() as stack:
        collectors = []
        for database in databases:
            stack.push_async_callback(database.close)
            collector = DatabaseCollector(
                database, pace, tools.state.path, tools.clock, tools.book, label=len(asked) > 1
            )
            stack.callback(collector.close)
            collectors.append(collector)
        yield Parts(collectors=collectors)


def connected(one: DatabaseSettings, settings: LitellmSettings) -> Database:
    """A database from its settings, not connected yet.

    Raises: ConfigError for a URL that does not parse, and where psycopg is not installed.
    """
    try:
        from tallykeep.systems.litellm.address import address_of
        from tallykeep.systems.litellm.database import Database, Limits
    except ImportError as error:  # also where psycopg finds no libpq
        raise ConfigError(f"{NOT_INSTALLED} ({error})") from error
    address = address_of(one)
    limits = Limits(
        settings.connections_min,
        settings.connections_max,
        connect_timeout=settings.connect_timeout,
        statement_timeout=settings.statement_timeout,
        lock_timeout=settings.lock_timeout,
    )
    return Database(one.name, address.conninfo, address.shown, limits, schema=address.schema)
