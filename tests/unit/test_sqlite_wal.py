"""The WAL format, a test for each row of docs/formats/sqlite-wal.md, and scans of made and real files."""

from __future__ import annotations

import io
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.replicas import FIXTURES
from tests.support.wals import SALTS, checksum, make_wal

from tallykeep.systems.litestream.wal import (
    FRAME_HEADER_SIZE,
    HEADER_SIZE,
    Commit,
    FrameHeader,
    WalError,
    WalHeader,
    WalScan,
)

WAL = FIXTURES / "local" / "omni.db-wal"
FRAME = FRAME_HEADER_SIZE + 512


def forged(at: int, value: int) -> bytes:
    """A header with one field changed and its checksum made good again."""
    head = bytearray(make_wal([])[:24])
    struct.pack_into(">I", head, at, value)
    return bytes(head) + struct.pack(">2I", *checksum(bytes(head), (0, 0), bool(head[3] & 1)))


@pytest.mark.parametrize("big_endian", [False, True])
def test_magic_gives_the_byte_order(big_endian: bool) -> None:
    """Header 0, 4: magic; its lowest bit says the order of the words that are summed."""
    assert WalHeader.decode(make_wal([], big_endian=big_endian)).big_endian is big_endian


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [(0, 0x377F0684, "bad_magic"), (4, 3007001, "bad_version"), (8, 1000, "bad_page_size"), (8, 1, "bad_page_size")],
)
def test_header_fields_that_cannot_be(at: int, value: int, reason: str) -> None:
    """Header 0, 4 and 8: magic, version 3007000, and a power of two from 512 to 65536, written out."""
    with pytest.raises(WalError) as error:
        WalHeader.decode(forged(at, value))
    assert error.value.reason == reason


def test_page_size_is_written_out() -> None:
    """Header 8, 4: page size in bytes; 65536 is not written as 1, as it is in the database."""
    assert WalHeader.decode(make_wal([], page_size=65536)).page_size == 65536


def test_sequence_and_salts() -> None:
    """Header 12, 16 and 20: checkpoint sequence number, salt 1, salt 2."""
    header = WalHeader.decode(make_wal([], sequence=5, salts=(0xFFFFFFFF, 3)))
    assert (header.sequence, header.salts) == (5, (0xFFFFFFFF, 3))


def test_header_checksum() -> None:
    """Header 24, 8: checksum of the first 24 bytes; frames start from it."""
    data = bytearray(make_wal([]))
    assert WalHeader.decode(bytes(data)).checksum == struct.unpack_from(">2I", data, 24)
    data[24] ^= 1
    with pytest.raises(WalError, match="checksum"):
        WalHeader.decode(bytes(data))


def test_frame_header() -> None:
    """Frame 0, 4, 8, 12, 16: page, pages after a commit or 0, salts, checksum."""
    data = make_wal([[2, 3]])
    first, second = (FrameHeader.decode(data, HEADER_SIZE + n * FRAME) for n in (0, 1))
    assert (first.page, first.commit, first.salts) == (2, 0, SALTS)
    assert (second.page, second.commit, second.salts) == (3, 100, SALTS)
    assert second.checksum == struct.unpack_from(">2I", data, HEADER_SIZE + FRAME + 16)


def scan(data: bytes) -> tuple[list[Commit], WalScan]:
    reader = WalScan(WalHeader.decode(data))
    return reader.read(io.BytesIO(data), 1 << 30), reader


def test_commits_of_a_wal() -> None:
    """A transaction ends with the frame that has a database size; the open one behind does not count."""
    commits, reader = scan(make_wal([[2], [2, 3, 4]], open_frames=2))
    assert commits == [(HEADER_SIZE + FRAME, 1, 2), (HEADER_SIZE + 4 * FRAME, 3, 4)]
    assert (reader.end, reader.ended) == (HEADER_SIZE + 6 * FRAME, True)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_checksums_of_both_byte_orders_and_all_sizes(page_size: int, big_endian: bool) -> None:
    """Frames are summed side by side and come to what SQLite's loop comes to."""
    commits, _ = scan(make_wal([[2], [3], [4, 5]], page_size=page_size, big_endian=big_endian))
    assert len(commits) == 3


@pytest.mark.parametrize("at", [0, 4, 8, 16, 24, 500])
def test_a_frame_that_contradicts_ends_the_wal(at: int) -> None:
    """Frames are valid up to the first whose salts or checksum do not fit; nothing behind it counts."""
    data = bytearray(make_wal([[2], [3], [4]]))
    data[HEADER_SIZE + FRAME + at] ^= 0x10
    commits, reader = scan(bytes(data))
    assert (len(commits), reader.ended) == (1, True)


def test_a_cut_frame_does_not_count() -> None:
    """The last frame counts when it is there to its last byte."""
    assert len(scan(make_wal([[2], [3]])[:-1])[0]) == 1


def test_a_scan_goes_on_where_it_stopped() -> None:
    """As the WAL grows only the new frames are read, and each commit is told once."""
    data = make_wal([[page] for page in range(2, 12)])
    reader = WalScan(WalHeader.decode(data))
    found = []
    for size in (*range(HEADER_SIZE, len(data), 300), len(data)):
        found += reader.read(io.BytesIO(data[:size]), 1 << 20)
    assert [commit.page for commit in found] == list(range(2, 12))


def test_a_budget_bounds_one_read() -> None:
    """A read stops after its budget and says that there is more."""
    data = make_wal([[2]] * 40, page_size=65536)
    reader = WalScan(WalHeader.decode(data))
    first = len(reader.read(io.BytesIO(data), 1_000_000))
    assert 0 < first < 40
    assert not reader.ended
    assert first + len(reader.read(io.BytesIO(data), 1 << 30)) == 40
    assert reader.ended


def test_frames_of_a_rolled_back_transaction_are_forgotten() -> None:
    """A transaction that spilled into the WAL and was rolled back is overwritten; the next commits are seen."""
    spilled = make_wal([[2]], open_frames=3)
    after = make_wal([[2], [5], [6]])
    reader = WalScan(WalHeader.decode(spilled))
    assert len(reader.read(io.BytesIO(spilled), 1 << 20)) == 1
    assert [commit.page for commit in reader.read(io.BytesIO(after), 1 << 20)] == [5, 6]


def test_the_wal_of_the_fixture() -> None:
    """The real WAL has eight commits: one of Litestream's own and seven of the application."""
    commits, reader = scan(WAL.read_bytes())
    assert (len(commits), reader.end) == (8, 8416)


def test_a_wal_as_sqlite_writes_it(tmp_path: Path) -> None:
    """Commits counted in the WAL are the commits made, a large rolled back transaction among them."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=5; CREATE TABLE t(x)")
        for number in range(20):
            db.execute("BEGIN")
            for _ in range(100 if number == 10 else 1):
                db.execute("INSERT INTO t VALUES (randomblob(900))")
            db.execute("ROLLBACK" if number == 10 else "COMMIT")
        data = path.with_name("a.db-wal").read_bytes()
    assert len(scan(data)[0]) == 1 + 19
