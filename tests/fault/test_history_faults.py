"""The history file under kill -9 and on a disk that is truly full."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from tests.support.rounds import UTC, total_in

from tallykeep.history.store import HistoryStore

WRITER = """
import sys, pathlib
from zoneinfo import ZoneInfo
from tallykeep.history.store import HistoryStore
from tallykeep.history.deltas import Memory
from tallykeep.history.rounds import Point, Round, Total
store = HistoryStore(pathlib.Path(sys.argv[1]), ZoneInfo("Europe/Berlin"))
names = [b'spend_total{model="%d"}' % n for n in range(300)]
print("ready", flush=True)
number = int(sys.argv[2])
while True:
    moment = 1.79e9 + 60.0 * number
    points = [Point("t", name, number, 1.0) for name in names]
    memories = {"t": [Memory(name, 0.0, number, moment) for name in names]}
    store.append(Round(moment, {"cost": Total(number, 300.0)}, False, "t", points, memories, {"t": 0.0}))
    number += 1
    print(number, flush=True)
"""

FULL = """
import asyncio, pathlib, resource, sys
from zoneinfo import ZoneInfo
from tallykeep.clock import SystemClock
from tallykeep.history.rounds import Point, Round, Total
from tallykeep.history.series import Query
from tallykeep.history import service
from tallykeep.history.service import History

service.PATIENCE = 60.0

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def main():
    path = pathlib.Path(sys.argv[1])
    history = await History.open(path, zone=ZoneInfo("UTC"), clock=SystemClock(), names={"cost": "x"})
    limit(2_000_000)
    failed = 0
    for number in range(60):
        points = [Point("t", b'x{n="%d"}' % n, number, 1.0) for n in range(1000)]
        await history.append(Round(1.79e9 + 60 * number, {"cost": Total(number, 1000.0)}, points=points))
        failed += history.error is not None
    assert history.source == "memory", history.error
    assert history.lifetimes() == {"cost": 60000.0}
    assert len(await history.rows(100)) == 60
    limit(resource.RLIM_INFINITY)
    await history.append(Round(1.79e9 + 3600, {"cost": Total(1, 1.0)}))
    assert history.error is None, history.error
    assert history.held == 0
    await history.close()
    print(failed)

asyncio.run(main())
"""


def test_kill_9_loses_at_most_the_running_round(tmp_path: Path) -> None:
    """Killed at any moment: every acknowledged round is there, whole, in every table alike, and nothing is half."""
    path, seeded, last = tmp_path / "h.db", random.Random(11), 0
    for _ in range(6):
        argv = [sys.executable, "-c", WRITER, str(path), str(last)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(seeded.uniform(0, 0.15))
            writer.kill()
            acknowledged = [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        last = acknowledged[-1] if acknowledged else last
        store = HistoryStore(path, UTC)
        rounds = len(store.rows(10_000))
        assert rounds in (last, last + 1)
        for table in ("point", "quarter", "day", "tracked"):
            assert total_in(store, table) == 300 * rounds
        assert store.lifetimes() == ({"cost": 300.0 * rounds} if rounds else {})
        assert {memory.value for _, kept in store.memories().values() for memory in kept} <= {rounds - 1}
        assert store.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        store.close()
        last = rounds


def test_a_full_disk_and_its_end(tmp_path: Path) -> None:
    """The kernel refuses every byte more: figures go on in memory, and all of it is written when it relents."""
    path = tmp_path / "h.db"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5
    store = HistoryStore(path, UTC)
    assert total_in(store, "quarter") == total_in(store, "day") == 60_000
    assert (len(store.rows(100)), store.lifetimes()) == (61, {"cost": 60_001.0})
    store.close()
