"""Hostile bytes in place of a WAL or a database: a typed error, or a shorter valid prefix, never a crash."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.replicas import FIXTURES
from tests.support.wals import make_wal

from tallykeep.systems.litestream.bookkeeping import holds_one_counter, sequence_page
from tallykeep.systems.litestream.wal import Commit, WalError, WalHeader, WalScan

WAL = (FIXTURES / "local" / "omni.db-wal").read_bytes()
DATABASE = (FIXTURES / "local" / "omni.db").read_bytes()
WHOLE = make_wal([[2], [3, 4], [5], [6, 7, 8]], open_frames=1)


def commits(data: bytes) -> list[Commit] | None:
    try:
        header = WalHeader.decode(data)
    except WalError:
        return None
    return WalScan(header).read(io.BytesIO(data), 1 << 30)


@given(data=st.binary(max_size=2000))
def test_any_bytes(data: bytes) -> None:
    """Bytes that are no WAL have no commits."""
    assert not commits(data)


@given(at=st.integers(0, len(WHOLE) - 1), flip=st.integers(1, 255))
def test_any_flipped_byte(at: int, flip: int) -> None:
    """With one byte changed anywhere the commits before it stay and none is made up."""
    data = bytearray(WHOLE)
    data[at] ^= flip
    found, whole = commits(bytes(data)), commits(WHOLE)
    assert whole is not None
    if at < 32:
        assert not found
    else:
        assert found == [commit for commit in whole if commit.end <= at]


@given(size=st.integers(0, len(WAL)))
@example(size=31)
@example(size=32)
def test_cut_anywhere(size: int) -> None:
    """A real WAL cut anywhere has the commits that are whole before the cut."""
    found, whole = commits(WAL[:size]), commits(WAL)
    assert whole is not None
    assert (found or []) == [commit for commit in whole if commit.end <= size]


@given(start=st.integers(0, len(DATABASE)), noise=st.binary(max_size=64), size=st.integers(0, len(DATABASE)))
def test_any_database(start: int, noise: bytes, size: int) -> None:
    """A damaged or cut database has a table of Litestream's or none; nothing else happens."""
    data = bytearray(DATABASE)
    data[start : start + len(noise)] = noise
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        path.write_bytes(data[:size])
        page = sequence_page(path)
    assert page is None or page >= 0


@given(page=st.binary(max_size=600), cell=st.integers(0, 600))
def test_any_page(page: bytes, cell: int) -> None:
    """Any page is Litestream's counter or not."""
    assert holds_one_counter(page) in (True, False)
    assert holds_one_counter(b"\x0d\0\0\0\1\0\0\0" + cell.to_bytes(2, "big") + page) in (True, False)
