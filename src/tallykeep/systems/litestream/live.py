"""A restored image held against the live database, page by page, while the application goes on writing.

The image is the database at TXID T. A page that nothing has touched since must read the same in both, whatever a
checkpoint is doing. Touched is what the local L0 files after T hold, and every frame of the WAL behind the last of
them. For any other page a reader sees its last frame in the WAL, else the database file: that is what is compared.
What changes meanwhile shows as new frames, looked for afterwards; when the WAL starts over meanwhile, the whole
comparison is done again.

Equal pages are equal whatever else happened. Pages that differ count only where the set of touched pages is
certain: the WAL's generation is the one that the newest local L0 file was read from. Else the answer is unknown.

Nothing is written and no lock is taken: plain open(), in a process that must hold no SQLite connection to the live
database, because closing a file drops the process's POSIX locks on it.

Source: SQLite, "WAL-mode File Format"; Litestream 0.5.17, where an L0 file holds the frames of one sync.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tallykeep.systems.litestream.coverage import Pages, decode_pages
from tallykeep.systems.litestream.drill_result import LiveMatch
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.header import HEADER_SIZE, Header, lock_page
from tallykeep.systems.litestream.ltx.index import TAIL_SIZE, Tail
from tallykeep.systems.litestream.ltx.name import LtxName
from tallykeep.systems.litestream.ltx.txid import Txid
from tallykeep.systems.litestream.rpo import read_header
from tallykeep.systems.litestream.wal import FRAME_HEADER_SIZE, FrameHeader, WalError, WalHeader
from tallykeep.systems.litestream.wal import HEADER_SIZE as WAL_START

ATTEMPTS = 5
_PAUSE = 1.5  # seconds between attempts: Litestream syncs every second
_BLOCK = 1 << 20


class Side(NamedTuple):
    """Where the live database is."""

    database: Path
    ltx: Path  # Litestream's local LTX folder


class Restored(NamedTuple):
    """The image to be compared."""

    path: Path
    txid: Txid
    page_size: int
    commit: int  # pages


class _Moved(Exception):
    """The live side changed in a way that makes this attempt worthless."""


class _Unknown(Exception):
    """No attempt can tell."""


def compare(image: Restored, live: Side, sleep: Callable[[float], None] = time.sleep) -> LiveMatch:
    """Whether the live database, where it has not changed since, equals `image`. Blocks; never raises OSError."""
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(_PAUSE)
        try:
            found = _attempt(image, live)
        except _Moved as moved:
            reason = str(moved)
            continue
        except (_Unknown, OSError, LtxError) as error:
            return LiveMatch("unknown", reason=str(error))
        if found.match != "unknown":
            return found
        reason = found.reason
    return LiveMatch("unknown", reason=reason)


def _attempt(image: Restored, live: Side) -> LiveMatch:
    synced = _synced(image, live.ltx)
    with ExitStack() as stack:
        restored = stack.enter_context(image.path.open("rb"))
        database = stack.enter_context(live.database.open("rb"))
        log = _Log.open(live.database, stack, image.page_size)
        frames = log.frames()
        touched = synced.touched | log.touched_after(synced, frames)
        limit = min(image.commit, synced.least_commit, *(frame.commit for frame in frames if frame.commit))
        unlike, compared = _differing(image, restored, database, log, touched, limit)
        later = log.frames(WAL_START + len(frames) * log.stride)
        log.check_unmoved()
        _check_same(live.database, database)
        unlike -= {frame.page for frame in later}
        if shrunk := [frame.commit for frame in later if frame.commit]:
            unlike = {page for page in unlike if page <= min(shrunk)}
    doubt = log.doubt(synced)
    if compared == 0:
        return LiveMatch("unknown", reason="every page has changed since the restored TXID")
    if unlike and doubt:
        return LiveMatch("unknown", compared, len(unlike), doubt)
    return LiveMatch("differs" if unlike else "matches", compared, len(unlike))


@dataclass(frozen=True, slots=True)
class _Synced:
    """What Litestream has written down since the restored TXID."""

    touched: set[int]
    least_commit: int  # pages of the database at its smallest since
    newest: Header  # of the newest local L0 file


def _synced(image: Restored, folder: Path) -> _Synced:
    names = sorted(LtxName.parse(path.name) for path in (folder / "0").glob("*.ltx"))
    if not names:
        raise _Unknown("the local side has no L0 files")
    newest = names[-1].max
    if newest < image.txid:
        raise _Unknown(f"the local side ends at TXID {newest}, before the restored {image.txid}")
    later = [name for name in names if name.max > image.txid]
    if (later and later[0].min > image.txid + 1) or len(later) != newest - image.txid:
        raise _Moved(f"local L0 files after the restored TXID {image.txid} are gone")
    touched: set[int] = set()
    least = image.commit
    try:
        for name in later:
            pages = _pages_of(folder / "0" / str(name))
            if pages.page_size != image.page_size:
                raise _Unknown("the page size of the live database is another")
            touched |= set(pages.held)
            least = min(least, pages.commit)
        header = read_header(folder / "0" / str(names[-1]))
    except FileNotFoundError as error:
        raise _Moved(f"{error.filename} vanished") from error
    return _Synced(touched, least, header)


def _pages_of(path: Path) -> Pages:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(HEADER_SIZE)
        file.seek(max(0, size - TAIL_SIZE))
        tail = Tail.decode(file.read(), size)
        file.seek(tail.index_start)
        return decode_pages(head, file.read(), size)


class _Log:
    """The live WAL, as it was when it was opened; absent and empty are alike."""

    def __init__(self, path: Path, file: BinaryIO | None, page_size: int) -> None:
        self._path = path
        self._file = file
        self._start = self._read_start()
        self.header = self._decoded(page_size)
        self.stride = FRAME_HEADER_SIZE + page_size

    @classmethod
    def open(cls, database: Path, stack: ExitStack, page_size: int) -> _Log:
        path = database.with_name(database.name + "-wal")
        try:
            return cls(path, stack.enter_context(path.open("rb")), page_size)
        except FileNotFoundError:
            return cls(path, None, page_size)

    def frames(self, start: int = WAL_START) -> list[FrameHeader]:
        """Frames of the present generation from `start` on; a frame that is being written may be among them."""
        found: list[FrameHeader] = []
        if self._file is None or self.header is None:
            return found
        handle = self._file.fileno()
        while len(head := os.pread(handle, FRAME_HEADER_SIZE, start)) == FRAME_HEADER_SIZE:
            frame = FrameHeader.decode(head)
            if frame.salts != self.header.salts:
                break
            found.append(frame)
            start += self.stride
        return found

    def page(self, number: int) -> bytes:
        """The page in frame `number`, counted from 0."""
        assert self._file is not None
        at = WAL_START + number * self.stride + FRAME_HEADER_SIZE
        return os.pread(self._file.fileno(), self.stride - FRAME_HEADER_SIZE, at)

    def touched_after(self, synced: _Synced, frames: list[FrameHeader]) -> set[int]:
        """Pages written behind what the newest local L0 file holds: all of them where the generation is another."""
        first = 0
        if self._continues(synced):
            first = (synced.newest.wal_offset + synced.newest.wal_size - WAL_START) // self.stride
        return {frame.page for frame in frames[first:]}

    def doubt(self, synced: _Synced) -> str:
        """Why pages may have changed without a trace; "" where none can have."""
        if self.header is None:
            return "the WAL is empty: what was written since the newest local L0 file is not known"
        return "" if self._continues(synced) else "the WAL has started over since the newest local L0 file"

    def check_unmoved(self) -> None:
        """Raises: _Moved when the WAL started over or was replaced since it was opened."""
        if self._read_start() != self._start:
            raise _Moved("the WAL starts over again and again")
        if self._file is not None:
            _check_same(self._path, self._file)
        elif self._path.exists():
            raise _Moved("the WAL has just been created")

    def _continues(self, synced: _Synced) -> bool:
        newest = synced.newest
        return self.header is not None and self.header.salts == (newest.wal_salt1, newest.wal_salt2)

    def _read_start(self) -> bytes:
        return b"" if self._file is None else os.pread(self._file.fileno(), WAL_START, 0)

    def _decoded(self, page_size: int) -> WalHeader | None:
        if not self._start:
            return None
        try:
            header = WalHeader.decode(self._start)
        except WalError as error:
            raise _Moved(str(error)) from error
        if header.page_size != page_size:
            raise _Unknown("the page size of the live database is another")
        return header


def _differing(
    image: Restored, restored: BinaryIO, database: BinaryIO, log: _Log, touched: set[int], limit: int
) -> tuple[set[int], int]:
    """Untouched pages that a reader sees otherwise than in the image, and how many pages were compared."""
    in_log = {frame.page: number for number, frame in enumerate(log.frames())}
    unlike = {
        page
        for page, number in in_log.items()
        if page not in touched and page <= limit and log.page(number) != _page(restored, page, image.page_size)
    }
    left_out = touched | in_log.keys() | {lock_page(image.page_size)}
    unlike.update(page for page in _unlike_blocks(restored, database, image.page_size, limit) if page not in left_out)
    skipped = sum(page <= limit for page in touched | {lock_page(image.page_size)})
    return unlike, limit - skipped


def _unlike_blocks(ours: BinaryIO, theirs: BinaryIO, page_size: int, limit: int) -> Iterator[int]:
    """Numbers of the pages, of the first `limit`, that differ between two files; a missing page differs."""
    step = _BLOCK // page_size
    for first in range(0, limit, step):
        length = min(step, limit - first) * page_size
        one, two = (os.pread(file.fileno(), length, first * page_size) for file in (ours, theirs))
        if one == two:
            continue
        for at in range(0, length, page_size):
            if one[at : at + page_size] != two[at : at + page_size]:
                yield first + at // page_size + 1


def _page(file: BinaryIO, number: int, size: int) -> bytes:
    return os.pread(file.fileno(), size, (number - 1) * size)


def _check_same(path: Path, file: BinaryIO) -> None:
    """Raises: _Moved where `path` is no longer the open file."""
    try:
        same = os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        same = False
    if not same:
        raise _Moved(f"{path} was replaced while it was read")
