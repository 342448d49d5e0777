"""What a measurement says: commits that a replica does not hold, exactly or at least, and why only at least.

Pure: reading the files is rpo.py's.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO, NamedTuple

from tallykeep.systems.litestream.bookkeeping import holds_one_counter
from tallykeep.systems.litestream.ltx.header import Header
from tallykeep.systems.litestream.wal import HEADER_SIZE, Commit, Salts, WalScan

_RESTARTS = 1 << 16  # first salts further apart than this belong to different files
_OWN_TABLES = 2  # commits in which Litestream creates its tables, once in the life of a database


class Reason(StrEnum):
    """Why there is only a lower bound."""

    DATABASE_MISSING = "database_missing"
    NOTHING_REPLICATED = "nothing_replicated"  # the replica holds nothing that can be restored
    NO_WAL = "no_wal"  # no WAL, or an empty one: nothing tells whether the database moved on
    NO_WAL_POSITION = "no_wal_position"  # the replica's newest file does not say where in the WAL it ends
    WAL_RESTARTED = "wal_restarted"  # the WAL started over since, and part of the old generation is gone
    PAGE_SIZE_CHANGED = "page_size_changed"  # this WAL belongs to a database of another page size
    REPLICA_AHEAD = "replica_ahead"  # the replica is newer than this database: an older copy, or another writer
    CATCHING_UP = "catching_up"  # more WAL than one measurement reads


@dataclass(frozen=True, slots=True)
class Exposure:
    """What the replica does not hold. Exact where `reason` is None."""

    at_least: int  # commits of the application surely not on the replica
    bytes: int  # of WAL in those commits, as far as it could be read
    reason: Reason | None = None
    replicated: float | None = None  # Unix seconds: data time of the newest replicated LTX file

    @property
    def commits(self) -> int | None:
        """The exact number of commits not on the replica; None where only a lower bound is known."""
        return self.at_least if self.reason is None else None

    def seconds(self, now: float) -> float | None:
        """How long commits may have been waiting: 0 when none waits, None when that is not known.

        It is the age of the newest replicated LTX file, an upper bound of the age of the oldest unreplicated
        commit: everything older than that file is in it.
        """
        if self.at_least == 0:
            return 0.0 if self.reason is None else None
        return None if self.replicated is None else max(0.0, now - self.replicated)


class Place(NamedTuple):
    """Where in a WAL the replica ends."""

    salts: Salts
    end: int  # offset: everything before it is on the replica
    page_size: int

    @classmethod
    def of(cls, header: Header | None) -> Place | None:
        """The place an LTX header names; None for files of compactions, which name none."""
        if header is None or header.wal_offset < HEADER_SIZE:
            return None
        return cls((header.wal_salt1, header.wal_salt2), header.wal_offset + header.wal_size, header.page_size)


class Generation:
    """The application's commits in one generation of a WAL, from some offset on."""

    __slots__ = ("_ends", "_frames", "scan")

    def __init__(self, scan: WalScan) -> None:
        self.scan = scan
        self._ends = array("q")  # offsets behind the commits
        self._frames = array("q")  # of each

    def read(self, file: BinaryIO, own_page: int | None, budget: int) -> None:
        """Take in what has come, leaving out Litestream's own commits."""
        for commit in self.scan.read(file, budget):
            if not self._is_own(file, commit, own_page):
                self._ends.append(commit.end)
                self._frames.append(commit.frames)

    def _is_own(self, file: BinaryIO, commit: Commit, own_page: int | None) -> bool:
        if commit.frames > 1 or commit.page != own_page:
            return False
        size = self.scan.header.page_size
        file.seek(commit.end - size)
        return holds_one_counter(file.read(size))

    def behind(self, offset: int) -> Exposure:
        """The commits behind `offset`, exact if all has been read."""
        first = bisect_right(self._ends, offset)
        size = sum(self._frames[first:]) * self.scan.header.frame_size
        return Exposure(len(self._ends) - first, size, None if self.scan.ended else Reason.CATCHING_UP)


def creations(place: Place | None, generations: Iterable[Salts]) -> int:
    """How many commits may be Litestream's creation of its tables: none where the replica's WAL only started over."""
    if place is None:
        return _OWN_TABLES
    return 0 if all(follows(salts, place.salts) for salts in generations) else _OWN_TABLES


def follows(salts: Salts, earlier: Salts) -> bool:
    """Whether a WAL with `earlier` salts has come to `salts` by starting over, or has not moved."""
    return distance(salts[0], earlier[0]) < _RESTARTS


def distance(later: int, earlier: int) -> int:
    """How many restarts lie between two first salts; they wrap around at 32 bits."""
    return (later - earlier) & 0xFFFFFFFF
