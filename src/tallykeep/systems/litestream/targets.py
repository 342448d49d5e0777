"""Targets: one replica of one database, where its parts are, and how to open the replica.

Targets come from the settings, from a litestream.yml (yml.py) or from the command line. A target whose replica
tallykeep cannot read is a target all the same: it says so each time it is looked at, and the others go on.
Credentials are Litestream's: its own configuration first, then AWS_*, then LITESTREAM_*.
Source: Litestream 0.5.17, applyLitestreamEnv, DB.MetaPath.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tallykeep.config.model import Secret
from tallykeep.errors import ConfigError, Refused
from tallykeep.systems.litestream.urls import FILE, S3, ReplicaUrl, masked, overridden, parse_replica, s3_replica

if TYPE_CHECKING:
    from tallykeep.storage.store import Store
    from tallykeep.systems.litestream.settings import TargetSettings

REQUEST_TIMEOUT = 30.0  # seconds for one request to a replica

_META = re.compile(r"\.(.+)-litestream")
_KEYS = (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
         ("LITESTREAM_ACCESS_KEY_ID", "LITESTREAM_SECRET_ACCESS_KEY"))  # fmt: skip


class Credentials(NamedTuple):
    """Keys of an object store; empty: what AWS's own tools would find."""

    key_id: str = ""
    secret: Secret = Secret("")
    session_token: Secret = Secret("")


@dataclass(frozen=True, slots=True)
class Target:
    """One replica of one database."""

    name: str
    local: Path | None = None  # Litestream's local LTX folder
    database: Path | None = None
    replica: ReplicaUrl | None = None
    credentials: Credentials = field(default=Credentials())

    @property
    def place(self) -> str:
        """The replica as messages and labels show it; empty where there is none."""
        return str(self.replica or "")

    @property
    def problem(self) -> str:
        """Why the replica cannot be looked at, whatever it holds; empty where it can."""
        if self.replica is None or self.replica.readable:
            return ""
        return (
            f"{self.place}: tallykeep reads replicas of the kinds {FILE} and {S3}, not {self.replica.kind}. "
            "Whether it can be restored stays unknown."
        )

    def open(self, timeout: float = REQUEST_TIMEOUT) -> Store:
        """The replica as a Store; sends nothing yet. `timeout` is seconds for one request.

        Raises: Refused for a kind that cannot be read; ConfigError for settings that cannot be used.
        """
        if self.replica is None:
            raise ConfigError(f"{self.name} has no replica to open.")
        if self.problem:
            raise Refused(self.problem)
        if self.replica.kind == FILE:
            from tallykeep.storage.local import LocalStore

            assert self.replica.path is not None
            return LocalStore(self.replica.path)
        return self._s3(self.replica, timeout)

    def _s3(self, replica: ReplicaUrl, timeout: float) -> Store:
        from tallykeep.storage.cloud import CloudStore
        from tallykeep.storage.s3 import S3Settings

        return CloudStore.s3(
            S3Settings(
                bucket=replica.bucket, prefix=replica.prefix, endpoint=replica.endpoint, region=replica.region,
                access_key=self.credentials.key_id, secret_key=self.credentials.secret.reveal(),
                session_token=self.credentials.session_token.reveal(), path_style=replica.path_style,
                verify_tls=not replica.skip_verify, timeout=timeout, connect_timeout=min(5.0, timeout),
            )
        )  # fmt: skip


def parse_target(text: str, environ: Mapping[str, str], local: Path | None = None) -> Target:
    """The target of a command line: a replica's URL or path, and the local side where it is given.

    Raises: ConfigError saying what may stand there.
    """
    try:
        replica = parse_replica(text)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if replica.kind == FILE and replica.path is not None and replica.path.is_file():
        raise ConfigError(f"{text} is a file. Name the folder or URL of a replica; for LTX files there is `ltx`.")
    folder = None if local is None else local_folder(local)
    replica = with_default_endpoint(replica, environ)
    return Target(masked(text), folder, database_of(folder), replica, credentials(environ))


def from_settings(settings: TargetSettings, environ: Mapping[str, str]) -> Target:
    """The target that the variables or tallykeep.yaml describe."""
    replica = settings.replica
    if settings.bucket:
        replica = s3_replica(
            settings.bucket, settings.prefix, settings.endpoint, settings.region, settings.path_style,
            settings.skip_verify,
        )  # fmt: skip
    elif replica is not None:
        replica = overridden(replica, settings.endpoint, settings.region, settings.path_style, settings.skip_verify)
    if replica is not None:
        replica = with_default_endpoint(replica, environ)
    keys = credentials(environ, settings.access_key_id, settings.secret_access_key)
    return Target(settings.name, settings.local, settings.database or database_of(settings.local), replica, keys)


def with_default_endpoint(replica: ReplicaUrl, environ: Mapping[str, str]) -> ReplicaUrl:
    """An S3 replica without an endpoint gets that of LITESTREAM_S3_ENDPOINT."""
    endpoint = environ.get("LITESTREAM_S3_ENDPOINT", "")
    if replica.kind != S3 or replica.endpoint or not endpoint:
        return replica
    return s3_replica(replica.bucket, replica.prefix, endpoint, replica.region, None, replica.skip_verify)


def credentials(environ: Mapping[str, str], key_id: str = "", secret: Secret | None = None) -> Credentials:
    """The keys given, or else each of both from AWS_* and then LITESTREAM_*, as Litestream takes them."""
    if key_id or secret:
        return Credentials(key_id, secret or Secret(""))
    found = [next((environ[name] for name in names if environ.get(name)), "") for names in zip(*_KEYS, strict=True)]
    token = environ.get("AWS_SESSION_TOKEN", "") if environ.get("AWS_ACCESS_KEY_ID") else ""
    return Credentials(found[0], Secret(found[1]), Secret(token))


def database_of(local: Path | None) -> Path | None:
    """The database of a local LTX folder: /x/.omni.db-litestream/ltx belongs to /x/omni.db. None for other names."""
    if local is None or local.name != "ltx":
        return None
    match = _META.fullmatch(local.parent.name)
    return local.parent.parent / match[1] if match else None


def local_folder(path: Path) -> Path:
    """The LTX folder meant by a path: itself, that inside a metadata directory, or that of a database file."""
    if path.is_file():
        return meta_path(path) / "ltx"
    return path / "ltx" if _META.fullmatch(path.name) or (path / "ltx").is_dir() else path


def meta_path(database: Path) -> Path:
    """Litestream's metadata directory of a database: /x/omni.db has /x/.omni.db-litestream."""
    return database.parent / f".{database.name}-litestream"
