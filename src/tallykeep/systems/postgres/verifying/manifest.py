"""PostgreSQL's backup_manifest: which files a base backup has, their sizes and checksums, and the WAL it needs.

It ends with the SHA-256 of everything before that line. CRC-32C is written as its four bytes lie in memory, which is
little-endian on every machine that matters here.
Source: PostgreSQL, Backup Manifest Format; src/common/parse_manifest.c, src/common/checksum_helper.c.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from tallykeep.errors import IntegrityError, Malformed
from tallykeep.systems.postgres.lsn import LSN

NAME = "backup_manifest"
CRC32C = "CRC32C"
SHA = {"SHA224": "sha224", "SHA256": "sha256", "SHA384": "sha384", "SHA512": "sha512"}  # and hashlib's names


class Listed(NamedTuple):
    """A file in the manifest."""

    size: int
    algorithm: str  # "": it has no checksum
    checksum: bytes


class WalRange(NamedTuple):
    """WAL that a backup needs."""

    timeline: int
    start: LSN
    end: LSN


@dataclass(frozen=True, slots=True)
class BackupManifest:
    """What PostgreSQL says of a backup."""

    files: Mapping[str, Listed]  # by path, tablespaces below pg_tblspc/<oid>/
    wal: Sequence[WalRange]

    @classmethod
    def parse(cls, data: bytes, name: str) -> BackupManifest:
        """Its checksum proved; `name` is for messages. Raises: IntegrityError."""
        try:
            body = json.loads(data)
            _prove(data, body["Manifest-Checksum"])
            return cls(dict(map(_listed, body["Files"])), [_range(found) for found in body["WAL-Ranges"]])
        except (ValueError, KeyError, TypeError, Malformed) as error:
            raise IntegrityError(f"{name}: not PostgreSQL's manifest, or not as it was written: {error}") from None


def _prove(data: bytes, said: str) -> None:
    signed = data[: data.rstrip(b"\n").rfind(b"\n") + 1]
    if sha256(signed).hexdigest() != said:
        raise ValueError("its Manifest-Checksum does not match")


def _listed(found: Mapping[str, Any]) -> tuple[str, Listed]:
    path = found.get("Path")
    if path is None:
        path = bytes.fromhex(found["Encoded-Path"]).decode("utf-8", "surrogateescape")
    checksum = bytes.fromhex(found.get("Checksum", ""))
    return path, Listed(int(found["Size"]), found.get("Checksum-Algorithm", "") if checksum else "", checksum)


def _range(found: Mapping[str, Any]) -> WalRange:
    return WalRange(int(found["Timeline"]), LSN.parse(found["Start-LSN"]), LSN.parse(found["End-LSN"]))
