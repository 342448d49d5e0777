"""Exposure: what the WAL and the local files say of commits that the replica does not hold."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.support.ltx_encoder import block, encode, page
from tests.support.replicas import LOCAL_DB, LOCAL_LTX, listing, ltx_name, replica
from tests.support.wals import SALTS, counter, make_wal, overwrite

from tallykeep.systems.litestream.bookkeeping import sequence_page
from tallykeep.systems.litestream.inventory import Inventory
from tallykeep.systems.litestream.ltx.header import Header
from tallykeep.systems.litestream.ltx.txid import Txid
from tallykeep.systems.litestream.plan import find_newest, make_plan
from tallykeep.systems.litestream.rpo import Exposure, Meter, Reason, read_header
from tallykeep.systems.litestream.wal import Commit, WalScan

FRAME = 24 + 512
NEXT = (SALTS[0] + 1, 99)  # salts after one restart
LATER = (SALTS[0] + 2, 5)
OTHER = (77, 78)  # salts of another file
NOW = 1_900_000_000.0  # after the files the tests write


def head(txid: int, frames: int, *, salts: tuple[int, int] = SALTS, first: int = 1, size: int = 512) -> Header:
    """The header of a level 0 file that ends behind `frames` frames, and starts behind `first - 1`."""
    frame = 24 + size
    number = Txid(txid)
    return Header(2, size, 9, number, number, int(NOW * 1000), 0, 32 + (first - 1) * frame,
                  (frames - first + 1) * frame, *salts, 0)  # fmt: skip


class Machine:
    """A database beside a made WAL and made local files."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "app.db"
        self.wal = folder / "app.db-wal"
        self.level0 = folder / ".app.db-litestream" / "ltx" / "0"
        self.level0.mkdir(parents=True)
        with closing(sqlite3.connect(self.path)) as db:
            db.executescript(
                "PRAGMA page_size=512; CREATE TABLE t (x);"
                "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)"
            )
        self.own = sequence_page(self.path)
        self.meter = Meter(self.path, self.level0)

    def write(self, wal: bytes) -> None:
        self.wal.write_bytes(wal)
        os.utime(self.wal, (NOW, NOW))

    def sync(self, header: Header, *pages: bytes) -> None:
        """Put a local file there: of this header, with these pages."""
        wal = (header.wal_offset, header.wal_size, header.wal_salt1, header.wal_salt2)
        frames = [block(number, content) for number, content in enumerate(pages or [page(1)], 2)]
        data = encode(frames, min_txid=header.min_txid, wal=wal, timestamp_ms=header.timestamp_ms)
        (self.level0 / ltx_name(header.min_txid)).write_bytes(data)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def fixture_meter() -> Meter:
    return Meter(LOCAL_DB, LOCAL_LTX / "0")


def test_seven_commits_after_the_newest_file_of_the_fixture() -> None:
    """The WAL of the fixture holds exactly 7 commits that TXID 3b does not."""
    exposure = fixture_meter().measure(read_header(LOCAL_LTX / "0" / ltx_name(0x3B)))
    assert (exposure.commits, exposure.bytes) == (7, 7 * (24 + 1024))


def test_litestreams_own_file_adds_nothing() -> None:
    """TXID 3b holds nothing but a commit of Litestream's: a replica that ends at 3a lacks the same 7."""
    assert fixture_meter().measure(read_header(LOCAL_LTX / "0" / ltx_name(0x3A))).commits == 7


@pytest.mark.parametrize(("case", "commits"), [("healthy", 7), ("stale", 27), ("gap-tail", 9), ("truncated", 7)])
def test_fixtures(case: str, commits: int) -> None:
    """What each replica of the fixtures lacks of the local database, through one restart of its WAL."""
    root = replica(case)
    inventory = Inventory(listing(root))
    newest = find_newest(inventory, make_plan(inventory))
    assert newest is not None
    assert fixture_meter().measure(read_header(root / newest.key)).commits == commits


def test_a_compaction_is_placed_by_the_local_file_of_its_txid() -> None:
    """Files of compactions name no place in the WAL; the local file of the same TXID does."""
    header = read_header(replica("healthy") / "0001" / ltx_name(0x39, 0x3A))
    assert header.wal_offset == 0
    assert fixture_meter().measure(header).commits == 7


def test_exposure_grows_and_shrinks(machine: Machine) -> None:
    """Commits are exposed as they are written and no longer once they are replicated."""
    pages: list[list[int]] = []
    for number in range(1, 8):
        pages.append([2, 3] if number == 4 else [2])
        machine.write(make_wal(pages))
        assert machine.meter.measure(head(1, 1)).commits == number - 1
    assert machine.meter.measure(head(2, 5)).commits == 3
    assert machine.meter.measure(head(3, 8)) == Exposure(0, 0, None, NOW)
    assert machine.meter.measure(head(1, 1)).commits == 6


def test_own_commits_do_not_count(machine: Machine) -> None:
    """A commit of one frame to the root page of _litestream_seq is Litestream's; a longer one is not."""
    own = machine.own
    assert own is not None
    machine.write(make_wal([[2], [own], [2], [own, 2], [own]], own=own))
    exposure = machine.meter.measure(head(1, 1))
    assert (exposure.commits, exposure.bytes) == (2, 3 * FRAME)


def test_a_page_that_was_litestreams_may_be_the_applications(machine: Machine) -> None:
    """After a VACUUM the page in the database file may be out of date: what it holds has to fit as well."""
    own = machine.own
    assert own is not None
    machine.write(make_wal([[2], [own], [own]]))
    assert machine.meter.measure(head(1, 1)).commits == 2


def test_nothing_in_the_wal_yet(machine: Machine) -> None:
    """A replica that ends at the WAL's header lacks every commit in it."""
    machine.write(make_wal([[2], [2]]))
    assert machine.meter.measure(head(1, 0)).commits == 2


def test_one_restart_is_looked_through(machine: Machine) -> None:
    """As long as the old end is in its place, old and new commits are counted exactly."""
    old, new = make_wal([[2]] * 10), make_wal([[2]] * 3, salts=NEXT, sequence=1)
    machine.write(overwrite(old, new))
    exposure = machine.meter.measure(head(1, 6))
    assert (exposure.commits, exposure.bytes) == (4 + 3, 7 * FRAME)


def test_an_overwritten_end_leaves_a_lower_bound(machine: Machine) -> None:
    """Once new frames reach the replicated end, what is in the new generation is the least that is missing."""
    machine.write(overwrite(make_wal([[2]] * 10), make_wal([[2]] * 6, salts=NEXT, sequence=1)))
    exposure = machine.meter.measure(head(1, 6))
    assert (exposure.commits, exposure.at_least, exposure.reason) == (None, 6, Reason.WAL_RESTARTED)


def test_two_restarts_leave_a_lower_bound(machine: Machine) -> None:
    """What happened between two restarts cannot be known."""
    machine.write(overwrite(make_wal([[2]] * 10), make_wal([[2]] * 2, salts=LATER, sequence=2)))
    exposure = machine.meter.measure(head(1, 6))
    assert (exposure.commits, exposure.at_least, exposure.reason) == (None, 2, Reason.WAL_RESTARTED)


def test_a_cut_old_generation_leaves_a_lower_bound(machine: Machine) -> None:
    """A file that ends inside a frame was cut when it started over: its old end is unknown."""
    machine.write(overwrite(make_wal([[2]] * 10), make_wal([[2]] * 2, salts=NEXT, sequence=1))[:-100])
    exposure = machine.meter.measure(head(1, 6))
    assert (exposure.at_least, exposure.reason) == (2, Reason.WAL_RESTARTED)


def test_local_files_raise_the_lower_bound(machine: Machine) -> None:
    """Local files beyond the replica hold a commit each, unless they may hold one of Litestream's alone."""
    machine.write(make_wal([[2]] * 4, salts=LATER, sequence=2))
    machine.sync(head(5, 6))
    machine.sync(head(6, 8, first=7))  # two frames: a commit
    machine.sync(head(7, 1, salts=NEXT), counter(512))  # Litestream's own
    machine.sync(head(8, 2, first=2, salts=NEXT), page(1), page(2))  # one frame in a full copy: may be its own
    machine.sync(head(9, 3, first=3, salts=NEXT), page(1))  # one frame of something else: a commit
    (machine.level0 / ltx_name(11)).write_bytes(b"LTX1")
    machine.sync(head(10, 3, salts=LATER))  # of this generation: its commits stand in the WAL
    exposure = machine.meter.measure(head(5, 6))
    assert (exposure.at_least, exposure.reason) == (2 + 4, Reason.WAL_RESTARTED)


def test_commits_seen_before_the_wal_started_over_are_remembered(machine: Machine) -> None:
    """While the replica stands still, what was counted in each generation stays counted when the WAL moves on."""
    for restarts, commits in ((0, 10), (1, 8), (2, 9), (3, 2)):
        salts = (SALTS[0] + restarts, restarts)
        machine.write(make_wal([[2]] * commits, salts=salts if restarts else SALTS, sequence=restarts))
        exposure = machine.meter.measure(head(1, 6))
    assert (exposure.at_least, exposure.reason) == (4 + 8 + 9 + 2, Reason.WAL_RESTARTED)
    moved = machine.meter.measure(head(9, 3, salts=(SALTS[0] + 2, 2)))
    assert moved.at_least == 6 + 2
    machine.wal.unlink()
    assert machine.meter.measure(head(9, 3, salts=(SALTS[0] + 2, 2))) == Exposure(6 + 2, 0, Reason.NO_WAL, NOW)
    machine.write(make_wal([[2]] * 5, salts=(SALTS[0] + 3, 3), sequence=3))
    assert machine.meter.measure(head(10, 1, salts=(SALTS[0] + 3, 3))).commits == 4


def test_no_wal(machine: Machine) -> None:
    """Without a WAL nothing proves that the replica is complete; local files still prove what it lacks."""
    machine.sync(head(5, 6))
    assert machine.meter.measure(head(5, 6)) == Exposure(0, 0, Reason.NO_WAL, NOW)
    machine.sync(head(6, 8, first=7))
    assert machine.meter.measure(head(5, 6)) == Exposure(1, 0, Reason.NO_WAL, NOW)


@pytest.mark.parametrize("wal", [b"", make_wal([])[:31], b"\0" * 100])
def test_an_empty_or_damaged_wal_is_none(machine: Machine, wal: bytes) -> None:
    """SQLite takes a WAL without a valid header for an empty one, and so does this."""
    machine.write(wal)
    assert machine.meter.measure(head(1, 1)).reason is Reason.NO_WAL


def test_no_database(machine: Machine) -> None:
    """A missing database is said to be missing."""
    machine.path.unlink()
    assert machine.meter.measure(head(1, 1)).reason is Reason.DATABASE_MISSING


def test_nothing_replicated(machine: Machine) -> None:
    """With nothing to restore from all that can be seen is exposed, but for the creation of Litestream's tables."""
    machine.write(make_wal([[2]] * 5))
    exposure = machine.meter.measure(None)
    assert (exposure.at_least, exposure.reason, exposure.seconds(NOW)) == (3, Reason.NOTHING_REPLICATED, None)


def test_no_position(machine: Machine) -> None:
    """A compaction whose TXID has no local file any more tells no place; local files beyond it still count."""
    compaction = head(5, 6)._replace(min_txid=Txid(1), wal_offset=0, wal_size=0, wal_salt1=0, wal_salt2=0)
    machine.write(make_wal([[2]] * 8))
    assert machine.meter.measure(compaction) == Exposure(0, 0, Reason.NO_WAL_POSITION, NOW)
    machine.sync(head(6, 7, first=6))
    assert machine.meter.measure(compaction).at_least == 3 - 2


def test_another_page_size(machine: Machine) -> None:
    """A WAL of another page size belongs to another database: all of it is missing on the replica."""
    machine.write(make_wal([[2]] * 4, salts=OTHER))
    exposure = machine.meter.measure(head(1, 1, size=4096))
    assert (exposure.at_least, exposure.reason) == (4 - 2, Reason.PAGE_SIZE_CHANGED)


def shorter(machine: Machine) -> None:
    machine.write(make_wal([[2]] * 2))


def earlier(machine: Machine) -> None:
    machine.write(make_wal([[2]] * 20, salts=(SALTS[0] - 3, 1)))


def behind(machine: Machine) -> None:
    machine.write(make_wal([[2]] * 20, salts=OTHER))
    machine.sync(head(3, 2))


def aged(machine: Machine) -> None:
    machine.write(make_wal([[2]] * 20, salts=OTHER))
    os.utime(machine.wal, (NOW - 3600, NOW - 3600))


def gone(machine: Machine) -> None:
    machine.sync(head(3, 2))


@pytest.mark.parametrize("arrange", [shorter, earlier, behind, aged, gone])
def test_the_replica_is_ahead(machine: Machine, arrange: Callable[[Machine], None]) -> None:
    """A shorter or earlier WAL, older local files or an aged WAL: the database is the older one, nothing is claimed."""
    arrange(machine)
    assert machine.meter.measure(head(5, 6)) == Exposure(0, 0, Reason.REPLICA_AHEAD, NOW)


def test_a_budget_is_caught_up_with(machine: Machine) -> None:
    """A long WAL is read over several measurements: a growing lower bound, then the exact number."""
    salts, size = SALTS, 65536
    machine.write(make_wal([[2]] * 40, page_size=size))
    said = [machine.meter.measure(head(1, 1, salts=salts, size=size), budget=500_000) for _ in range(4)]
    assert said[0].reason is said[1].reason is Reason.CATCHING_UP
    assert 0 < said[0].at_least < said[1].at_least < 39
    assert said[-1].commits == 39


def test_a_wal_that_starts_over_while_it_is_read(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header that changed during the reading makes it be done again."""
    old, new = make_wal([[2]] * 10), make_wal([[2]] * 2, salts=NEXT, sequence=1)
    machine.write(old)
    read = WalScan.read

    def overtaken(self: WalScan, file: BinaryIO, budget: int) -> list[Commit]:
        found = read(self, file, budget)
        machine.write(overwrite(old, new))
        return found

    monkeypatch.setattr(WalScan, "read", overtaken)
    assert machine.meter.measure(head(1, 6)).commits == 4 + 2


def test_seconds() -> None:
    """Nothing waiting is 0 s; something waiting is as old as the newest replicated file at most; unknown is None."""
    assert Exposure(0, 0, None, 100.0).seconds(160.0) == 0.0
    assert Exposure(2, 0, None, 100.0).seconds(160.0) == 60.0
    assert Exposure(2, 0, Reason.WAL_RESTARTED, 100.0).seconds(160.0) == 60.0
    assert Exposure(0, 0, Reason.NO_WAL, 100.0).seconds(160.0) is None
    assert Exposure(2, 0, None, 100.0).seconds(90.0) == 0.0


def test_a_meter_leaves_the_files_alone() -> None:
    """Measuring makes no -shm file and changes nothing."""
    before = {path: path.stat().st_mtime_ns for path in LOCAL_DB.parent.rglob("*")}
    fixture_meter().measure(read_header(LOCAL_LTX / "0" / ltx_name(0x3B)))
    assert {path: path.stat().st_mtime_ns for path in LOCAL_DB.parent.rglob("*")} == before
