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
from typing import NamedTuple

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
    for name, theirs in taken.items():
        if name != "ours":
            goal = GOAL if name == "restic restore" else None
            report.compare(what, taken["ours"].wall, theirs.wall, against=name, goal=goal)
            report.compare(f"{what}, CPU", taken["ours"].cpu, theirs.cpu, against=name)
    if len(sides) == 1:
        report.figure(what, taken["ours"].wall, unit="s")
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


class Taken(NamedTuple):
    """Seconds of each round."""

    wall: list[float]
    cpu: list[float]  # user and system, of all processes


def measure(place: Path, sides: dict[str, Callable[[Path], None]], rounds: int) -> dict[str, Taken]:
    """Each side, one after another in each round; everything is on disk before each."""
    taken = {name: Taken([], []) for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            folder = place / "again"
            os.sync()
            start, used = time.perf_counter(), cpu()
            side(folder)
            taken[name].wall.append(time.perf_counter() - start)
            taken[name].cpu.append(cpu() - used)
            shutil.rmtree(folder)
    return taken


def cpu() -> float:
    """CPU seconds of children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
