"""Restoring a base backup: `tallykeep postgres restore` against `restic restore`, of the same data directory.

Both repositories are local, compressed and encrypted; both sides are processes, their start included. Ours proves
every chunk, plans the recovery and has everything on disk when it ends; restic leaves that to the kernel, so it is
measured with `sync` after it as well. Rounds take turns. restic is Debian's; without it ours alone is measured.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.support import Report, parser
from tests.support.postgres import server_folder
from tests.support.postgres_restore import Kept
from tests.support.postgres_wal import base_backup, primary, run

from tallykeep.systems.postgres import keyfile

GOAL = 1 / 0.8
_SETTINGS = {"max_wal_size": "8GB", "checkpoint_timeout": "1h"}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--scale", type=int, default=65, help="of pgbench: about 15 MB each (default 65)")
    arguments = options.parse_args()
    report = Report("Restore of a base backup of PostgreSQL")
    with server_folder() as place:
        kept = Kept(place, key_file=place / "recovery.key")
        assert kept.key_file is not None
        keyfile.write(kept.key_file, keyfile.generate())
        raw = asyncio.run(backup(kept, arguments.scale))
        sides: dict[str, Callable[[Path], None]] = {"ours": lambda folder: ours(kept, folder)}
        if shutil.which("restic") is None:
            print("restic is missing (apt-get install restic): ours alone is measured")
        else:
            restic(place, "init", "--repository-version", "2")
            restic(place, "backup", str(place / "plain"))
            sides["restic restore"] = lambda folder: restic(place, "restore", "latest", "--target", str(folder))
            sides["restic restore, then sync"] = lambda folder: synced(place, folder)
        taken = measure(place, sides, arguments.rounds)
    what = f"restore {raw >> 20} MiB"
    for name, seconds in taken.items():
        if name != "ours":
            report.compare(what, taken["ours"], seconds, against=name, goal=GOAL if name == "restic restore" else None)
    if len(sides) == 1:
        report.figure(what, taken["ours"], unit="s")
    report.figure("largest process", [resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024], unit="MiB")
    report.finish(arguments)


async def backup(kept: Kept, scale: int) -> int:
    """A pgbench database, in our repository and as a plain copy; bytes of it."""
    with primary(kept.place, _SETTINGS) as server:
        run("pgbench", "-i", "-q", "-s", str(scale), "-d", server.dsn())
        run("pgbench", "-c", "4", "-T", "10", "-n", "-d", server.dsn())
        with kept.receiving(server):
            entry = await kept.back_up(server, "only")
        base_backup(server, kept.place / "plain")
    return entry.raw


def measure(place: Path, sides: dict[str, Callable[[Path], None]], rounds: int) -> dict[str, list[float]]:
    """Wall seconds of each side, one after another in each round; the disk is quiet before each."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            folder = place / "again"
            os.sync()
            start = time.perf_counter()
            side(folder)
            taken[name].append(time.perf_counter() - start)
            shutil.rmtree(folder)
    return taken


def ours(kept: Kept, folder: Path) -> None:
    """The command."""
    argv = [sys.executable, "-m", "tallykeep", "postgres", "restore", "--config", str(kept.config), "--to", str(folder)]
    subprocess.run([*argv, "-q"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def restic(place: Path, *words: str) -> None:
    """One of restic's commands."""
    environment = {**os.environ, "RESTIC_PASSWORD": "secret", "RESTIC_CACHE_DIR": str(place / "cache")}
    argv = ["restic", "-q", "-r", str(place / "restic"), *words]
    subprocess.run(argv, check=True, env=environment, stdout=subprocess.DEVNULL)


def synced(place: Path, folder: Path) -> None:
    """Durable, as ours is."""
    restic(place, "restore", "latest", "--target", str(folder))
    subprocess.run(["sync", "-f", str(folder)], check=True)


if __name__ == "__main__":
    main()
