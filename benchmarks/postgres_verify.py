"""Reading every byte back: verification of a tier against `restic check --read-data`, on the same data directory.

Both repositories are local, compressed and encrypted. Ours also compares the checksums of all pages, PostgreSQL's own
manifest, and the WAL from start to stop. restic is Debian's; where it is missing only ours is measured.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.support import Report, parser, seconds
from tests.support.postgres import server_folder
from tests.support.postgres_verify import CLOCK, backed_up, cluster_in, streamed
from tests.support.postgres_wal import base_backup, primary, run

from tallykeep.systems.postgres.cluster import Cluster, prepare
from tallykeep.systems.postgres.verifying.verify import verify_backup

_SETTINGS = {"max_wal_size": "8GB", "checkpoint_timeout": "1h"}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--scale", type=int, default=65, help="of pgbench: about 15 MB each (default 65)")
    arguments = options.parse_args()
    report = Report("Verification of PostgreSQL's base backups")
    with server_folder() as place:
        cluster = cluster_in(place / "archive")
        raw = asyncio.run(backup(place, cluster, arguments.scale))
        restic = Restic(place)
        if restic.missing:
            print("restic is missing (apt-get install restic): ours alone is measured")
        else:
            restic.backup(place / "plain")
        ours, theirs = list[float](), list[float]()
        for _ in range(arguments.rounds):
            ours += seconds(lambda: asyncio.run(verify(cluster)), 1)
            theirs += [] if restic.missing else seconds(restic.check, 1)
        if theirs:
            what = f"verify {raw >> 20} MiB"
            report.compare(what, ours, theirs, against="restic check --read-data", goal=2)
        else:
            report.figure(f"verify {raw >> 20} MiB", ours, unit="s")
    report.finish(arguments)


async def backup(place: Path, cluster: Cluster, scale: int) -> int:
    """A pgbench database, in our repository and as a plain copy; bytes of it."""
    await prepare(cluster)
    with primary(place, _SETTINGS) as server, streamed(server, cluster):
        run("pgbench", "-i", "-q", "-s", str(scale), "-d", server.dsn())
        run("pgbench", "-c", "4", "-T", "10", "-n", "-d", server.dsn())
        entry = await backed_up(server, cluster, "monday")
        base_backup(server, place / "plain")
    return entry.raw


async def verify(cluster: Cluster) -> None:
    """Ours: the backup and its WAL, not the rest of the archive's WAL, which restic does not have."""
    repository = await cluster.tier1.repository(CLOCK)
    verdict = await verify_backup(cluster.tier1, repository, repository.backup())
    assert verdict.sound and verdict.pages, verdict


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
