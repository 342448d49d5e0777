"""What the manifest of a repository may add: packs of chunks, backups, verdicts on them, and what was let go.

docs/formats/base-backups.md has the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tallykeep.storage.chain import Chain
from tallykeep.storage.chain_record import ChainRecord

SHOWN = 12  # digits of an id that are shown to people, and taken from them


@dataclass(frozen=True, slots=True)
class PacksEntry:
    """Packs that are durable, and the one object that says which chunks lie where in them."""

    key: str
    hash: str
    size: int  # bytes
    packs: int
    chunks: int
    raw: int  # bytes of the chunks as they came
    stored: int  # bytes of the packs


@dataclass(frozen=True, slots=True)
class BackupEntry:
    """A base backup that is complete: every chunk it names lies in packs of the records before this one."""

    id: str  # 32 hex digits
    name: str  # given by people
    cluster: str
    system_id: str
    version: int  # of PostgreSQL, as server_version_num: 180000
    timeline: int
    start_lsn: str  # recovery begins here
    stop_lsn: str  # and is consistent from here on
    started: float  # Unix seconds
    finished: float
    key: str  # of its list of files
    hash: str
    size: int
    files: int
    directories: int
    raw: int  # bytes of the files
    added: int  # bytes of packs that were added for it

    def is_called(self, wanted: str) -> bool:
        """Whether somebody who says `wanted` means it: its name, its id, or at least as much of that as is shown."""
        return wanted in (self.name, self.id) or (len(wanted) >= SHOWN and self.id.startswith(wanted))

    def __str__(self) -> str:
        return f"{self.name} ({self.id[:SHOWN]})"


@dataclass(frozen=True, slots=True)
class VerifiedEntry:
    """Every byte of a backup was read and proved, or was found wanting."""

    backup: str  # id
    time: float  # Unix seconds
    sound: bool
    problem: str  # the first one; empty where sound


@dataclass(frozen=True, slots=True)
class ForgottenEntry:
    """A backup is no longer promised. Its objects go when the grace period is over."""

    backup: str  # id
    time: float  # Unix seconds
    reason: str


@dataclass(frozen=True, slots=True)
class RecalledEntry:
    """A backup that was let go is promised again: its grace period was not over."""

    backup: str  # id
    time: float  # Unix seconds
    reason: str


@dataclass(frozen=True, slots=True)
class RemovedEntry:
    """What is about to be deleted: packs, their indexes and lists of files that no backup needs any more.

    Without keys: everything that was named before has been deleted.
    """

    time: float  # Unix seconds
    keys: list[str]


@dataclass(frozen=True, slots=True)
class DamagedEntry:
    """Packs that verification found damaged or missing, all that are known: no later backup relies on their chunks."""

    time: float  # Unix seconds
    keys: list[str]


Entry = PacksEntry | BackupEntry | VerifiedEntry | ForgottenEntry | RecalledEntry | RemovedEntry | DamagedEntry


@dataclass(frozen=True, slots=True)
class Record(ChainRecord[Entry]):
    """One link of the repository's manifest."""

    FORMAT: ClassVar[str] = "PGR1"
    KINDS: ClassVar[Mapping[str, type[Entry]]] = {
        "packs": PacksEntry,
        "backup": BackupEntry,
        "verified": VerifiedEntry,
        "forgotten": ForgottenEntry,
        "recalled": RecalledEntry,
        "removed": RemovedEntry,
        "damaged": DamagedEntry,
    }


class RepositoryChain(Chain[Record]):
    """The repository's manifest."""

    RECORD = Record
