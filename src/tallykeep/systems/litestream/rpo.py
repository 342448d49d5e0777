"""What would be lost if this machine vanished now: commits in the database that the replica does not hold.

The newest LTX file that a restore reaches says up to which byte of which WAL generation the replica holds
everything (WAL offset + size, salts). What stands behind that place is exposed. The number is exact while the
generation is unbroken, and also when the WAL has started over once and the end of the old generation can still be
read behind the new frames. Otherwise there is a lower bound and a reason: what is counted is surely not on the
replica, but there may be more. Litestream's own commits are told apart and count as nothing.

The order of looking matters: list the replica first, then measure. The other way round, commits could seem to be
missing that were uploaded in between.

Nothing here opens a SQLite connection, and nothing may run in a process that has one to the same database.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tallykeep.systems.litestream.bookkeeping import sequence_page
from tallykeep.systems.litestream.ltx.header import HEADER_SIZE as LTX_HEADER_SIZE
from tallykeep.systems.litestream.ltx.header import Header
from tallykeep.systems.litestream.ltx.name import LtxName
from tallykeep.systems.litestream.unsent import LocalFiles, count
from tallykeep.systems.litestream.wal import (
    FRAME_HEADER_SIZE,
    HEADER_SIZE,
    FrameHeader,
    Salts,
    WalError,
    WalHeader,
    WalScan,
)

BUDGET = 64 << 20  # bytes of WAL verified in one measurement; the rest is left to the next ones
_ATTEMPTS = 3  # readings, when the WAL starts over in the middle of one
_CLOCK_SLACK = 60.0  # seconds: a WAL older than the replica by more than this belongs to an older database
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
            if commit.frames > 1 or commit.page != own_page:
                self._ends.append(commit.end)
                self._frames.append(commit.frames)

    def behind(self, offset: int) -> Exposure:
        """The commits behind `offset`, exact if all has been read."""
        first = bisect_right(self._ends, offset)
        size = sum(self._frames[first:]) * self.scan.header.frame_size
        return Exposure(len(self._ends) - first, size, None if self.scan.ended else Reason.CATCHING_UP)


class _StartedOver(Exception):
    """The WAL's header changed during a reading."""


class Meter:
    """Measures one database against one replica, again and again; each frame is verified once."""

    def __init__(self, database: Path, ltx: Path) -> None:
        """`ltx` is Litestream's local folder of level 0: `.<name>-litestream/ltx/0` beside the database."""
        self.database = database
        self.wal = database.with_name(database.name + "-wal")
        self.local = LocalFiles(ltx)
        self._generation: Generation | None = None

    def measure(self, replicated: Header | None, budget: int = BUDGET) -> Exposure:
        """What is not on the replica of which `replicated` heads the newest reachable file (`plan.find_newest`).

        Give None where nothing can be restored. A header of another level will do: compactions name no place in
        the WAL and snapshots are dated late, so the local file of the same TXID is taken where it is still there.
        Blocks for reading up to `budget` bytes of WAL, twice that when the WAL has started over, and the starts of
        new local files.

        Raises: OSError where the files cannot be read.
        """
        if replicated is not None and (replicated.min_txid < replicated.max_txid or Place.of(replicated) is None):
            local = self.local.read(LtxName(replicated.max_txid, replicated.max_txid))
            replicated = replicated if local is None else local.header
        since = None if replicated is None else replicated.timestamp
        exposure = Exposure(0, 0, Reason.WAL_RESTARTED)
        for _ in range(_ATTEMPTS):
            with suppress(_StartedOver):
                exposure = self._read(replicated, budget)
                break
        return replace(exposure, replicated=since)

    def _read(self, replicated: Header | None, budget: int) -> Exposure:
        if not self.database.exists():
            return Exposure(0, 0, Reason.DATABASE_MISSING)
        own = sequence_page(self.database)
        try:
            with self.wal.open("rb", buffering=0) as file:
                first = file.read(HEADER_SIZE)
                look = _Look(self, file, WalHeader.decode(first), own, budget)
                exposure = look.judge(replicated)
                file.seek(0)
                if file.read(HEADER_SIZE) != first:
                    raise _StartedOver
                return exposure
        except (FileNotFoundError, WalError):
            self._generation = None
        reason = Reason.NOTHING_REPLICATED if replicated is None else Reason.NO_WAL
        newer = self.local.look(0 if replicated is None else replicated.max_txid)
        if replicated is not None and 0 < self.local.tip < replicated.max_txid:
            reason = Reason.REPLICA_AHEAD
        at_least = count(newer, own) - _creations(Place.of(replicated), [file.salts for file in newer])
        return Exposure(max(at_least, 0), 0, reason)

    def generation(self, header: WalHeader, start: int, seed: tuple[int, int]) -> Generation:
        """The current generation from `start` on, with what is known of it from earlier measurements."""
        known = self._generation
        if known is None or known.scan.header != header or not known.scan.start <= start <= known.scan.end:
            known = self._generation = Generation(WalScan(header, start, seed))
        return known


@dataclass(frozen=True, slots=True)
class _Look:
    """One reading of an open WAL."""

    meter: Meter
    file: BinaryIO
    header: WalHeader
    own_page: int | None
    budget: int

    def judge(self, replicated: Header | None) -> Exposure:
        place = Place.of(replicated)
        if replicated is None:
            return self._bound(None, None, Reason.NOTHING_REPLICATED)
        if place is None:
            return self._bound(replicated, None, Reason.NO_WAL_POSITION)
        if place.page_size != self.header.page_size:
            return self._bound(replicated, place, Reason.PAGE_SIZE_CHANGED)
        if not self.header.is_boundary(place.end):
            return self._bound(replicated, None, Reason.NO_WAL_POSITION)
        if place.salts == self.header.salts:
            seed = self._seed(place)
            return Exposure(0, 0, Reason.REPLICA_AHEAD) if seed is None else self._behind(place.end, seed)
        restarts = _distance(self.header.salts[0], place.salts[0])
        if restarts == 1 and (old := self._old_end(place)) is not None:
            new = self._behind(HEADER_SIZE, self.header.checksum)
            return Exposure(old.at_least + new.at_least, old.bytes + new.bytes, old.reason or new.reason)
        if 0 < _distance(place.salts[0], self.header.salts[0]) < _RESTARTS:
            return Exposure(0, 0, Reason.REPLICA_AHEAD)
        return self._bound(replicated, place, Reason.WAL_RESTARTED)

    def _behind(self, offset: int, seed: tuple[int, int]) -> Exposure:
        generation = self.meter.generation(self.header, offset, seed)
        generation.read(self.file, self.own_page, self.budget)
        return generation.behind(offset)

    def _seed(self, place: Place) -> tuple[int, int] | None:
        """The checksum stored in the last replicated frame; None where the frame is not there any more."""
        if place.end == HEADER_SIZE:
            return self.header.checksum if place.salts == self.header.salts else None
        self.file.seek(place.end - self.header.frame_size)
        data = self.file.read(FRAME_HEADER_SIZE)
        if len(data) < FRAME_HEADER_SIZE:
            return None
        frame = FrameHeader.decode(data)
        return frame.checksum if frame.salts == place.salts else None

    def _old_end(self, place: Place) -> Exposure | None:
        """What the old generation holds behind `place`; None where its end cannot be read any more.

        New frames are written from the start. As long as the last replicated frame is in its old place, all that
        follows is too, unless the file was cut (journal_size_limit): then it ends inside a frame.
        """
        seed = self._seed(place)
        if seed is None or not self.header.is_boundary(self.file.seek(0, 2)):
            return None
        old = Generation(WalScan(self.header, place.end, seed, place.salts))
        old.read(self.file, self.own_page, self.budget)
        return old.behind(place.end)

    def _bound(self, replicated: Header | None, place: Place | None, reason: Reason) -> Exposure:
        """What is surely not on the replica: commits in local files beyond it and in the WAL beyond those."""
        newer = self.meter.local.look(0 if replicated is None else replicated.max_txid)
        if replicated is not None and self._is_older_than(replicated):
            return Exposure(0, 0, Reason.REPLICA_AHEAD)
        here = [file for file in newer if file.salts == self.header.salts]
        elsewhere = [file for file in newer if file.salts != self.header.salts]
        current = Exposure(0, 0)
        if here and place is None and replicated is not None:
            current = self._from(here[0].header.wal_offset)
        elif elsewhere or place is not None or replicated is None:
            current = self._behind(HEADER_SIZE, self.header.checksum)
        at_least = count(elsewhere, self.own_page) + max(current.at_least, count(here, self.own_page))
        at_least -= _creations(place, [self.header.salts, *(file.salts for file in elsewhere)])
        return Exposure(max(at_least, 0), current.bytes, reason)

    def _from(self, offset: int) -> Exposure:
        seed = self._seed(Place(self.header.salts, offset, self.header.page_size))
        return Exposure(0, 0) if seed is None else self._behind(offset, seed)

    def _is_older_than(self, replicated: Header) -> bool:
        """Whether this database is an older state than the replica's, so that its WAL proves nothing."""
        if 0 < self.meter.local.tip < replicated.max_txid:
            return True
        return self.meter.wal.stat().st_mtime < replicated.timestamp - _CLOCK_SLACK


def _creations(place: Place | None, generations: Iterable[Salts]) -> int:
    """How many commits may be Litestream's creation of its tables: none where the replica's WAL only started over."""
    if place is None:
        return _OWN_TABLES
    return 0 if all(_distance(salts[0], place.salts[0]) < _RESTARTS for salts in generations) else _OWN_TABLES


def _distance(later: int, earlier: int) -> int:
    return (later - earlier) & 0xFFFFFFFF


def read_header(path: Path) -> Header:
    """The header of an LTX file in a folder. Raises: OSError, LtxError."""
    with path.open("rb", buffering=0) as file:
        return Header.decode(file.read(LTX_HEADER_SIZE))
