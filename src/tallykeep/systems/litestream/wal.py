"""SQLite's write-ahead log: its header, its frames, and which of them are commits.

Read with plain open() and never through a SQLite connection: a monitor must not take part in locking, and closing
any descriptor of a database drops the POSIX locks of a connection in the same process. So nothing here may run in
a process that holds a connection to the database.

A frame counts as SQLite's own recovery counts it: its salts are those of the generation and its stored checksum
continues the cumulative checksum from the frame before. What follows the first frame that does not is left over
from an earlier generation, or torn. Layout: docs/formats/sqlite-wal.md.

Source: SQLite, Database File Format, "The Write-Ahead Log"; wal.c, walDecodeFrame and walChecksumBytes.
"""

from __future__ import annotations

import struct
from array import array
from functools import cache
from typing import BinaryIO, Literal, NamedTuple

from tallykeep.errors import IntegrityError

HEADER_SIZE = 32
FRAME_HEADER_SIZE = 24
MAGIC = 0x377F0682  # the lowest bit set: checksums over big-endian words
VERSION = 3007000
PAGE_SIZES = frozenset(512 << power for power in range(8))
_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_BLOCK = 1 << 20  # bytes summed side by side

Checksum = tuple[int, int]
Salts = tuple[int, int]
Reason = Literal["too_small", "bad_magic", "bad_version", "bad_page_size", "checksum"]


class WalError(IntegrityError):
    """Bytes that are not the header of a WAL. SQLite takes such a file for an empty WAL."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


class WalHeader(NamedTuple):
    """What a WAL says of its current generation: it is rewritten whenever the WAL starts over."""

    big_endian: bool  # the byte order of the words the checksums are reckoned over
    page_size: int  # bytes
    sequence: int  # checkpoints since the file was created
    salts: Salts  # the first grows by one with each restart, the second is random
    checksum: Checksum  # of the 24 bytes before it: where the frames' checksums start from

    @classmethod
    def decode(cls, data: bytes) -> WalHeader:
        """Read and check a header; bytes behind the first 32 are not looked at.

        Raises: WalError (too_small, bad_magic, bad_version, bad_page_size, checksum).
        """
        if len(data) < HEADER_SIZE:
            raise WalError("too_small", f"{len(data)} bytes are not a WAL: its header alone has {HEADER_SIZE}")
        magic, version, page_size, sequence, salt1, salt2, *stored = _HEADER.unpack_from(data)
        if magic & ~1 != MAGIC:
            raise WalError("bad_magic", f"not a WAL: it starts with {magic:#010x}")
        if version != VERSION:
            raise WalError("bad_version", f"WAL format {version} is not known, only {VERSION}")
        if page_size not in PAGE_SIZES:
            raise WalError("bad_page_size", f"a WAL cannot have pages of {page_size} bytes")
        header = cls(bool(magic & 1), page_size, sequence, (salt1, salt2), (stored[0], stored[1]))
        if advance((0, 0), data[:24], header.big_endian) != header.checksum:
            raise WalError("checksum", "the WAL's header contradicts its checksum")
        return header

    @property
    def frame_size(self) -> int:
        """Bytes of a frame, its header included."""
        return FRAME_HEADER_SIZE + self.page_size

    def is_boundary(self, offset: int) -> bool:
        """Whether a frame can start, or the last one end, at `offset`."""
        return offset >= HEADER_SIZE and (offset - HEADER_SIZE) % self.frame_size == 0


class FrameHeader(NamedTuple):
    """What stands before each page."""

    page: int
    commit: int  # pages of the database after this commit; 0 where the transaction goes on
    salts: Salts
    checksum: Checksum  # of everything from the header's start to this page's end

    @classmethod
    def decode(cls, data: bytes, offset: int = 0) -> FrameHeader:
        """Read the 24 bytes at `offset`, which must be there. Says nothing of whether the frame is valid."""
        page, commit, salt1, salt2, sum1, sum2 = _FRAME.unpack_from(data, offset)
        return cls(page, commit, (salt1, salt2), (sum1, sum2))


class Commit(NamedTuple):
    """One transaction in the WAL."""

    end: int  # offset behind its last frame
    frames: int
    page: int  # the page of its last frame


class WalScan:
    """Verifies frames one after another, each once, however often the WAL grows.

    Starts at the offset of a frame: at the header's end, or anywhere behind a frame whose checksum is trusted.
    Holds the place it has come to and no open file.
    """

    __slots__ = ("_checksum", "_committed", "_frames", "end", "ended", "header", "salts", "start")

    def __init__(
        self, header: WalHeader, start: int = HEADER_SIZE, seed: Checksum | None = None, salts: Salts | None = None
    ) -> None:
        """`seed` is the checksum stored in the frame before `start`; `salts` are the header's unless given."""
        self.header = header
        self.salts = header.salts if salts is None else salts
        self.start = self.end = start  # verified so far: frames from start to end
        self.ended = False  # whether the last read came to the end of what is valid
        self._checksum = header.checksum if seed is None else seed
        self._frames = 0  # of the transaction that is under way
        self._committed = (start, self._checksum)  # where the last commit ended

    def read(self, file: BinaryIO, budget: int) -> list[Commit]:
        """Go on where the last read stopped, for about `budget` bytes; the commits that were found.

        `ended` tells afterwards whether there was more within the budget. An uncommitted tail, or a frame that is
        being written, is looked at again by the next read.
        """
        size = self.header.frame_size
        most = max(1, _BLOCK // size)
        commits: list[Commit] = []
        self.ended = False
        self._drop_what_was_rolled_back(file)
        while budget > 0 and not self.ended:
            file.seek(self.end)
            block = file.read(most * size)
            count = self._of_this_generation(block)
            good = self._verify(block, count, commits)
            budget -= max(good, 1) * size
            self.ended = good < most
        return commits

    def _drop_what_was_rolled_back(self, file: BinaryIO) -> None:
        """A large transaction writes frames before it commits; after a rollback the next one writes over them."""
        if self._frames:
            file.seek(self.end - self.header.frame_size)
            data = file.read(FRAME_HEADER_SIZE)
            if len(data) < FRAME_HEADER_SIZE or FrameHeader.decode(data).checksum != self._checksum:
                self.end, self._checksum = self._committed
                self._frames = 0

    def _of_this_generation(self, block: bytes) -> int:
        """Leading whole frames that carry the salts: checked first, as it is cheap."""
        size = self.header.frame_size
        wanted = struct.pack(">2I", *self.salts)
        whole = len(block) // size
        return next((n for n in range(whole) if block[n * size + 8 : n * size + 16] != wanted), whole)

    def _verify(self, block: bytes, count: int, commits: list[Commit]) -> int:
        size = self.header.frame_size
        checksums = _chain(block, count, self.header, self._checksum)
        for number, checksum in enumerate(checksums):
            frame = FrameHeader.decode(block, number * size)
            if frame.checksum != checksum or frame.page == 0:
                return number
            self._checksum = checksum
            self.end += size
            self._frames += 1
            if frame.commit:
                commits.append(Commit(self.end, self._frames, frame.page))
                self._frames = 0
                self._committed = (self.end, checksum)
        return count


def advance(checksum: Checksum, data: bytes, big_endian: bool) -> Checksum:
    """The checksum continued over `data`, a multiple of 8 bytes: a Fibonacci-weighted sum, modulo 2**32."""
    first, second = checksum
    words = struct.unpack(f"{'>' if big_endian else '<'}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def _chain(block: bytes, count: int, header: WalHeader, seed: Checksum) -> list[Checksum]:
    """The cumulative checksum behind each of the first `count` frames of `block`."""
    (a, b), (c, d) = _power(1 + header.page_size // 8)
    first, second = seed
    sums = []
    for one, two in _own_sums(block, count, header):
        first, second = (a * first + b * second + one) & 0xFFFFFFFF, (c * first + d * second + two) & 0xFFFFFFFF
        sums.append((first, second))
    return sums


def _own_sums(block: bytes, count: int, header: WalHeader) -> list[Checksum]:
    """What each frame adds by itself, as if the checksum before it were zero.

    The checksum is linear, so all frames of a block are summed side by side, each in a lane of 64 bits of one long
    integer: 10 times as fast as frame by frame, about 500 MB/s. Lanes are cut back to 32 bits every 16 steps; a
    step grows a sum by no more than 2.62 times.
    """
    if count == 0:
        return []
    if header.big_endian:
        words = array("I", block[: count * header.frame_size])
        words.byteswap()
        block = words.tobytes()
    pairs = memoryview(block[: count * header.frame_size]).cast("Q")
    stride = header.frame_size // 8
    low = int.from_bytes(b"\xff\xff\xff\xff\0\0\0\0" * count, "little")
    first = second = 0
    for step, at in enumerate((0, *range(FRAME_HEADER_SIZE // 8, stride)), 1):
        lanes = int.from_bytes(pairs[at::stride].tobytes(), "little")
        first += (lanes & low) + second
        second += (lanes >> 32 & low) + first
        if step % 16 == 0:
            first &= low
            second &= low
    sums = (struct.unpack(f"<{count}Q", (total & low).to_bytes(8 * count, "little")) for total in (first, second))
    return list(zip(*sums, strict=True))


@cache
def _power(steps: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """What `steps` steps make of a checksum before any data is added: [[1, 1], [1, 2]] to that power."""
    a, b, c, d = 1, 0, 0, 1
    for _ in range(steps):
        a, b, c, d = a + c, b + d, a + 2 * c, b + 2 * d
    return (a & 0xFFFFFFFF, b & 0xFFFFFFFF), (c & 0xFFFFFFFF, d & 0xFFFFFFFF)
