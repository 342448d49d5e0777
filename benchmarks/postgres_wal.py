"""WAL from a real PostgreSQL: our receiver, compressed and encrypted, against pg_receivewal plain and gzip.

Ingest: the same WAL, from slots that keep it, until all of it is on disk. Ours is durable then; pg_receivewal syncs
each segment. Commits: pgbench with one standby that is synchronous, our receiver or pg_receivewal --synchronous.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
from benchmarks.support import Report, parser
from tests.support.postgres import server_folder
from tests.support.postgres_wal import KEY, Receiving, lsn_of, primary, run, wait

from tallykeep.demo.postgres import PostgresServer, program
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.lsn import LSN

_SETTINGS = {"max_wal_size": "8GB", "checkpoint_timeout": "1h", "max_replication_slots": "40", "max_wal_senders": "20"}
_TOLD = re.compile(r"tps = ([0-9.]+)")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--scale", type=int, default=30, help="of pgbench: about 15 MB of WAL each (default 30)")
    options.add_argument("--seconds", type=int, default=4, help="of each run of commits (default 4)")
    arguments = options.parse_args()
    report = Report("WAL of PostgreSQL")
    with server_folder() as place, primary(place, _SETTINGS) as server:
        ingest(server, report, arguments)
        for clients, goal in ((1, 0.75), (8, 0.9)):
            commits(server, report, arguments, clients, goal)
    report.finish(arguments)


def ingest(server: PostgresServer, report: Report, arguments: argparse.Namespace) -> None:
    """Each round has slots of its own, made before the WAL."""
    names = [f"{kind}{number}" for kind in ("ours", "plain", "gzip") for number in range(arguments.rounds)]
    execute(server, *(f"SELECT pg_create_physical_replication_slot('{name}', true)" for name in names))
    run("pgbench", "-i", "-q", "-s", str(arguments.scale), "-d", server.dsn())
    run("pgbench", "-c", "4", "-T", "5", "-n", "-d", server.dsn())
    execute(server, "SELECT pg_switch_wal()")
    end = lsn_of(server)
    taken: dict[str, list[float]] = {"ours": [], "plain": [], "gzip": []}
    spent: dict[str, list[float]] = {"ours": [], "plain": [], "gzip": []}
    for number in range(arguments.rounds):
        for kind in taken:
            seconds, cpu = timed(partial(fetch, server, kind, f"{kind}{number}", end))
            taken[kind].append(seconds)
            spent[kind].append(cpu)
    execute(server, *(f"SELECT pg_drop_replication_slot('{name}')" for name in names))
    report.compare("ingest", taken["ours"], taken["plain"], against="pg_receivewal, plain", goal=0.95)
    report.compare("ingest", taken["ours"], taken["gzip"], against="pg_receivewal, gzip:1", goal=2)
    report.compare("ingest, CPU", spent["ours"], spent["plain"], against="pg_receivewal, plain")
    report.compare("ingest, CPU", spent["ours"], spent["gzip"], against="pg_receivewal, gzip:1")


def fetch(server: PostgresServer, kind: str, slot: str, end: int, folder: Path) -> None:
    """All WAL up to `end`."""
    if kind != "ours":
        extra = ["--compress=gzip:1"] if kind == "gzip" else []
        subprocess.run([*receivewal(server, slot, folder), f"--endpos={LSN(end - 1)}", *extra], check=True)
        return
    with Receiving(server.dsn(), folder / "main", Cipher.from_key(KEY), slot) as receiving:
        receiving.until(lambda archiver: archiver.durable >= end, 300)


def commits(
    server: PostgresServer, report: Report, arguments: argparse.Namespace, clients: int, goal: float
) -> None:  # fmt: skip
    """Commits a second, each acknowledged by the one standby there is."""
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(arguments.rounds):
        for kind, measures in rates.items():
            folder = Path(tempfile.mkdtemp())
            execute(server, f"SELECT pg_create_physical_replication_slot('{kind}', true)")
            standby = process if kind == "ours" else synchronous
            with standby(server, kind, folder):
                measures.append(rate(server, clients, arguments.seconds))
            shutil.rmtree(folder)
            wait(lambda: not rows(server, "SELECT 1 FROM pg_replication_slots WHERE active"))
            execute(server, f"SELECT pg_drop_replication_slot('{kind}')")
    report.compare(
        f"synchronous commits, {clients} client{'s' * (clients > 1)}", rates["ours"], rates["theirs"], unit="/s",
        against="pg_receivewal --synchronous", goal=goal, more_is_better=True,
    )  # fmt: skip


def rate(server: PostgresServer, clients: int, seconds: int) -> float:
    """Transactions a second of pgbench, with a synchronous standby."""
    wait(lambda: bool(rows(server, "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'")))
    execute(server, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
    wait(lambda: rows(server, "SELECT sync_state FROM pg_stat_replication") == [("sync",)])
    said = run("pgbench", "-c", str(clients), "-T", str(seconds), "-N", "-n", "-d", server.dsn())
    execute(server, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    found = _TOLD.search(said)
    assert found, said
    return float(found[1])


@contextmanager
def process(server: PostgresServer, slot: str, folder: Path) -> Iterator[None]:
    """Our receiver, in a process of its own."""
    argv = [sys.executable, "-m", "tests.support.wal_receiver", server.dsn(), str(folder / "main"), slot]
    yield from ended(subprocess.Popen(argv))


@contextmanager
def synchronous(server: PostgresServer, slot: str, folder: Path) -> Iterator[None]:
    """pg_receivewal, telling what is durable at once."""
    yield from ended(subprocess.Popen([*receivewal(server, slot, folder), "--synchronous"]))


def ended(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Until the block ends."""
    try:
        yield
    finally:
        child.kill()
        child.wait()


def receivewal(server: PostgresServer, slot: str, folder: Path) -> list[str]:
    return [str(program("pg_receivewal")), f"--dbname={server.dsn()}", f"--directory={folder}", f"--slot={slot}",
            "--no-loop"]  # fmt: skip


def timed(work: Callable[[Path], None]) -> tuple[float, float]:
    """Seconds in a new folder, and of them the CPU's, of this process and those that it waited for."""
    folder = Path(tempfile.mkdtemp())
    start, before = time.perf_counter(), os.times()
    work(folder)
    taken, after = time.perf_counter() - start, os.times()
    shutil.rmtree(folder)
    return taken, sum(after[:4]) - sum(before[:4])


def execute(server: PostgresServer, *commands: str) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for command in commands:
            connection.execute(command)


def rows(server: PostgresServer, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.dsn()) as connection:
        return connection.execute(query).fetchall()


if __name__ == "__main__":
    main()
