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

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from tallykeep.systems.litestream.bookkeeping import sequence_page
from tallykeep.systems.litestream.exposure import Exposure, Generation, Place, Reason, creations, distance, follows
from tallykeep.systems.litestream.ltx.header import HEADER_SIZE as LTX_HEADER_SIZE
from tallykeep.systems.litestream.ltx.header import Header
from tallykeep.systems.litestream.ltx.name import LtxName
from tallykeep.systems.litestream.unsent import LocalFile, LocalFiles
from tallykeep.systems.litestream.wal import (
    FRAME_HEADER_SIZE,
    HEADER_SIZE,
    FrameHeader,
    Salts,
    WalError,
    WalHeader,
    WalScan,
)

__all__ = ["BUDGET", "Exposure", "Meter", "Place", "Reason", "read_header"]

BUDGET = 64 << 20  # bytes of WAL verified in one measurement; the rest is left to the next ones
_ATTEMPTS = 3  # readings, when the WAL starts over in the middle of one
_CLOCK_SLACK = 60.0  # seconds: a WAL older than the replica by more than this belongs to an older database
_NO_WAL = ((0, 0), 0)  # no generation, no commit
_MOST_PAST = 1000  # generations remembered while a replica stands still


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
        self._past: dict[Salts, Generation] = {}  # what was seen of generations that the replica has not passed yet

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
            self._put_away()
        if replicated is None:
            return Exposure(self.at_least(None, self.local.look(0), _NO_WAL), 0, Reason.NOTHING_REPLICATED)
        newer = self.local.look(replicated.max_txid)
        if 0 < self.local.tip < replicated.max_txid:
            return Exposure(0, 0, Reason.REPLICA_AHEAD)
        return Exposure(self.at_least(Place.of(replicated), newer, _NO_WAL), 0, Reason.NO_WAL)

    def generation(self, header: WalHeader, start: int, seed: tuple[int, int]) -> Generation:
        """The current generation from `start` on, with what is known of it from earlier measurements."""
        known = self._generation
        if known is not None and known.scan.header != header:
            self._put_away()
        elif known is not None and known.scan.start <= start <= known.scan.end:
            return known
        self._generation = Generation(WalScan(header, start, seed))
        return self._generation

    def _put_away(self) -> None:
        if self._generation is not None:
            self._past[self._generation.scan.salts] = self._generation
        self._generation = None

    def at_least(self, place: Place | None, newer: Sequence[LocalFile], current: tuple[Salts, int]) -> int:
        """Commits surely behind `place`: of each generation the greater of what was seen and what local files hold."""
        commits = Counter(dict([current])) | Counter(file.salts for file in newer if file.holds_a_commit)
        if place is not None:
            commits |= self.seen_since(place)
        return max(0, commits.total() - creations(place, commits))

    def seen_since(self, place: Place) -> Counter[Salts]:
        """Commits behind `place` seen in generations that the WAL has left since; older generations are forgotten."""
        kept = [(salts, past) for salts, past in self._past.items() if follows(salts, place.salts)]
        self._past = dict(kept[-_MOST_PAST:])
        start = {place.salts: place.end}
        return Counter({salts: past.behind(start.get(salts, 0)).at_least for salts, past in self._past.items()})


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
        self.meter.seen_since(place)
        if place.salts == self.header.salts:
            seed = self._seed(place)
            return Exposure(0, 0, Reason.REPLICA_AHEAD) if seed is None else self._behind(place.end, seed)
        restarts = distance(self.header.salts[0], place.salts[0])
        if restarts == 1 and (old := self._old_end(place)) is not None:
            new = self._behind(HEADER_SIZE, self.header.checksum)
            return Exposure(old.at_least + new.at_least, old.bytes + new.bytes, old.reason or new.reason)
        if place.salts[0] != self.header.salts[0] and follows(place.salts, self.header.salts):
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
        first_here = next((file for file in newer if file.salts == self.header.salts), None)
        current = Exposure(0, 0)
        if place is None and replicated is not None and first_here is not None:
            current = self._from(first_here.header.wal_offset)
        elif place is not None or replicated is None or newer:
            current = self._behind(HEADER_SIZE, self.header.checksum)
        at_least = self.meter.at_least(place, newer, (self.header.salts, current.at_least))
        return Exposure(at_least, current.bytes, reason)

    def _from(self, offset: int) -> Exposure:
        seed = self._seed(Place(self.header.salts, offset, self.header.page_size))
        return Exposure(0, 0) if seed is None else self._behind(offset, seed)

    def _is_older_than(self, replicated: Header) -> bool:
        """Whether this database is an older state than the replica's, so that its WAL proves nothing."""
        if 0 < self.meter.local.tip < replicated.max_txid:
            return True
        return self.meter.wal.stat().st_mtime < replicated.timestamp - _CLOCK_SLACK


def read_header(path: Path) -> Header:
    """The header of an LTX file in a folder. Raises: OSError, LtxError."""
    with path.open("rb", buffering=0) as file:
        return Header.decode(file.read(LTX_HEADER_SIZE))
