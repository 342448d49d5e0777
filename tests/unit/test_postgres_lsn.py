"""Positions, names of WAL files, history files: as PostgreSQL has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallykeep.errors import Malformed
from tallykeep.systems.postgres.lsn import LSN, Fork, History, Segment, history_name, history_timeline

_MIB = 1 << 20


@given(st.integers(0, 2**64 - 1))
def test_lsns_print_and_parse(value: int) -> None:
    """What is printed is parsed to the same position."""
    assert LSN.parse(str(LSN(value))) == value


@pytest.mark.parametrize(
    ("lsn", "size", "name"),
    [
        ("0/3000000", 16 * _MIB, "000000010000000000000003"),
        ("0/3FFFFFF", 16 * _MIB, "000000010000000000000003"),
        ("1/0", 16 * _MIB, "000000010000000100000000"),
        ("0/FF000000", 16 * _MIB, "0000000100000000000000FF"),
        ("2/C0000000", 1024 * _MIB, "000000010000000200000003"),
        ("0/300000", _MIB, "000000010000000000000003"),
    ],
)
def test_files_are_named_as_pg_walfile_name_does(lsn: str, size: int, name: str) -> None:
    """Name and segment tell one another, for every size of segments."""
    segment = Segment.at(1, LSN.parse(lsn), size)
    assert segment.name == name
    assert Segment.parse(name, size) == segment
    assert segment.next().start == segment.end


def test_histories_tell_where_each_timeline_was_left() -> None:
    """As PostgreSQL writes them: tabs, a reason, comments."""
    text = "# who\n1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\tbefore 2000-01-01\n"
    history = History.parse(3, text)
    assert history.forks == (Fork(1, LSN.parse("0/3000148")), Fork(2, LSN.parse("0/5000000")))
    assert history.left(1) == 0x3000148 and history.left(3) is None
    assert history.knows(3) and history.knows(2) and not history.knows(4)
    assert history_timeline(history_name(3)) == 3 and history_timeline("x") is None


@pytest.mark.parametrize("text", ["1", "x 0/1", "2 0/1\n1 0/2", "1 nothing"])
def test_what_is_no_history_is_refused(text: str) -> None:
    """A file that was cut or is another is not taken for an answer."""
    with pytest.raises(Malformed):
        History.parse(3, text)


@pytest.mark.parametrize("text", ["", "1", "1/", "/1", "g/1", "123456789/0", "0/123456789", "-1/0",
                                  "+1/0", "1_1/0", "0x1/0", " 1/0", "1/0\n", "\u0663/0"])  # fmt: skip
def test_what_is_no_lsn_is_refused(text: str) -> None:
    """No text is read as another position."""
    with pytest.raises(Malformed):
        LSN.parse(text)
