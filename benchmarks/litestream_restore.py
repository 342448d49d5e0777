"""Verifying, restoring and drilling a replica, against `litestream restore`, on the same replica in one run.

A database of about 60 MB is written and changed under a real Litestream with short levels; its replica is read
from the folder and, copied, from a real S3 (SeaweedFS). The peer is a process a round, and so is our drill, its
start included; verify and restore run as they do in the daemon and in the command, in a process already running.
Verify writes nothing, so its ratio says what the question "is this replica sound?" costs either way, not how fast
the same work is done. Rounds take turns, since the load of a shared machine drifts by more than the check costs;
the plan is printed, since it differs from run to run with the moment of the last compaction.
"""

from __future__ import annotations

import argparse
import asyncio
import filecmp
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from benchmarks.support import Report, parser, seconds

from tallykeep.demo.litestream import LitestreamDaemon, run_litestream
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.storage.store import Store
from tallykeep.systems.litestream.drill import run_drill
from tallykeep.systems.litestream.drill_request import DrillRequest
from tallykeep.systems.litestream.drilling import list_inventory
from tallykeep.systems.litestream.plan import Plan, make_plan
from tallykeep.systems.litestream.restore import apply
from tallykeep.systems.litestream.targets import Target, parse_target
from tallykeep.systems.litestream.verifying import opener, verify_all

ROWS_A_MB = 890  # with both indexes
STEPS = 24  # of a quarter of a second each


def main() -> None:
    """Print the ratios."""
    made = parser(__doc__)
    made.add_argument("--megabytes", type=int, default=60, help="size of the database (default 60)")
    arguments = made.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        replicate(folder, arguments.megabytes)
        report = Report(f"Verify, restore and drill against litestream restore: {describe(folder)}")
        compare(report, arguments, folder, "file", f"file://{folder / 'replica'}", {})
        server = stack.enter_context(SeaweedFS(folder))
        url, environ = copy_to_s3(folder / "replica" / "ltx", server)
        compare(report, arguments, folder, "S3", url, environ)
    report.finish(arguments)


def replicate(folder: Path, megabytes: int) -> None:
    """A database with a history of updates, and its replica on four levels."""
    levels = "levels: [{interval: 2s}, {interval: 5s}]\nsnapshot: {interval: 1h}\n"
    target = f"dbs: [{{path: {folder / 'app.db'}, replica: {{type: file, path: {folder / 'replica'}}}}}]\n"
    with closing(sqlite3.connect(folder / "app.db", isolation_level=None)) as database:
        rows = fill(database, megabytes * ROWS_A_MB)
        with LitestreamDaemon(folder / "daemon", levels + target):
            time.sleep(3)
            for _ in range(STEPS):
                update(database, rows)
                time.sleep(0.25)
            time.sleep(4)


def fill(database: sqlite3.Connection, rows: int) -> int:
    """Rows of prose and of noise: they compress to about half."""
    database.execute("PRAGMA journal_mode=wal")
    database.execute("PRAGMA wal_autocheckpoint=0")
    database.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, at REAL, text TEXT, payload BLOB)")
    database.execute("CREATE INDEX by_time ON events (at)")  # without indexes integrity_check has next to nothing to do
    database.execute("CREATE INDEX by_text ON events (substr(text, 1, 60), at)")
    chance = random.Random(1)
    database.execute("BEGIN")
    database.executemany("INSERT INTO events (at, text, payload) VALUES (?, ?, ?)", (row(chance) for _ in range(rows)))
    database.execute("COMMIT")
    return rows


def row(chance: random.Random) -> tuple[float, str, bytes]:
    """One event."""
    words = " ".join(chance.choices(("request", "user", "accepted", "timeout", "cache", "retry", "queue"), k=70))
    return chance.random(), words, chance.randbytes(350)


def update(database: sqlite3.Connection, rows: int) -> None:
    """Change rows all over the database."""
    chance = random.Random(time.monotonic_ns())
    database.execute("BEGIN")
    database.executemany(
        "UPDATE events SET at = ?, text = ?, payload = ? WHERE id = ?",
        ((*row(chance), chance.randrange(1, rows)) for _ in range(200)),
    )
    database.execute("COMMIT")


def copy_to_s3(ltx: Path, server: SeaweedFS) -> tuple[str, Mapping[str, str]]:
    """The same files in the layout of S3; the URL of the replica and the credentials for it."""
    server.create_bucket("bench")
    files = {f"{int(path.parent.name):04x}/{path.name}": path for path in ltx.rglob("*.ltx")}
    asyncio.run(_upload(server.s3_store("bench", "app"), files))
    environ = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    return f"s3://bench/app?endpoint={server.endpoint}&region=us-east-1&forcePathStyle=true", environ


async def _upload(store: Store, files: Mapping[str, Path]) -> None:
    for key, path in files.items():
        await store.create(key, path.read_bytes())
    await store.close()


def compare(
    report: Report, arguments: argparse.Namespace, folder: Path, kind: str, url: str, environ: Mapping[str, str]
) -> None:
    """Three rows: verify, restore, drill."""
    target = parse_target(url, environ)
    ours, theirs = folder / "ours.db", folder / "theirs.db"
    peer = partial(restore_by_litestream, url, environ, theirs)
    plain, full, verified, restored, drilled = take_turns(
        arguments.rounds,
        partial(peer, "none"),
        partial(peer, "full"),
        partial(run, verify, target),
        partial(run, partial(restore, ours), target),
        partial(drill, target, folder / "scratch"),
    )
    if not filecmp.cmp(ours, theirs, shallow=False):
        raise SystemExit(f"{kind}: the restored bytes differ from Litestream's")
    report.compare(f"verify the plan, {kind}", verified, full, against="-integrity-check full", goal=2.0)
    report.compare(f"restore, {kind}", restored, plain, against="without check")
    report.compare(f"drill with integrity_check, {kind}", drilled, full, against="-integrity-check full", goal=2.0)


def take_turns(rounds: int, *sides: Callable[[], object]) -> list[list[float]]:
    """Wall seconds of each side, one call of each a round, in changing order; a first round is not counted."""
    taken: list[list[float]] = [[] for _ in sides]
    for turn in range(rounds + 1):
        order = range(len(sides)) if turn % 2 else reversed(range(len(sides)))
        for side in order:
            wall = seconds(sides[side], 1)
            if turn:
                taken[side] += wall
    return taken


def describe(folder: Path) -> str:
    """What a restore has to do on this replica."""

    async def planned() -> Plan:
        return make_plan(await list_inventory(parse_target(f"file://{folder / 'replica'}", {}).open()))

    plan, size = asyncio.run(planned()), (folder / "app.db").stat().st_size
    return f"database of {size / 1e6:.0f} MB, plan of {len(plan.files)} files and {plan.bytes / 1e6:.0f} MB"


def restore_by_litestream(url: str, environ: Mapping[str, str], target: Path, check: str) -> None:
    """The peer."""
    target.unlink(missing_ok=True)
    done = run_litestream("restore", "-integrity-check", check, "-o", target, url, env=environ, timeout=600)
    if done.returncode:
        raise SystemExit(done.stderr)


def run(what: Callable[[Store, Plan], Coroutine[None, None, None]], target: Target) -> None:
    """List, plan, and do `what`."""

    async def all_of_it() -> None:
        store = target.open()
        try:
            await what(store, make_plan(await list_inventory(store)))
        finally:
            await store.close()

    asyncio.run(all_of_it())


async def verify(store: Store, plan: Plan) -> None:
    """Read and decode every file of the plan."""
    async for checked in verify_all(store, plan.files):
        if not checked.sound:
            raise SystemExit(f"{checked.file.key}: {checked.reason}")


async def restore(ours: Path, store: Store, plan: Plan) -> None:
    """Into a file, and onto the disk."""
    await apply(plan.files, opener(store), ours, overwrite=True)


def drill(target: Target, scratch: Path) -> None:
    """As `tallykeep run litestream` does it: in a process of its own."""
    result = asyncio.run(run_drill(DrillRequest(target, scratch, full=True), timeout=600))
    if not result.ok:
        raise SystemExit(f"the drill ended {result.result} at {result.stage}: {result.message}")


if __name__ == "__main__":
    main()
