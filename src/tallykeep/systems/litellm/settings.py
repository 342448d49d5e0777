"""Settings of LiteLLM's database: where it is, how often it is read, over which windows.

The published variables describe the database named default. Any number of databases stand in tallykeep.yaml
under `litellm: databases:`.
Source: contract/environment.tsv.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tallykeep.config.model import DEFAULT_TARGET, Secret, setting, targets
from tallykeep.config.parse import PATH, Parser, duration, integer, one_of
from tallykeep.units import parse_duration


def _window(text: str) -> int:
    """Whole minutes, in seconds, of a window such as 30d, 24h or 90m."""
    if text[-1:] not in ("d", "h", "m"):
        raise ValueError(f"{text!r} is not a window")
    seconds = parse_duration(text)
    if seconds < 60 or seconds % 60:
        raise ValueError(f"{text!r} is not a whole number of minutes")
    return int(seconds)


WINDOW = Parser(_window, "a window of whole minutes: a number and d, h or m, such as 30d, 24h, 90m")


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """One LiteLLM database."""

    name: str = setting(DEFAULT_TARGET, help="Value of the label `database` where more than one is configured.")
    url: Secret = setting(
        Secret(""), env="LITELLM_DATABASE_URL", parse=Secret, switch=True,
        help="Connection URL, postgresql://user:password@host:port/dbname?sslmode=...; instead of the single values.",
    )  # fmt: skip
    host: str = setting("localhost", env="LITELLM_DB_HOST", switch=True, help="PostgreSQL host.")
    port: int = setting("5432", env="LITELLM_DB_PORT", switch=True, parse=integer(1, 65535), help="PostgreSQL port.")
    dbname: str = setting("litellm", env="LITELLM_DB_NAME", switch=True, help="Database name.")
    user: str = setting(
        "postgres", env="LITELLM_DB_USER", switch=True, help="Database user (a read-only role is enough)."
    )
    password: Secret = setting(
        Secret(""), env="LITELLM_DB_PASSWORD", parse=Secret, switch=True, help="Database password."
    )
    sslmode: str = setting(
        "prefer", env="LITELLM_DB_SSLMODE",
        parse=one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
        help="TLS of the connection, as libpq takes it. verify-full checks the certificate and the host name.",
    )  # fmt: skip
    sslrootcert: Path | None = setting(
        None, env="LITELLM_DB_SSLROOTCERT", parse=PATH, help="File of the CA that signed the server's certificate."
    )
    sslcert: Path | None = setting(None, env="LITELLM_DB_SSLCERT", parse=PATH, help="Client certificate file.")
    sslkey: Path | None = setting(None, env="LITELLM_DB_SSLKEY", parse=PATH, help="Client key file.")
    schema: str = setting("", help="Schema LiteLLM's tables stand in, where the role's search path does not find them.")

    def __post_init__(self) -> None:
        single = [name for name, default in _SINGLE.items() if getattr(self, name) != default]
        if self.url and single:
            raise ValueError(
                f"it is described by its URL, and by {', '.join(single)} as well: keep one of the two "
                "(whatever the single values say can stand in the URL)"
            )


# What a URL says as well, with the defaults: a value that is left at its default cannot be told from one not given.
_SINGLE = {
    name: field.default
    for name, field in DatabaseSettings.__dataclass_fields__.items()
    if name not in ("name", "url", "schema")
}


@dataclass(frozen=True, slots=True)
class LitellmSettings:
    """Everything that can be said of LiteLLM's database."""

    interval: float = setting(
        "15", env="METRICS_UPDATE_INTERVAL", parse=duration(low=1), help="Time between two readings."
    )
    connections_min: int = setting(
        "1", env="DB_MIN_CONNECTIONS", parse=integer(0, 100), help="Smallest size of the connection pool."
    )
    connections_max: int = setting(
        "10", env="DB_MAX_CONNECTIONS", parse=integer(1, 100), help="Largest size of the connection pool; two are used."
    )
    spend_window: int = setting(
        "30d", env="METRICS_SPEND_WINDOW", parse=WINDOW, help="Window of the spend and token figures (Nd, Nh, Nm)."
    )
    request_window: int = setting(
        "24h", env="METRICS_REQUEST_WINDOW", parse=WINDOW, help="Window of the litellm_window_* figures (Nd, Nh, Nm)."
    )
    error_window: int = setting(
        "1h", env="METRICS_ERROR_WINDOW", parse=WINDOW, help="Window of the error figures (Nd, Nh, Nm)."
    )
    overlap: float = setting(
        "15m", parse=duration(low=60),
        help="How long a minute stays open: rows that reach the log later than this are found by the slow check.",
    )  # fmt: skip
    timeout: float = setting("60", parse=duration(low=1), help="Time after which a reading has failed.")
    statement_timeout: float = setting(
        "30", parse=duration(low=0.1), help="Time after which the server gives up on a statement."
    )
    lock_timeout: float = setting("2", parse=duration(low=0.1), help="How long a statement waits for a lock.")
    connect_timeout: float = setting("10", parse=duration(low=1), help="How long a connection may take to come about.")
    databases: tuple[DatabaseSettings, ...] = targets(DatabaseSettings, help="Databases to read.")

    def __post_init__(self) -> None:
        if self.connections_min > self.connections_max:
            raise ValueError(
                f"the connection pool is to hold at least {self.connections_min} connections and at most "
                f"{self.connections_max}: lower DB_MIN_CONNECTIONS or raise DB_MAX_CONNECTIONS"
            )

    def asked_for(self) -> bool:
        """Whether there is a database to read."""
        return bool(self.databases)
