"""Reading every byte back: verification of a base backup against `restic check --read-data`, on the same files.

Both repositories are local, compressed and encrypted. Ours also compares the checksums of all pages, PostgreSQL's own
manifest, and the WAL from start to stop. Two clusters: pgbench's, whose rows are mostly blanks, and one of hashes,
which do not compress. restic is Debian's; where it is missing only ours is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from benchmarks.support import Report, parser
from tests.support.postgres import server_folder
from tests.support.postgres_verify import CLOCK, backed_up, cluster_in, streamed
from tests.support.postgres_wal import base_backup, primary, run

from tallykeep.demo.postgres import PostgresServer
from tallykeep.systems.postgres.cluster import Cluster, prepare
from tallykeep.systems.postgres.verifying.verify import verify_backup

_SETTINGS = {"max_wal_size": "8GB", "checkpoint_timeout": "1h"}
_AGAINST = "restic check --read-data"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--scale", type=int, default=65, help="of pgbench: about 15 MB each (default 65)")
    options.add_argument("--rows", type=int, default=1_000_000, help="of hashes: about 0.5 KB each (default 1,000,000)")
    arguments = options.parse_args()
    report = Report("Verification of PostgreSQL's base backups")
    measure(report, "pgbench", arguments, lambda server: pgbench(server, arguments.scale))
    measure(report, "hashes", arguments, lambda server: hashes(server, arguments.rows))
    report.finish(arguments)


def pgbench(server: PostgresServer, scale: int) -> None:
    """Tables of pgbench, written to for a while."""
    run("pgbench", "-i", "-q", "-s", str(scale), "-d", server.dsn())
    run("pgbench", "-c", "4", "-T", "10", "-n", "-d", server.dsn())


def hashes(server: PostgresServer, rows: int) -> None:
    """A table that does not compress."""
    body = " || ".join(f"sha512((n * 8 + {number})::text::bytea)" for number in range(8))
    with psycopg.connect(server.dsn(), autocommit=True) as db:
        db.execute(f"CREATE TABLE hashes AS SELECT n, {body} AS body FROM generate_series(1, {rows}) n")


def measure(report: Report, what: str, arguments: argparse.Namespace, fill: Callable[[PostgresServer], None]) -> None:
    """Both sides by turns, on one cluster."""
    with server_folder() as place:
        cluster = cluster_in(place / "archive")
        size = asyncio.run(backup(place, cluster, fill)) >> 20
        restic = Restic(place)
        if not restic.missing:
            restic.backup(place / "plain")
        ours, theirs = list[tuple[float, float]](), list[tuple[float, float]]()
        for _ in range(arguments.rounds):
            ours.append(costs(lambda: asyncio.run(verify(cluster))))
            if not restic.missing:
                theirs.append(costs(restic.check))
    if restic.missing:
        print("restic is missing (apt-get install restic): ours alone is measured")
        report.figure(f"{what}, {size} MiB, wall", [wall for wall, _ in ours], unit="s")
        return
    for number, unit, goal in ((0, "wall", 2), (1, "CPU", None)):
        values = [each[number] for each in ours], [each[number] for each in theirs]
        report.compare(f"{what}, {size} MiB, {unit}", *values, against=_AGAINST, goal=goal)


async def backup(place: Path, cluster: Cluster, fill: Callable[[PostgresServer], None]) -> int:
    """A database in our repository and as a plain copy; bytes of it."""
    await prepare(cluster)
    with primary(place, _SETTINGS) as server, streamed(server, cluster):
        fill(server)
        entry = await backed_up(server, cluster, "monday")
        base_backup(server, place / "plain")
    return entry.raw


async def verify(cluster: Cluster) -> None:
    """Ours: the backup and its WAL, not the rest of the archive's WAL, which restic does not have."""
    repository = await cluster.tier1.repository(CLOCK)
    verdict = await verify_backup(cluster.tier1, repository, repository.backup())
    assert verdict.sound and verdict.pages, verdict


def costs(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock, and of CPU, children's too."""
    wall, before = time.perf_counter(), os.times()
    work()
    after = os.times()
    return time.perf_counter() - wall, sum(after[:4]) - sum(before[:4])


class Restic:
    """The peer."""

    def __init__(self, place: Path) -> None:
        self.missing = shutil.which("restic") is None
        self._environment = {
            **os.environ, "RESTIC_REPOSITORY": str(place / "restic"), "RESTIC_PASSWORD": "password",
            "RESTIC_CACHE_DIR": str(place / "cache"),
        }  # fmt: skip

    def backup(self, folder: Path) -> None:
        self._run("init", "--repository-version", "2")
        self._run("backup", str(folder))

    def check(self) -> None:
        self._run("check", "--read-data")

    def _run(self, *arguments: str) -> None:
        subprocess.run(["restic", "-q", *arguments], env=self._environment, check=True)


if __name__ == "__main__":
    main()
