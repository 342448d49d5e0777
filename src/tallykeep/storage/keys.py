"""Keys: what may name an object, and prefixes.

The rule is the narrowest of all backends, so that a key that one accepts is accepted by every other.
"""

from __future__ import annotations

from tallykeep.errors import Denied

_CONTROL = frozenset(map(chr, (*range(32), 127)))


def checked(key: str) -> str:
    """`key` itself. Raises: Denied for what cannot name an object, before anything is asked of a backend."""
    parts = key.split("/")
    if "" in parts or "." in parts or ".." in parts or not _CONTROL.isdisjoint(key) or not _encodable(key):
        raise Denied(
            f"{key!r} is not a key: keys are relative, without empty, '.' or '..' parts and control characters."
        )
    return key


def _encodable(key: str) -> bool:
    """Half a surrogate pair has no UTF-8."""
    return key.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in key)


def is_hopeless(prefix: str) -> bool:
    """Whether no key can begin with `prefix`. Such a prefix must not reach a backend: ".." would lead out of it."""
    return any(part in ("", ".", "..") for part in prefix.split("/")[:-1])


def folder_of(key: str) -> str:
    """Everything up to the last slash and with it: "a/b/c" -> "a/b/", "c" -> ""."""
    return key[: key.rfind("/") + 1]
