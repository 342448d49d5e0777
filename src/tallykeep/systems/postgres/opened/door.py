"""How an open server is connected to: its Unix socket, or 127.0.0.1 with a password that is this server's alone.

The socket lies in a folder that only PostgreSQL's user and root enter, and asks nobody for a password, whatever the
roles and the pg_hba.conf of the cluster say. By TCP, which every user of the machine reaches, one role may connect,
which was made for that.
Source: PostgreSQL, libpq: Connection URIs, Environment Variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

from tallykeep.systems.postgres.throwaway.server import RestoredServer

_KEPT = {"PGAPPNAME", "PGCLIENTENCODING", "PGCONNECT_TIMEOUT", "PGDATESTYLE", "PGTZ"}  # these lead nowhere else
_PATIENCE = 60.0  # seconds for a question
_DATABASE = (
    "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate "
    "ORDER BY datname <> 'postgres', datname LIMIT 1"
)


class Door(NamedTuple):
    """Where, and as whom."""

    host: str  # a folder: there is the socket
    port: int
    user: str
    password: str  # empty: none is asked for
    database: str

    @property
    def dsn(self) -> str:
        """A connection URL of libpq."""
        login, database = quote(self.user, safe=""), quote(self.database, safe="")
        if self.host.startswith("/"):
            return f"postgresql://{login}@/{database}?host={quote(self.host, safe='')}&port={self.port}"
        return (
            f"postgresql://{login}:{quote(self.password, safe='')}@{self.host}:{self.port}/{database}?sslmode=disable"
        )

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """For a program, with nothing left of what would lead it to another server."""
        kept = {name: value for name, value in environ.items() if not name.startswith("PG") or name in _KEPT}
        place = {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user, "PGDATABASE": self.database}
        secret = {"PGPASSWORD": self.password} if self.password else {}
        return kept | place | secret | {"DATABASE_URL": self.dsn}


def door_of(server: RestoredServer) -> Door:
    """The door of a server that has recovered. Blocks. Raises: Ended; SourceErrors."""
    rows = server.rows("template1", _DATABASE, _PATIENCE)
    database = str(rows[0][0]) if rows else "template1"
    if server.visitor:
        return Door("127.0.0.1", server.port, server.visitor, server.admit(), database)
    host, port = server.socket
    return Door(host, int(port), server.user, "", database)
