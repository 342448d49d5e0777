"""The encryption key as text that can be printed, typed off and checked: the recovery file.

One line, `tallykeep-key-1-` and eight groups of seven letters and digits (RFC 4648 base 32): 32 bytes of key and three
of its SHA-256, so that a slip of the pen is told from a wrong key. Lines that begin with # say what it is for.
Without this key nothing that was encrypted with it can be restored, by anybody.
"""

from __future__ import annotations

import base64
import os
import secrets
from hashlib import sha256
from pathlib import Path

from tallykeep.errors import ConfigError
from tallykeep.systems.postgres.cipher import KEY_SIZE

_PREFIX = "tallykeep-key-1-"
_CHECK = 3  # bytes; with the key 35, which base 32 writes without padding
_GROUP = 7
_NOTE = """\
# The encryption key of tallykeep's PostgreSQL backups. Keep a copy where the backups are not.
# Without it nothing can be restored.
"""


def generate() -> bytes:
    """A new random key."""
    return secrets.token_bytes(KEY_SIZE)


def to_text(key: bytes) -> str:
    """The key as one line."""
    text = base64.b32encode(key + sha256(key).digest()[:_CHECK]).decode()
    return _PREFIX + "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def from_text(text: str, name: str) -> bytes:
    """The key in a text; `name`, for messages, is where it came from. Raises: ConfigError, which never shows it."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    if len(lines) != 1 or not lines[0].lower().startswith(_PREFIX):
        raise ConfigError(f"{name}: no key; a line that begins with {_PREFIX} was expected.")
    letters = "".join(lines[0][len(_PREFIX) :].split()).replace("-", "").upper()
    try:
        data = base64.b32decode(letters)
    except ValueError:
        raise ConfigError(f"{name}: the key is cut, or has a letter that keys have not.") from None
    key, check = data[:KEY_SIZE], data[KEY_SIZE:]
    if check != sha256(key).digest()[:_CHECK] or len(key) != KEY_SIZE:
        raise ConfigError(f"{name}: the key was not copied as it was: its checksum does not match.")
    return key


def write(path: Path, key: bytes) -> None:
    """Make the recovery file, for its owner alone; one that exists is never written over. Raises: ConfigError."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(f"{path}: the recovery file cannot be made: {error.strerror}.") from None
    with os.fdopen(file, "w") as out:
        out.write(f"{_NOTE}{to_text(key)}\n")
        out.flush()
        os.fsync(out.fileno())


def read(path: Path) -> bytes:
    """The key in a recovery file. Raises: ConfigError."""
    try:
        return from_text(path.read_text(), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: the recovery file cannot be read: {error.strerror}.") from None
