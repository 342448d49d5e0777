"""Where the queue is, and how one comes in: an external NATS by its URL, or the server of our own by queue/nats.json.

So that a command finds the queue of a running server, in another process of the same machine and the same user.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tallykeep.errors import ConfigError, Unreachable
from tallykeep.systems.postgres.part import publish, unavailable
from tallykeep.systems.postgres.settings import PostgresSettings

FOLDER, FILE = "queue", "nats.json"
_SCHEMES = ("nats", "tls", "ws", "wss")  # that the client speaks


class Address(NamedTuple):
    """How to connect. Its repr holds no secret."""

    urls: tuple[str, ...]  # may hold a password or a token
    token: str = ""
    credentials: Path | None = None
    ca_file: Path | None = None

    @property
    def shown(self) -> str:
        """For messages."""
        return ", ".join(f"{found.hostname}:{found.port or 4222}" for found in map(urlsplit, self.urls))

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"


def queue_folder(settings: PostgresSettings) -> Path:
    """Where the server of our own keeps what it needs."""
    return settings.archive.absolute() / FOLDER


def address_of(settings: PostgresSettings) -> Address:
    """Where the queue is now. Blocks. Raises: ConfigError where there is no tier 2, and so no queue; Unreachable where
    no server of ours has run yet.
    """
    queue = settings.queue
    if not settings.tier2.url:
        raise ConfigError(
            "postgres: there is no tier 2, so there is no queue: give tier2.url, or TALLYKEEP_POSTGRES_TIER2"
        )
    if queue.url:
        return Address(urls_of(queue.url.reveal()), credentials=queue.credentials, ca_file=queue.ca_file)
    path = queue_folder(settings) / FILE
    try:
        found = json.loads(path.read_text())
        return Address((str(found["url"]),), str(found["token"]))
    except FileNotFoundError:
        raise Unreachable(f"{path} is not there: the queue runs with `tallykeep postgres server`; start it.") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise Unreachable(f"{path} cannot be read as the queue's address; is this its user?") from None


def urls_of(text: str) -> tuple[str, ...]:
    """The servers of an external NATS. Raises: ConfigError, which tells nothing of them: they may hold a password."""
    found = tuple(url if "://" in url else f"nats://{url}" for url in map(str.strip, text.split(",")) if url)
    if not found or not all(map(_is_url, found)):
        raise ConfigError(
            "postgres: queue: url: one looks like nats://host:4222, several stand with commas between; what is in it "
            "is percent-encoded, in a password too: @ is %40, / is %2F, : is %3A, a comma %2C"
        )
    return found


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        whole = bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # its port is none, or its brackets are not closed
        return False
    return (
        whole and parts.scheme in _SCHEMES and not re.search(r"[\s@]", parts.hostname or "") and "@" not in parts.path
    )


def write_private(path: Path, data: bytes) -> None:
    """Make a file that its owner alone can read, whole or not at all. Blocks. Raises: Unavailable."""
    new = path.with_name(path.name + ".new")
    try:
        new.unlink(missing_ok=True)
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise unavailable(path, error) from None
    publish(new, path.name)
