"""AES-256-GCM: what is written with a key opens only with it, unchanged, and only where it belongs.

A sealed piece is a nonce of 12 random bytes, the ciphertext, and a tag of 16. What it is bound to (a file, a
position, an id) is not in it: moved elsewhere it does not open. Random nonces allow 2^32 pieces under one key; who
writes more, as WAL does, takes a `derived` cipher for each file.
Source: NIST SP 800-38D, 8.3; RFC 5869 (HKDF).
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallykeep.errors import ConfigError, IntegrityError

KEY_SIZE = 32  # bytes
NONCE_SIZE = 12
OVERHEAD = NONCE_SIZE + 16  # bytes that sealing adds


class Cipher:
    """Seals and opens under one key. Safe to use from many threads; large pieces let other threads run."""

    def __init__(self, key: bytes) -> None:
        """Raises: ConfigError for a key that has not 32 bytes."""
        if len(key) != KEY_SIZE:
            raise ConfigError(f"The encryption key has {len(key)} bytes and must have {KEY_SIZE}.")
        self._key = key
        self._aead = AESGCM(key)

    @classmethod
    def from_key(cls, key: bytes) -> Cipher:
        """The cipher of a key of 32 bytes. Raises: ConfigError."""
        return cls(key)

    def seal(self, data: bytes | memoryview, bound_to: bytes) -> bytes:
        """`data`, encrypted and bound: 28 bytes longer."""
        nonce = os.urandom(NONCE_SIZE)
        return nonce + self._aead.encrypt(nonce, data, bound_to)

    def open(self, data: bytes | memoryview, bound_to: bytes, name: str) -> bytes:
        """What was sealed; `name` is for messages. Raises: IntegrityError where it does not authenticate."""
        try:
            if len(data) < OVERHEAD:
                raise InvalidTag
            return self._aead.decrypt(bytes(data[:NONCE_SIZE]), data[NONCE_SIZE:], bound_to)
        except InvalidTag:
            raise IntegrityError(
                f"{name}: does not open with this key: another key wrote it, or it was changed or moved since. Check "
                "the key; if it is the right one, bring the file back from a copy."
            ) from None

    def subkey(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose, from which this one cannot be told."""
        return HKDF(SHA256(), KEY_SIZE, salt=None, info=b"tallykeep " + purpose.encode()).derive(self._key)

    def derived(self, purpose: str) -> Cipher:
        """A cipher of its own for one purpose."""
        return Cipher(self.subkey(purpose))


def signature(seed: bytes, data: bytes) -> bytes:
    """The Ed25519 signature of `data`, 64 bytes, under the key of a seed of 32 (RFC 8032)."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(data)
