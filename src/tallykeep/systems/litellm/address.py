"""Where a database is: libpq's connection string, from a URL or from single values.

A URL may be the one LiteLLM itself uses: what Prisma adds to it for its own ends is left out, and its `schema` is
looked into.
Source: PostgreSQL, libpq connection strings; Prisma, PostgreSQL connection URLs.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tallykeep.errors import ConfigError
from tallykeep.systems.litellm.settings import DatabaseSettings

_PRISMA = {
    "schema", "connection_limit", "pool_timeout", "socket_timeout", "pgbouncer", "statement_cache_size", "sslaccept",
}  # fmt: skip
_ALWAYS = {
    "application_name": "tallykeep",
    "client_encoding": "UTF8",
    "keepalives_idle": "30",  # a connection that a firewall has forgotten is noticed within a minute
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}


@dataclass(frozen=True, slots=True)
class Address:
    """`conninfo` may hold a password; `shown` (host:port/dbname) never does."""

    conninfo: str
    shown: str
    schema: str  # to look for tables in; "" leaves the role's search path

    def __repr__(self) -> str:
        return f"Address({self.shown})"


def address_of(one: DatabaseSettings) -> Address:
    """The address that settings describe. Raises: ConfigError for a URL that does not parse."""
    values, schema = _of_url(one) if one.url else (_of_values(one), "")
    values = {**_ALWAYS, **values}
    host, port = values.get("host", "localhost"), values.get("port", "5432")
    if not all(each.isdecimal() for each in port.split(",") if each):
        raise ConfigError(f"litellm: database {one.name}: the port in the connection URL is not a number")
    shown = f"{host}:{port}/{values.get('dbname', values.get('user', ''))}"
    return Address(make_conninfo(**values), shown, one.schema or schema)


def _of_url(one: DatabaseSettings) -> tuple[dict[str, str], str]:
    url, schema = _without_prisma(one.url.reveal())
    try:
        return {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}, schema
    except ProgrammingError:  # its message quotes the URL, password and all
        raise ConfigError(
            f"litellm: database {one.name}: the connection URL does not parse; write "
            "postgresql://user:password@host:port/dbname, and %40 for an @ in the password"
        ) from None


def _without_prisma(url: str) -> tuple[str, str]:
    """The URL without Prisma's own parameters, and the schema that was among them."""
    if "://" not in url:  # key=value pairs, as libpq takes them too
        return url, ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url, ""  # libpq refuses it as well
    given = [pair for pair in parts.query.split("&") if pair]  # taken apart by libpq's rules: a + is no space
    kept = [pair for pair in given if pair.partition("=")[0] not in _PRISMA]
    schemas = [unquote(pair.partition("=")[2]) for pair in given if pair.partition("=")[0] == "schema"]
    return parts._replace(query="&".join(kept)).geturl(), schemas[-1] if schemas else ""


def _of_values(one: DatabaseSettings) -> dict[str, str]:
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
    return {name: value for name, value in values.items() if value}
