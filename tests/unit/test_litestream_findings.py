"""What is learned of a replica beyond its listing, and how long it holds."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.damage import damaged, key
from tests.support.replicas import listing, replica

from tallykeep.systems.litestream.drill_result import DrillResult
from tallykeep.systems.litestream.findings import Findings
from tallykeep.systems.litestream.inventory import Inventory
from tallykeep.systems.litestream.known import Listed
from tallykeep.systems.litestream.report import Reason, Report, Verdict
from tallykeep.systems.litestream.verdict import judge

BASE = key(9, 1, 1)


def looking_at(root: Path) -> Findings:
    findings = Findings()
    findings.look(Listed.of(Inventory(listing(root))))
    return findings


def verdict(findings: Findings) -> Report:
    assert findings.inventory is not None
    return judge("app", findings.inventory, findings.evidence(), plan=findings.plan)


def test_nothing_known() -> None:
    """Before anything was read the verdict rests on the listing, and the sweep's result is unknown."""
    findings = looking_at(replica("truncated"))
    assert findings.evidence().empty
    assert findings.sweep_result == "unknown"
    assert verdict(findings).verdict is Verdict.RESTORABLE


def test_a_drill_that_meets_a_corrupt_file() -> None:
    """What a drill finds in a file counts at once, also where no sweep runs."""
    findings = looking_at(replica("truncated"))
    findings.drilled(DrillResult("failed", "decode", "cut", base=BASE, corrupt={key(3, 6, 0x23): "truncated"}))
    report = verdict(findings)
    assert (report.verdict, report.reasons) == (Verdict.UNRESTORABLE, (Reason.CORRUPT,))


def test_a_drill_that_misses_pages() -> None:
    """Missing pages that a drill meets count while restores start from the same base."""
    findings = looking_at(replica("healthy"))
    findings.drilled(DrillResult("failed", "pages", "holes", base=BASE, missing_pages=3))
    report = verdict(findings)
    assert (report.verdict, report.missing_pages, report.restorable_txid) == (Verdict.UNRESTORABLE, 3, None)
    findings.drilled(DrillResult("ok", base=BASE))
    assert verdict(findings).verdict is Verdict.RESTORABLE


def test_malformed_until_a_new_base(tmp_path: Path) -> None:
    """A malformed image counts until a drill succeeds, or a new snapshot becomes the base of restores."""
    root = damaged("healthy", tmp_path / "r")
    findings = looking_at(root)
    findings.drilled(DrillResult("failed", "integrity", "SQLite: malformed", base=BASE))
    assert verdict(findings).reasons == (Reason.MALFORMED_DATABASE,)
    findings.drilled(DrillResult("inconclusive", "fetch", "no answer"))
    assert verdict(findings).reasons == (Reason.MALFORMED_DATABASE,)
    findings.drilled(DrillResult("ok", base=BASE))
    assert verdict(findings).reasons == ()
    findings.drilled(DrillResult("failed", "compare", "3 pages differ", base=BASE))
    assert verdict(findings).restorable_txid is None
    (root / key(9, 1, 2)).write_bytes((root / BASE).read_bytes())
    findings.look(Listed.of(Inventory(listing(root))))
    assert verdict(findings).reasons == ()


def test_an_object_written_anew_is_unknown_again(tmp_path: Path) -> None:
    """A finding belongs to one state of an object: another size or time, and it is gone."""
    root = damaged("healthy", tmp_path / "r")
    findings = looking_at(root)
    findings.drilled(DrillResult("failed", "decode", base=BASE, corrupt={BASE: "checksum"}))
    assert findings.sweep_result == "corrupt"
    os.utime(root / BASE, (1, 1))
    findings.look(Listed.of(Inventory(listing(root))))
    assert findings.sweep_result == "unknown"
    assert not findings.read
