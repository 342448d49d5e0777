"""kill -9 of primary, server, NATS and S3 under load; then restore from each tier and compare.

0 acknowledged synchronous commits lost; the recovered point is never behind the reported one; klio.* figures say what
is on disk. `TALLYKEEP_SOAK_ROUNDS` sets how many rounds the soak test plays.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import psycopg
import pytest
from tests.support.postgres import server_folder
from tests.support.postgres_chaos import BUCKET, Chaos
from tests.support.postgres_wal import KEY, wait
from tests.support.servers import need

from tallykeep.demo.page import scrape
from tallykeep.demo.postgres import MISSING, program
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.journal import Journal

pytestmark = [pytest.mark.server, pytest.mark.chaos, pytest.mark.timeout(400)]

ROUNDS = int(os.environ.get("TALLYKEEP_SOAK_ROUNDS", "50"))


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """An S3 server of these tests alone, to be killed."""
    need(str(program("postgres")), MISSING)
    with SeaweedFS(tmp_path_factory.mktemp("s3")) as server:
        server.create_bucket(BUCKET)
        yield server


def play(s3: SeaweedFS, seed: int, kills: int = 4) -> str:
    """A round; what came of it, for a log."""
    with server_folder() as place, Chaos(place, s3, seed) as chaos:
        chaos.play(kills)
        chaos.serve_again()
        figures_come_true(chaos)
        chaos.server.kill()
        for tier in ("1", "2"):
            compare(chaos, tier)
        return f"seed {seed}: killed {', '.join(chaos.reported.killed)}; {chaos.acknowledged} commits, 0 lost"


def say(line: str) -> None:
    """A line on the terminal, with -s."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def compare(chaos: Chaos, tier: str) -> None:
    """Everything that was acknowledged is there, and as much WAL as was reported."""
    reach = chaos.reach(tier)
    assert reach >= chaos.reported.flushed
    with chaos.restored(tier) as server, psycopg.connect(server.dsn()) as connection:
        for client in chaos.clients:
            rows = connection.execute("SELECT n FROM kept WHERE client = %s", (client.number,)).fetchall()
            there = [n for (n,) in rows]
            assert len(there) == len(set(there))
            lost = set(client.acknowledged) - set(there)
            assert not lost, f"tier {tier}: {len(lost)} acknowledged commits of client {client.number} are lost"
        (ended,) = connection.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchone() or (0,)
        assert ended >= chaos.reported.flushed


def figures_come_true(chaos: Chaos) -> None:
    """What klio.* says is what is on disk, once figures have been collected."""
    wait(lambda: not wrong_figures(chaos), told=lambda: f"{wrong_figures(chaos)}")


def wrong_figures(chaos: Chaos) -> list[str]:
    """Those that say something else than what is on disk."""
    page, folder = scrape(chaos.port), chaos.folder / "archive" / "main"
    if page is None:
        return ["none is there"]
    backups = Journal(folder).read().backups
    right = {
        "klio_base_snapshots": page.values("klio_base_snapshots", snapshot_source="main") == [backups.successes],
        "klio_backup_successes_total": page.values("klio_backup_successes_total") == [backups.successes],
        "klio_backup_latest_completion_time_seconds":
            page.values("klio_backup_latest_completion_time_seconds") == [backups.latest_completion],
        "klio_queue_messages": set(page.values("klio_queue_messages")) == {0.0},
    }  # fmt: skip
    complete = [stored for stored in Archive(folder, Cipher.from_key(KEY)).segments() if stored.complete]
    if complete:
        newest = max(path.stat().st_mtime for stored in complete for path in stored.paths)
        told = page.values("klio_wal_latest_written_time_seconds", cluster_name="main")
        right["klio_wal_latest_written_time_seconds"] = told == [pytest.approx(newest, abs=2)]
        sent = page.values("klio_consumer_latest_written_time_seconds", cluster_name="main")
        right["klio_consumer_latest_written_time_seconds"] = bool(sent)
    return [family for family, is_right in right.items() if not is_right]


@pytest.mark.parametrize("seed", range(5))
def test_nothing_acknowledged_is_lost(s3: SeaweedFS, seed: int) -> None:
    """Five seeded rounds."""
    say(play(s3, seed))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_nothing_acknowledged_is_lost_many_times(s3: SeaweedFS) -> None:
    """As many rounds as are asked for."""
    for seed in range(1000, 1000 + ROUNDS):
        say(play(s3, seed))
