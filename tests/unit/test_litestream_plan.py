"""Restore plans, gaps and reach of the fixtures and of small listings made by hand."""

from __future__ import annotations

import pytest
from tests.support.replicas import entry, listing, replica

from tallykeep.systems.litestream.gaps import find_faults
from tallykeep.systems.litestream.inventory import Inventory
from tallykeep.systems.litestream.plan import Problem, find_reach, make_plan


def inventory_of(case: str) -> Inventory:
    return Inventory(listing(replica(case)))


@pytest.mark.parametrize(
    ("case", "problem", "restorable", "files"),
    [
        ("healthy", Problem.NONE, 0x3B, 7),
        ("gap-tail", Problem.GAP, 0x39, None),
        ("truncated", Problem.NONE, 0x3B, 7),
        ("flip-page", Problem.NONE, 0x3B, 7),
        ("zero-byte", Problem.NONE, 0x3B, 7),
        ("renamed", Problem.NONE, 0x3C, None),
        ("stale", Problem.NONE, 0x30, None),
        ("no-base", Problem.NO_BASE, 0, None),
        ("db-replaced", Problem.NONE, 0xC, None),
    ],
)
def test_plan_of_every_fixture(case: str, problem: Problem, restorable: int, files: int | None) -> None:
    """Each damaged replica gets the verdict its names allow."""
    plan = make_plan(inventory_of(case))
    assert (plan.problem, plan.restorable_txid) == (problem, restorable)
    assert files is None or len(plan.files) == files


def test_plan_adds_up_its_bytes() -> None:
    """The bytes of a plan are those of its files."""
    plan = make_plan(inventory_of("healthy"))
    assert plan.bytes == sum(file.size for file in plan.files) == 12386


def test_the_gap_is_named() -> None:
    """A gap says after and before which TXID the chain breaks, and what can be restored all the same."""
    plan = make_plan(inventory_of("gap-tail"))
    assert plan.gap is not None
    assert (plan.gap.after, plan.gap.before, plan.gap.missing) == (0x39, 0x3B, 1)
    assert plan.tip == 0x3B


def test_an_empty_file_is_seen_in_the_plan() -> None:
    """Litestream plans with an empty file; the plan names it."""
    assert [f.size for f in make_plan(inventory_of("zero-byte")).too_small] == [0]


def test_leaving_out_a_corrupt_file() -> None:
    """Without the corrupt files a plan shows what is left to restore from."""
    inventory = inventory_of("zero-byte")
    plan = make_plan(inventory, without={file.key for file in inventory.too_small})
    assert (plan.problem, plan.restorable_txid) == (Problem.NONE, 0x3A)


def test_nothing_listed() -> None:
    """No file at all is its own problem."""
    plan = make_plan(Inventory())
    assert (plan.problem, plan.restorable_txid, plan.bytes, plan.tip) == (Problem.EMPTY, 0, 0, 0)


def test_a_snapshot_that_does_not_start_at_one_is_no_base() -> None:
    """A file of level 9 is only a base when it starts at TXID 1."""
    plan = make_plan(Inventory([entry(9, 5, 9), entry(0, 10)]))
    assert (plan.problem, plan.restorable_txid) == (Problem.NO_BASE, 0)


def test_target_txid_is_met_exactly_or_not_at_all() -> None:
    """A restore to a TXID leaves out files that go beyond it, and is refused when none ends there."""
    inventory = Inventory([entry(9, 1), entry(1, 2, 4), entry(0, 2), entry(0, 5)])
    assert [f.name.max for f in make_plan(inventory, txid=2).files] == [1, 2]
    assert make_plan(inventory, txid=5).problem is Problem.NONE
    plan = make_plan(inventory, txid=3)
    assert (plan.problem, plan.restorable_txid) == (Problem.UNAVAILABLE, 2)


def test_target_moment_is_exclusive() -> None:
    """A restore to a moment takes what was written earlier, by the data time the caller knows."""
    inventory = Inventory([entry(9, 1, modified=10), entry(0, 2, modified=20), entry(0, 3, modified=30)])
    assert make_plan(inventory, before=30).restorable_txid == 2
    assert make_plan(inventory, before=10).problem is Problem.UNAVAILABLE
    assert make_plan(inventory, before=25, created=lambda file: file.modified - 10).restorable_txid == 3


def test_a_restore_has_one_target() -> None:
    """A TXID and a moment at once are a mistake of the caller."""
    with pytest.raises(ValueError, match="not to both"):
        make_plan(Inventory(), txid=1, before=1.0)


def test_a_gap_that_another_level_covers() -> None:
    """A gap within a level is reported as covered when a restore never meets it."""
    inventory = Inventory([entry(9, 1), entry(1, 2, 3), entry(1, 6, 7), entry(2, 2, 6)])
    (gap,) = find_faults(inventory).gaps
    assert (gap.level, gap.after, gap.before, gap.missing, gap.covered) == (1, 3, 6, 2, True)
    assert make_plan(inventory).problem is Problem.NONE


def test_a_gap_that_nothing_covers() -> None:
    """The gap of gap-tail is uncovered."""
    faults = find_faults(inventory_of("gap-tail"))
    assert [(g.level, g.after, g.before) for g in faults.uncovered] == [(0, 0x39, 0x3B)]


def test_healthy_has_no_faults_between_its_files() -> None:
    """No gaps and no overlaps in a replica as Litestream writes it; its levels repeat one range."""
    faults = find_faults(inventory_of("healthy"))
    assert (faults.gaps, faults.overlaps) == ([], [])
    assert faults.duplicates.files == len(list(inventory_of("healthy"))) - len(
        {file.name for file in inventory_of("healthy")}
    )


def test_overlaps_within_a_level() -> None:
    """Files of one level that share TXIDs overlap; a file inside another makes no false gap behind it."""
    faults = find_faults(Inventory([entry(1, 1, 10), entry(1, 3, 5), entry(1, 11, 12)]))
    assert [(str(o.first)[15], str(o.second)[15], o.level) for o in faults.overlaps] == [("1", "3", 1)]
    assert faults.gaps == []


def test_snapshots_overlap_by_nature() -> None:
    """Level 9 has neither gaps nor overlaps."""
    faults = find_faults(Inventory([entry(9, 1, 5), entry(9, 1, 9)]))
    assert (faults.gaps, faults.overlaps) == ([], [])


def test_reach_goes_back_to_the_oldest_linked_base() -> None:
    """Bases count as long as an unbroken chain leads from them to the newest restorable TXID."""
    objects = [entry(9, 1, 4), entry(9, 1, 8), entry(9, 1, 20), *(entry(0, n) for n in range(9, 26))]
    inventory = Inventory(objects)
    reach = find_reach(inventory, make_plan(inventory))
    assert [base.name.max for base in reach.bases] == [8, 20]
    assert reach.oldest is not None
    assert reach.oldest.name.max == 8


def test_reach_of_the_healthy_fixture() -> None:
    """The first file of every level is a base too."""
    inventory = inventory_of("healthy")
    assert [(b.level, b.name.max) for b in find_reach(inventory, make_plan(inventory)).bases] == [
        (9, 1),
        (1, 2),
        (3, 5),
        (2, 5),
    ]


def test_no_reach_without_a_base() -> None:
    """Where nothing can be restored nothing connects."""
    inventory = inventory_of("no-base")
    assert find_reach(inventory, make_plan(inventory)).oldest is None


def test_a_hundred_thousand_files() -> None:
    """A long neglected replica gets a plan of two files, by way of all of them."""
    objects = [entry(0, n) for n in range(1, 100_001)]
    inventory = Inventory([*objects, entry(9, 1, 99_999)])
    plan = make_plan(inventory)
    assert (len(plan.files), plan.restorable_txid) == (2, 100_000)
    assert len(make_plan(Inventory(objects)).files) == 100_000
