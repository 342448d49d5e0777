"""A busy replica has new files at every listing: what the sweep has found is told of them too."""

from __future__ import annotations

import asyncio
import shutil
import struct
from pathlib import Path

from tests.support.clock import FakeClock
from tests.support.damage import TIP, damaged, key, rewrite

from tallykeep.runtime.state import StateDirectory
from tallykeep.storage.local import LocalStore
from tallykeep.systems.litestream.drilling import list_inventory
from tallykeep.systems.litestream.findings import Findings
from tallykeep.systems.litestream.known import Listed
from tallykeep.systems.litestream.report import Reason, Verdict
from tallykeep.systems.litestream.sweep import Sweep
from tallykeep.systems.litestream.verdict import judge


class Watched:
    """A replica that is listed now and then, and its sweep, running."""

    def __init__(self, case: str, folder: Path) -> None:
        self.folder = damaged(case, folder / case)
        self.store = LocalStore(self.folder)
        self.findings = Findings()
        self.sweep = Sweep(
            "app", self.store, self.findings, StateDirectory.in_memory(), FakeClock(), budget=1 << 30, interval=60.0,
            again=7 * 86400.0,
        )  # fmt: skip

    async def look(self) -> None:
        self.findings.look(Listed.of(await list_inventory(self.store)))

    def hide(self, *names: str) -> None:
        for name in names:
            (self.folder / name).rename(self.folder.with_name(Path(name).name))

    def bring(self, *names: str) -> None:
        for name in names:
            self.folder.with_name(Path(name).name).rename(self.folder / name)


async def test_what_a_listing_brings_is_read_before_it_is_told_of(tmp_path: Path) -> None:
    """The sweep wakes with each listing; who waits for it finds every file of the new plan read."""
    watched, newest = Watched("healthy", tmp_path), key(0, TIP)
    watched.hide(newest)
    running = asyncio.create_task(watched.sweep.run())
    try:
        for _ in range(2):
            await watched.look()
            assert watched.findings.sweep_result == "unknown"
            await watched.findings.read_up(30)
            assert watched.findings.sweep_result == "sound"
            if not (watched.folder / newest).exists():
                watched.bring(newest)
    finally:
        running.cancel()
    assert (watched.findings.plan is not None) and watched.findings.plan.files[-1].key == newest


async def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    """Where the sweep does not come, waiting ends and the result is unknown."""
    watched = Watched("healthy", tmp_path)
    await watched.look()
    await watched.findings.read_up(0.01)
    assert watched.findings.sweep_result == "unknown"


async def test_missing_pages_stay_found_while_new_files_come(tmp_path: Path) -> None:
    """A new file in the plan does not make the verdict forget pages that the plan was seen to lack."""
    watched = Watched("missing-pages", tmp_path)
    await watched.look()
    await watched.sweep.step()
    last, new = (watched.folder / key(0, txid) for txid in (TIP, TIP + 1))
    shutil.copy(last, new)
    header = last.read_bytes()[:100]
    rewrite(new, lambda pages: pages, header[:16] + struct.pack(">QQ", TIP + 1, TIP + 1) + header[32:])
    await watched.look()
    inventory, findings = watched.findings.inventory, watched.findings
    assert inventory is not None
    assert findings.cover is None
    report = judge("app", inventory, findings.evidence(), plan=findings.plan)
    assert report.verdict is Verdict.UNRESTORABLE
    assert report.reasons == (Reason.MISSING_PAGES,)
    assert report.missing_pages == 3
