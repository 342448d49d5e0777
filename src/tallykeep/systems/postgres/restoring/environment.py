"""Settings that were given as variables, for get-wal, which runs in PostgreSQL's environment and not in ours.

What is no secret is written into restore_command. Secrets are not, as postgresql.auto.conf is part of every base
backup: they are named, so that they are put where PostgreSQL finds them, or better into a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from tallykeep.config.load import variables_of
from tallykeep.config.parse import PATH
from tallykeep.systems.postgres.settings import PostgresSettings

_PRIMARY = ("TALLYKEEP_POSTGRES_URL", "TALLYKEEP_POSTGRES_SLOT", "TALLYKEEP_POSTGRES_NATS_URL")
_ARCHIVE, _TIER_2 = "TALLYKEEP_POSTGRES_ARCHIVE", "TALLYKEEP_POSTGRES_TIER2"
_KEY_ID = "TALLYKEEP_POSTGRES_S3_ACCESS_KEY_ID"  # of no use without its secret
_CLOUD = ("AWS_", "AZURE_", "GOOGLE_")
_PLAIN = ("REGION", "ENDPOINT", "_URL", "_URL_S3", "_FILE", "_PROFILE", "_ARN", "_CREDENTIALS", "_NAME", "_CLIENT_ID",
          "_BUNDLE", "_TENANT_ID", "_URI")  # fmt: skip


def passed_on(environ: Mapping[str, str], settings: PostgresSettings) -> Sequence[str]:
    """NAME=value of what get-wal needs and may stand in a file. Paths are absolute: it runs in the data directory."""
    found = {name: value for name, value, secret in _given(environ) if not secret}
    found[_ARCHIVE] = str(settings.archive.absolute())
    if settings.tier2.url and "://" not in settings.tier2.url:
        found[_TIER_2] = os.path.abspath(settings.tier2.url)  # noqa: PTH100
    return [f"{name}={value}" for name, value in found.items() if f"{name}_FILE" not in found]


def withheld(environ: Mapping[str, str]) -> Sequence[str]:
    """Names of what get-wal needs as well, and is not written down."""
    return [name for name, _, secret in _given(environ) if secret]


def _given(environ: Mapping[str, str]) -> Iterator[tuple[str, str, bool]]:
    for name, setting in variables_of(PostgresSettings):
        if name in _PRIMARY:
            continue
        if value := environ.get(f"{name}_FILE"):
            yield f"{name}_FILE", os.path.abspath(value), False  # noqa: PTH100
        elif value := environ.get(name):
            yield name, os.path.abspath(value) if setting.parse is PATH else value, setting.secret or name == _KEY_ID  # noqa: PTH100
    for name, value in environ.items():
        if name.startswith(_CLOUD) and value:
            yield name, value, not name.endswith(_PLAIN)
