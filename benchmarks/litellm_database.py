"""LiteLLM's database: what a refresh costs it, ours against the public exporter's statements, on the same rows.

The peer's statements are worded here after what the exporter does: thirty days joined to users, teams and
organizations and grouped by all of them, thirty days by key, a subquery for each key with a budget, and the small
ones. It runs them every 15 s; so do we. Blocks are those PostgreSQL counts for each side's own role. The index on
(api_key, "startTime"), which LiteLLM builds since August 2026, is there: without it the peer takes minutes.

python -m benchmarks.litellm_database [--rows 1000000] [--rounds 3] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psycopg
from benchmarks import support
from benchmarks.idle import memory

from tallykeep.clock import SystemClock
from tallykeep.demo import litellm_schema
from tallykeep.demo.litellm_traffic import Traffic
from tallykeep.demo.litellm_world import LARGE, Size
from tallykeep.demo.postgres import PostgresServer
from tallykeep.exposition.page import Format, Renderer
from tallykeep.metrics import Book, Catalogue, Sample, Snapshot
from tallykeep.runtime.collecting import collect_rarely
from tallykeep.runtime.processes import free_port
from tallykeep.systems.litellm.collector import DatabaseCollector, Pace
from tallykeep.systems.litellm.families import FAMILIES
from tallykeep.systems.litellm.figures import windows
from tallykeep.systems.litellm.opening import connected
from tallykeep.systems.litellm.settings import DatabaseSettings, LitellmSettings

DAY = 86_400
INTERVAL = 15  # seconds, of both
STEADY = 9  # refreshes of ours for each round of the peer
WIDE = Size(organizations=10, teams=60, users=1000, keys=1800, customers=500)  # gives 50,000 series and more
WIDE_ROWS = 250_000
PEER_ROLE, OUR_ROLE = "exporter", "tallykeep"
TABLES = (
    "SpendLogs", "VerificationToken", "UserTable", "TeamTable", "OrganizationTable", "TeamMembership",
    "OrganizationMembership", "EndUserTable", "BudgetTable", "ProxyModelTable",
)  # fmt: skip

_LAST = "l.\"startTime\" >= now() - interval '1 minute'"
_MONTH = "l.\"startTime\" >= now() - interval '30 days'"
PEER = {
    "spend": f"""
        SELECT l.model, l."user", u.user_alias, l.team_id, t.team_alias, o.organization_id, o.organization_alias,
               sum(l.spend), sum(l.total_tokens), sum(l.prompt_tokens), sum(l.completion_tokens), count(*),
               sum(CASE WHEN l.cache_hit = 'true' THEN 1 ELSE 0 END),
               sum(CASE WHEN l.cache_hit = 'false' THEN 1 ELSE 0 END)
        FROM "LiteLLM_SpendLogs" l
        LEFT JOIN "LiteLLM_UserTable" u ON l."user" = u.user_id
        LEFT JOIN "LiteLLM_TeamTable" t ON l.team_id = t.team_id
        LEFT JOIN "LiteLLM_OrganizationTable" o ON t.organization_id = o.organization_id
        WHERE {_MONTH} GROUP BY 1, 2, 3, 4, 5, 6, 7""",
    "rates": f"""
        SELECT l.model, 'user', l."user", u.user_alias, sum(l.total_tokens), count(*) FROM "LiteLLM_SpendLogs" l
        JOIN "LiteLLM_UserTable" u ON l."user" = u.user_id WHERE {_LAST} GROUP BY 1, 3, 4
        UNION ALL
        SELECT l.model, 'team', l.team_id, t.team_alias, sum(l.total_tokens), count(*) FROM "LiteLLM_SpendLogs" l
        JOIN "LiteLLM_TeamTable" t ON l.team_id = t.team_id WHERE {_LAST} GROUP BY 1, 3, 4
        UNION ALL
        SELECT l.model, 'organization', o.organization_id, o.organization_alias, sum(l.total_tokens), count(*)
        FROM "LiteLLM_SpendLogs" l JOIN "LiteLLM_TeamTable" t ON l.team_id = t.team_id
        JOIN "LiteLLM_OrganizationTable" o ON t.organization_id = o.organization_id WHERE {_LAST} GROUP BY 1, 3, 4""",
    "limits": """
        SELECT 'user', u.user_id, u.user_alias, u.tpm_limit, u.rpm_limit, u.max_parallel_requests, e.blocked
        FROM "LiteLLM_UserTable" u LEFT JOIN "LiteLLM_EndUserTable" e ON u.user_id = e.user_id
        UNION ALL
        SELECT 'team', t.team_id, t.team_alias, t.tpm_limit, t.rpm_limit, t.max_parallel_requests, t.blocked
        FROM "LiteLLM_TeamTable" t""",
    "budgets": """
        SELECT 'user', e.user_id, e.alias, b.max_budget, b.soft_budget, b.budget_reset_at, e.spend
        FROM "LiteLLM_BudgetTable" b JOIN "LiteLLM_EndUserTable" e ON e.budget_id = b.budget_id
        UNION ALL
        SELECT 'team', t.team_id, t.team_alias, b.max_budget, b.soft_budget, b.budget_reset_at, t.spend
        FROM "LiteLLM_BudgetTable" b JOIN "LiteLLM_TeamMembership" m ON m.budget_id = b.budget_id
        JOIN "LiteLLM_TeamTable" t ON t.team_id = m.team_id
        UNION ALL
        SELECT 'organization', o.organization_id, o.organization_alias, b.max_budget, b.soft_budget,
               b.budget_reset_at, o.spend
        FROM "LiteLLM_BudgetTable" b JOIN "LiteLLM_OrganizationMembership" m ON m.budget_id = b.budget_id
        JOIN "LiteLLM_OrganizationTable" o ON o.organization_id = m.organization_id""",
    "keys": """
        SELECT k.key_name, k.key_alias, k.expires, k.spend FROM "LiteLLM_VerificationToken" k""",
    "key spend": f"""
        SELECT k.key_name, k.key_alias, sum(l.spend) FROM "LiteLLM_SpendLogs" l
        LEFT JOIN "LiteLLM_VerificationToken" k ON l.api_key = k.token WHERE {_MONTH} GROUP BY 1, 2""",
    "key budget": """
        SELECT k.key_name, k.key_alias, k.max_budget,
               (SELECT COALESCE(sum(l.spend), 0) FROM "LiteLLM_SpendLogs" l
                WHERE l.api_key = k.token AND (k.budget_reset_at IS NULL OR l."startTime" >= k.budget_reset_at))
        FROM "LiteLLM_VerificationToken" k WHERE k.max_budget IS NOT NULL""",
}


class Usage(NamedTuple):
    """What the statements of a role have taken so far."""

    blocks: float  # touched, in the cache or not
    seconds: float  # of execution


@dataclass
class Cost:
    """Of some refreshes."""

    seconds: list[float] = field(default_factory=list)
    blocks: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)  # seconds the database worked on it

    def add(self, seconds: float, before: Usage, after: Usage) -> None:
        self.seconds.append(seconds)
        self.blocks.append(after.blocks - before.blocks)
        self.served.append(after.seconds - before.seconds)


def main() -> None:
    parser = support.parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows over 30 days (default 1000000)")
    arguments = parser.parse_args()
    report = support.Report(f"LiteLLM's database, {arguments.rows:,} rows over 30 days")
    with server() as running:
        asyncio.run(compare(running, arguments, report))
    report.finish(arguments)


@contextmanager
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL that counts blocks by role."""
    with TemporaryDirectory(prefix="tallykeep-benchmark-") as folder:
        Path(folder).chmod(0o711)
        settings = {"shared_preload_libraries": "pg_stat_statements", "autovacuum": "off"}
        with PostgresServer(Path(folder), fast=True, settings=settings) as running:
            yield running


def made(running: PostgresServer, name: str, size: Size, rows: int, days: float) -> tuple[str, Traffic]:
    """A database with LiteLLM's schema and its traffic, readable by both roles."""
    said(f"making {rows:,} rows over {days:g} days")
    dsn = running.create_database(name)
    litellm_schema.migrate(dsn)
    traffic = Traffic(dsn, size=size, keep_account=False)
    traffic.populate()
    traffic.history(rows, days)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        connection.execute('CREATE INDEX ON "LiteLLM_SpendLogs" (api_key, "startTime")')
        connection.execute("VACUUM (ANALYZE)")
        for role in (PEER_ROLE, OUR_ROLE):
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
                connection.execute(f"CREATE ROLE {role} LOGIN")
            for table in TABLES:
                connection.execute(f'GRANT SELECT ON "LiteLLM_{table}" TO {role}')
    return dsn, traffic


async def compare(running: PostgresServer, arguments: argparse.Namespace, report: support.Report) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        _, traffic = made(running, "litellm", LARGE, arguments.rows, 30)
        _, shorter = made(running, "shorter", LARGE, arguments.rows // 10, 3)
        peer = peer_refreshes(running, "litellm", arguments.rounds)
        first, steady, samples = await our_refreshes(running, "litellm", folder / "long", traffic, arguments.rounds)
        _, short, _ = await our_refreshes(running, "shorter", folder / "short", shorter, arguments.rounds)
        against = "the exporter's statements"
        report.compare("steady refresh", steady.seconds, peer.seconds, against=against, goal=500)
        report.compare("steady refresh, blocks", steady.blocks, peer.blocks, against=against, unit="blocks", goal=500)
        report.compare("steady refresh, time in the database", steady.served, peer.served, against=against)
        report.compare("first load", first.seconds, peer.seconds, against="one of its refreshes", goal=1)
        report.compare("first load, blocks", first.blocks, peer.blocks, against="one of its refreshes", unit="blocks")
        report.compare("first load, time in the database", first.served, peer.served, against="one of its refreshes")
        report.compare("steady refresh, history 10 times longer", steady.seconds, short.seconds, against="3 days")
        scrapes(samples, arguments.rounds, report)
        made(running, "wide", WIDE, min(arguments.rows, WIDE_ROWS), 30)
        resident, series = resident_memory(running, "wide", folder)
        report.figure(f"resident memory at {series:,} series", [resident], unit="MiB", at_most=150)


def peer_refreshes(running: PostgresServer, name: str, rounds: int) -> Cost:
    """What the exporter does in a cycle, over and over."""
    cost = Cost()
    with closing(psycopg.connect(running.dsn(PEER_ROLE, name), autocommit=True)) as connection:
        for number in range(rounds + 1):
            said(f"the exporter's statements, {number} of {rounds}")
            before, began = usage(running, name, PEER_ROLE), time.perf_counter()
            for statement in PEER.values():
                connection.execute(statement).fetchall()
            if number:  # the first only warms the caches
                cost.add(time.perf_counter() - began, before, usage(running, name, PEER_ROLE))
    return cost


async def our_refreshes(
    running: PostgresServer, name: str, state: Path, traffic: Traffic, rounds: int
) -> tuple[Cost, Cost, tuple[Sample, ...]]:
    """The first load, steady refreshes with new rows before each, and the last samples."""
    said(f"tallykeep on {name}")
    settings = LitellmSettings()
    database = connected(DatabaseSettings(host="127.0.0.1", port=running.port, dbname=name, user=OUR_ROLE), settings)
    pace = Pace(INTERVAL, 60, settings.overlap, windows(30 * DAY, DAY, 3600))
    collector = DatabaseCollector(database, pace, state, SystemClock(), Book(), label=False)
    first, steady, samples = Cost(), Cost(), tuple[Sample, ...]()
    try:
        samples = await refresh(running, name, collector, first)
        collect_rarely()  # as `tallykeep run` does
        for _ in range(40):  # the slow reconciliation, which is due every six hours, gets through
            await refresh(running, name, collector, Cost())
        since = time.time()
        for _ in range(STEADY * rounds):
            now = time.time()
            traffic.step(max(since, now - INTERVAL), now, 0.4 * INTERVAL / max(now - since, 0.1))
            since = now
            samples = await refresh(running, name, collector, steady)
    finally:
        await database.close()
    return first, steady, samples


async def refresh(running: PostgresServer, name: str, collector: DatabaseCollector, cost: Cost) -> tuple[Sample, ...]:
    before, began = usage(running, name, OUR_ROLE), time.perf_counter()
    samples = tuple([sample async for sample in collector.collect()])
    cost.add(time.perf_counter() - began, before, usage(running, name, OUR_ROLE))
    return samples


def usage(running: PostgresServer, name: str, role: str) -> Usage:
    """What the statements of a role have taken so far."""
    query = """
        SELECT COALESCE(sum(shared_blks_hit + shared_blks_read + temp_blks_read + temp_blks_written), 0)::float8,
               COALESCE(sum(total_exec_time), 0)::float8 / 1000
        FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = %s"""
    with psycopg.connect(running.dsn(dbname=name), autocommit=True) as connection:
        row = connection.execute(query, (role,)).fetchone()
        assert row is not None
        return Usage(*row)


def scrapes(samples: tuple[Sample, ...], rounds: int, report: support.Report) -> None:
    """A page of as many series: ours as it is after a refresh and between two, theirs by generate_latest."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    gauges: dict[str, Gauge] = {}
    for sample in samples:
        name = sample.family.name
        if name not in gauges:
            gauges[name] = Gauge(name.removesuffix("_total"), "Help.", sample.family.labels, registry=registry)
        value = sample.value if isinstance(sample.value, float | int) else 0.0
        (gauges[name].labels(*sample.labels) if sample.labels else gauges[name]).set(value)
    renderer = Renderer(Catalogue(FAMILIES))
    old = tuple(samples)

    def fresh() -> None:
        renderer.render([Snapshot("litellm", "default", old, time.time())], Format.TEXT, time.time())

    kept = [Snapshot("litellm", "default", old, time.time())]
    renderer.render(kept, Format.TEXT, time.time())
    peer = support.seconds(lambda: generate_latest(registry), rounds * 3)
    against = "generate_latest"
    ours = support.seconds(fresh, rounds * 3)
    report.compare(f"scrape after a refresh, {len(samples):,} samples", ours, peer, against=against)
    ours = support.seconds(lambda: renderer.render(kept, Format.TEXT, time.time()), rounds * 3)
    report.compare(f"scrape, {len(samples):,} samples", ours, peer, against=against, goal=15)


def resident_memory(running: PostgresServer, name: str, folder: Path) -> tuple[float, int]:
    """MiB of the whole program after some refreshes and scrapes, and the series it shows."""
    said("tallykeep as a program")
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"], "METRICS_PORT": str(port), "METRICS_UPDATE_INTERVAL": "2",
        "TALLYKEEP_STATE_DIR": str(folder / "wide"), "LITELLM_DB_HOST": "127.0.0.1",
        "LITELLM_DB_PORT": str(running.port), "LITELLM_DB_NAME": name, "LITELLM_DB_USER": OUR_ROLE,
    }  # fmt: skip
    program = [sys.executable, "-m", "tallykeep", "run", "litellm"]
    with subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            awaited(lambda: series_at(port) > 1000, 60)
            for _ in range(5):
                time.sleep(2)
                count = series_at(port)
            return memory(process.pid, "VmRSS"), count
        finally:
            process.terminate()
            process.wait(10)


def series_at(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
            return sum(1 for line in reply.read().splitlines() if not line.startswith(b"#"))
    except OSError:
        return 0


def awaited(check: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise RuntimeError("tallykeep has not shown its figures in time")
        time.sleep(0.5)


def said(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
