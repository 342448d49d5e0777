"""A credentials file of NATS: who we are as a JWT, and the seed of the key that proves it.

nats-py would need another package for the one signature that this takes.
Source: NATS, Decentralized JWT Authentication; nats-io/nkeys, README (encoding of seeds).
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import NamedTuple

from tallykeep.errors import ConfigError
from tallykeep.systems.postgres.cipher import signature

_BLOCK = re.compile(r"-{3,}BEGIN ([A-Z ]+)-{3,}\s+([\w.=-]+)\s+-{3,}END [A-Z ]+-{3,}")
_JWT, _SEED = "NATS USER JWT", "USER NKEY SEED"
_DECODED = 36  # bytes of a seed: two that say what it is, 32 of key, two of checksum
_KEY = slice(2, 34)


class Credentials(NamedTuple):
    """What a file holds. Its repr holds no secret."""

    jwt: str
    seed: bytes

    def __repr__(self) -> str:
        return "Credentials()"

    def signed(self, nonce: str) -> bytes:
        """The answer to a server's nonce."""
        return base64.b64encode(signature(self.seed, nonce.encode()))


def read(path: Path) -> Credentials:
    """What a credentials file holds. Blocks. Raises: ConfigError, which shows nothing of it."""
    try:
        blocks = dict(_BLOCK.findall(path.read_text()))
        seed = blocks[_SEED]
        decoded = base64.b32decode(seed + "=" * (-len(seed) % 8))
        if len(decoded) != _DECODED:
            raise ValueError(len(decoded))
        return Credentials(blocks[_JWT], decoded[_KEY])
    except OSError as error:
        raise ConfigError(f"{path}: the credentials of NATS cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError):
        raise ConfigError(f"{path}: is no credentials file of NATS, with a user's JWT and seed.") from None
