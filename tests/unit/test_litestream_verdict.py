"""The verdict, from names and sizes alone and with what reading the files adds."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.damage import DAMAGES, damaged, key
from tests.support.replicas import CASES, listing

from tallykeep.systems.litestream.inventory import Inventory
from tallykeep.systems.litestream.report import Report
from tallykeep.systems.litestream.verdict import judge

# case: verdict, reasons, restorable TXID, exit status
BY_LISTING: dict[str, tuple[str, list[str], int | None, int]] = {
    "healthy": ("restorable", [], 0x3B, 0),
    "gap-tail": ("unrestorable", ["gap"], 0x39, 1),
    "truncated": ("restorable", [], 0x3B, 0),
    "flip-page": ("restorable", [], 0x3B, 0),
    "zero-byte": ("unrestorable", ["corrupt"], 0x3A, 1),
    "renamed": ("restorable", [], 0x3C, 0),
    "stale": ("restorable", [], 0x30, 0),
    "no-base": ("unrestorable", ["no_base"], None, 1),
    "db-replaced": ("restorable", [], 0xC, 0),
    "gap-middle": ("unrestorable", ["gap"], 0x26, 1),
    "gap-covered": ("restorable", [], 0x3B, 0),
    "flip-reserved": ("restorable", [], 0x3B, 0),
    "flip-timestamp": ("restorable", [], 0x3B, 0),
    "flip-index": ("restorable", [], 0x3B, 0),
    "flip-unused": ("restorable", [], 0x3B, 0),
    "flip-snapshot": ("restorable", [], 0x3B, 0),
    "overlap": ("restorable", [], 0x3B, 0),
    "no-snapshot": ("restorable", [], 0x3B, 0),
    "strays": ("restorable", [], 0x3B, 0),
    "empty": ("unrestorable", ["empty"], None, 1),
    "missing-pages": ("restorable", [], 0x3B, 0),
    "page-size": ("restorable", [], 0x3B, 0),
    "v3-only": ("unknown", [], None, 3),
}


def judged(root: Path) -> Report:
    return judge("test", Inventory(listing(root)))


@pytest.mark.parametrize("case", BY_LISTING)
def test_by_listing(case: str, tmp_path: Path) -> None:
    """What names and sizes can tell, they tell; what they cannot, they do not claim."""
    report = judged(damaged(case, tmp_path / case))
    found = (str(report.verdict), [str(r) for r in report.reasons], report.restorable_txid, report.exit_status)
    assert found == BY_LISTING[case]


def test_every_case_is_judged() -> None:
    """Fixtures and synthetic damages all have an expected verdict."""
    assert set(BY_LISTING) == {*CASES, *DAMAGES}


def test_size_tells_an_empty_file(tmp_path: Path) -> None:
    """An empty newest L0 is corrupt and in the plan, and no way leads around it but to the TXID before."""
    report = judged(damaged("zero-byte", tmp_path / "r"))
    (file,) = report.corrupt_files
    assert file == (key(0, 0x3B), 0, "too_small", True)


def test_healthy_figures(tmp_path: Path) -> None:
    """The plan of the healthy replica has seven files, and the JSON has them with plain values."""
    found = judged(damaged("healthy", tmp_path / "r")).as_json()
    assert (found["plan_files"], found["restorable_txid"], found["corrupt_files"]) == (7, f"{0x3B:016x}", [])
    assert found["layout"] == "s3"


def test_gap_covered_is_named(tmp_path: Path) -> None:
    """A gap that another level covers is listed as covered and is no reason."""
    (gap,) = judged(damaged("gap-covered", tmp_path / "r")).gaps
    assert (gap.level, gap.after, gap.before, gap.covered) == (1, 0x29, 0x2D, True)
