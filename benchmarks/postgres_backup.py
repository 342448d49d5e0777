"""Full base backups of a real PostgreSQL: ours, encrypted, against pgBackRest and restic, on the same cluster.

A pgbench cluster of PostgreSQL 15, which Debian's pgBackRest knows, on local disk. Ours asks for everything over the
replication protocol, by the server's Unix socket, and has to be told nothing of the data folder; the peers read it
themselves. All of them compress
(pgBackRest and ours zstd 1, restic its own default); restic and ours encrypt, pgBackRest is measured with encryption
and without. Nobody keeps pg_wal. Each round begins with an empty repository. CPU time is told as well, that of the
server that sends to us included: on a machine that is busy otherwise it says more than the clock on the wall.
Needs tools/postgres-majors, pgbackrest and restic.
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

from benchmarks.support import Report, parser
from tests.support.postgres import server_folder
from tests.support.postgres_majors import MajorServer
from tests.support.postgres_wal import KEY, run

from tallykeep.clock import SystemClock
from tallykeep.demo.postgres import SUPERUSER, PostgresServer
from tallykeep.storage.local import LocalStore
from tallykeep.systems.postgres.basebackup.backup import BackupRequest, back_up
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.repository.repository import Repository

GOAL = 1 / 0.65
_MAJOR = 15
_TICKS = os.sysconf("SC_CLK_TCK")
_SETTINGS = {"max_wal_size": "8GB", "checkpoint_timeout": "1h"}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--scale", type=int, default=80, help="of pgbench: about 15 MB each (default 80)")
    arguments = options.parse_args()
    report = Report("Base backups of PostgreSQL")
    with server_folder() as place:
        settings = {**_SETTINGS, "unix_socket_directories": str(place)}
        place.chmod(0o777)
        with MajorServer(_MAJOR, place / "primary", settings) as server:
            run("pgbench", "-i", "-q", "-s", str(arguments.scale), "-d", server.dsn())
            run("psql", "-d", server.dsn(), "-c", "CHECKPOINT")
            measure(server, place, report, arguments)
    report.finish(arguments)


def measure(server: PostgresServer, place: Path, report: Report, arguments: argparse.Namespace) -> None:
    """Every side once in each round."""
    sides: dict[str, Callable[[Path], None]] = {
        "ours": lambda folder: ours(server, place, folder),
        "pgBackRest, zst 1, 2 processes": lambda folder: pgbackrest(server, place, folder),
        "the same, encrypted": lambda folder: pgbackrest(server, place, folder, "--repo1-cipher-type=aes-256-cbc"),
        "restic": lambda folder: restic(server, folder),
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    stored: dict[str, int] = {}
    for _ in range(arguments.rounds):
        for name, side in sides.items():
            folder = place / "repository"
            folder.mkdir()
            start, before = time.perf_counter(), cpu_seconds(server)
            side(folder)
            taken[name].append(time.perf_counter() - start)
            time.sleep(0.2)  # until the server has counted the process that sent to us
            cpu[name].append(cpu_seconds(server) - before)
            stored[name] = size(folder)
            shutil.rmtree(folder)
    wal = size(server.data / "pg_wal")
    report.figure("the data folder without pg_wal", [(size(server.data) - wal) / 1e6], unit="MB")
    for name, bytes_stored in stored.items():
        report.figure(f"stored by {name}", [bytes_stored / 1e6], unit="MB")
    for name in sides:
        if name != "ours":
            goal = None if "encrypted" in name else GOAL
            report.compare("full backup", taken["ours"], taken[name], against=name, goal=goal)
            report.compare("the same, CPU time", cpu["ours"], cpu[name], against=name)


def cpu_seconds(server: PostgresServer) -> float:
    """Of this process and its children, and of the server's processes that have ended."""
    postmaster = (server.data / "postmaster.pid").read_text().split()[0]
    ended = Path(f"/proc/{postmaster}/stat").read_text().rpartition(")")[2].split()[13:15]
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system + sum(map(int, ended)) / _TICKS


def ours(server: PostgresServer, place: Path, folder: Path) -> None:
    """As `tallykeep postgres backup` takes it, encrypted; without what comes after it."""
    dsn = f"host={place} port={server.port} user={SUPERUSER} dbname=postgres"

    async def work() -> None:
        repository = await Repository.open(LocalStore(folder), SystemClock(), Cipher.from_key(KEY))
        await repository.chain.take_over()
        await back_up(BackupRequest(dsn, "main"), repository, SystemClock())

    asyncio.run(work())


def pgbackrest(server: PostgresServer, place: Path, folder: Path, *more: str) -> None:
    """A stanza and its first full backup, without the WAL archive that it would check."""
    options = [
        "--stanza=main", f"--pg1-path={server.data}", f"--pg1-port={server.port}", f"--pg1-user={SUPERUSER}",
        f"--pg1-socket-path={place}", f"--repo1-path={folder}", f"--log-path={folder}", f"--lock-path={folder}",
        "--log-level-console=off", "--log-level-file=off", *more,
    ]  # fmt: skip
    environment = {**os.environ, "PGBACKREST_REPO1_CIPHER_PASS": KEY.hex()} if more else dict(os.environ)
    backup = [
        "--type=full", "--start-fast", "--no-archive-check", "--compress-type=zst", "--compress-level=1",
        "--process-max=2", "--repo1-retention-full=1", "backup",
    ]  # fmt: skip
    for words in (["--no-online", "stanza-create"], backup):
        subprocess.run(["pgbackrest", *options, *words], check=True, env=environment)


def restic(server: PostgresServer, folder: Path) -> None:
    """A repository and its first snapshot."""
    environment = {**os.environ, "RESTIC_PASSWORD": "secret", "RESTIC_CACHE_DIR": str(folder / "cache")}
    for words in (["init"], ["backup", "--exclude=postmaster.pid", "--exclude=pg_wal/*", str(server.data)]):
        argv = ["restic", "-q", "-r", str(folder / "restic"), *words]
        subprocess.run(argv, check=True, env=environment, stdout=subprocess.DEVNULL)


def size(folder: Path) -> int:
    """Bytes of its files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
