"""An operator, an account with JetStream and a user, as NATS knows them by signed tokens: made byte by byte."""

from __future__ import annotations

import base64
import binascii
import json
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

OPERATOR, ACCOUNT, USER, SEED = 14 << 3, 0, 20 << 3, 18 << 3


class Identity:
    """A key pair, its names as NATS writes them."""

    def __init__(self, kind: int) -> None:
        self.key = Ed25519PrivateKey.generate()
        public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.name = _encoded(bytes([kind]) + public)
        self.seed = _encoded(bytes([SEED | kind >> 5, (kind & 31) << 3]) + self.key.private_bytes_raw())


def token(subject: str, issuer: Identity, nats: dict[str, Any], name: str) -> str:
    """A JWT about `subject`."""
    body = {"iss": issuer.name, "sub": subject, "name": name, "iat": int(time.time()), "jti": name, "nats": nats}
    text = ".".join(_url(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body))
    return f"{text}.{_url(issuer.key.sign(text.encode()))}"


def write(folder: Path) -> tuple[str, Path]:
    """Lines of a server's configuration that let one user in, and that user's credentials file."""
    operator, system, account, user = (Identity(kind) for kind in (OPERATOR, ACCOUNT, ACCOUNT, USER))
    limits = {
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    }  # fmt: skip
    told = token(operator.name, operator, {"type": "operator", "version": 2}, "operator")
    of_system = token(system.name, operator, {"type": "account", "version": 2}, "system")
    of_account = token(account.name, operator, {"type": "account", "version": 2, "limits": limits}, "account")
    of_user = token(user.name, account, {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}, "user")
    path = folder / "user.creds"
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    return (
        f"operator: {told}\nsystem_account: {system.name}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {account.name}: {of_account}, {system.name}: {of_system} }}\n"
    ), path


def _encoded(data: bytes) -> str:
    checksum = binascii.crc_hqx(data, 0)
    return base64.b32encode(data + checksum.to_bytes(2, "little")).decode().rstrip("=")


def _url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
