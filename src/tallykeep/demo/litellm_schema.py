"""LiteLLM's real schema, by the migrations that LiteLLM itself applies: from the wheel litellm-proxy-extras.

Each file is sent whole and outside a transaction, as Prisma does it (some build an index CONCURRENTLY). The two
indexes on the spend logs that LiteLLM builds after its migrations are not made here: nothing may rely on them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, cast

import psycopg

from tallykeep.errors import ConfigError

MISSING = "LiteLLM's migrations are not installed: pip install 'tallykeep[demo]'"
BASELINE = "baseline"  # March 2025, the oldest schema that is read


def migrations(until: str | None = None) -> list[Path]:
    """The files, oldest first, up to and with the one whose folder is named `until` (its date may be left out).

    Raises: ConfigError where they are not installed or none has that name.
    """
    found = importlib.util.find_spec("litellm_proxy_extras")
    folder = Path(found.origin).parent / "migrations" if found and found.origin else None
    files = sorted(folder.glob("*/migration.sql")) if folder else []
    if not files:
        raise ConfigError(MISSING)
    if until is None:
        return files
    for at, file in enumerate(files):
        name = file.parent.name
        if until in (name, name.partition("_")[2]):
            return files[: at + 1]
    raise ConfigError(f"LiteLLM has no migration {until!r}; the oldest is {files[0].parent.name}")


def migrate(dsn: str, until: str | None = None) -> int:
    """Apply the migrations to an empty database; how many. `until=BASELINE` gives the schema of March 2025."""
    files = migrations(until)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for file in files:
            connection.execute(cast("Any", file.read_text()))  # no parameters: the simple protocol, many statements
    return len(files)
