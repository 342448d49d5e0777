"""Retention of a real cluster's backups and WAL, by the command: what is kept verifies, restores and recovers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support import postgres_retention as made_up
from tests.support.postgres_drill import on_s3
from tests.support.postgres_retention import HOUR
from tests.support.postgres_verify import CLOCK, backed_up, cluster_in, fill, streamed, switched, verified
from tests.support.postgres_wal import KEY, place, primary, restored  # noqa: F401 - a fixture
from tests.support.servers import bucket, seaweedfs  # noqa: F401 - fixtures

from tallykeep.demo.postgres import PostgresServer
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.systems.postgres import keyfile
from tallykeep.systems.postgres.basebackup.putting import put
from tallykeep.systems.postgres.cluster import Cluster, prepare
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.retention.planning import apply
from tallykeep.systems.postgres.settings import RetentionSettings

pytestmark = pytest.mark.server


def configured(folder: Path) -> Path:
    """Settings that keep two backups, and delete at once."""
    path = folder / "tallykeep.yaml"
    postgres = {
        "archive": str(folder / "archive"), "key": keyfile.to_text(KEY), "clusters": [{"name": "main"}],
        "retention": {"keep_latest": 2, "pitr": "0", "grace": "0"},
    }  # fmt: skip
    path.write_text(json.dumps({"postgres": postgres}))
    return path


async def told(config: Path, *words: str, status: int = 0) -> Any:
    """What `tallykeep postgres retention` says of the one tier, with --json."""
    argv = [sys.executable, "-m", "tallykeep", "postgres", "retention", "--config", str(config), "--json", *words]
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)[0] if status == 0 else done.stderr


async def four_backups(server: PostgresServer, cluster: Cluster) -> None:
    """With rows and a new segment after each, and the WAL of all."""
    await prepare(cluster)
    with streamed(server, cluster):
        for number in range(1, 5):
            fill(server, 2000)
            await backed_up(server, cluster, f"backup {number}")
            switched(server)
        fill(server, 2000)


def rows(server: PostgresServer) -> int:
    """How many there are."""
    with psycopg.connect(server.dsn()) as db:
        found = db.execute("SELECT count(*) FROM t").fetchone()
    assert found is not None
    return int(found[0])


async def test_what_is_kept_recovers(place: Path) -> None:  # noqa: F811
    """A dry run explains and changes nothing; then the oldest backups and their WAL go. Every byte of what is kept
    verifies, and from the oldest backup that is left the cluster recovers to its last row."""
    cluster, config = cluster_in(place / "archive"), configured(place)
    with primary(place) as server:
        await four_backups(server, cluster)
    plan = await told(config, "--dry-run")
    assert [each["fate"] for each in plan["backups"]] == ["delete", "delete", "keep", "keep"]
    segments = len(cluster.archive.segments())
    again = await told(config, "--dry-run")
    assert (again["objects"], again["wal"]) == (plan["objects"], plan["wal"])
    done = await told(config)
    assert done["objects"]["bytes"] > 0 and done["wal"]["segments"] >= 2
    assert len(cluster.archive.segments()) == segments - done["wal"]["segments"]
    verdicts = await verified(cluster)
    assert [name for name in verdicts if name] == ["backup 3", "backup 4"]
    assert all(verdict.sound for verdict in verdicts.values())
    repository = await cluster.tier1.repository(CLOCK)
    oldest = repository.backup("backup 3")
    assert cluster.archive.held()[0].start <= LSN.parse(oldest.start_lsn)
    await put(repository, oldest, place / "files")
    with restored(place / "files", cluster.archive, place / "restored") as back:
        assert rows(back) == 10_000


async def test_more_than_half_by_command(place: Path) -> None:  # noqa: F811
    """Without --yes more than half does not go: the command says so, does nothing and ends with 1."""
    cluster, config = cluster_in(place / "archive"), configured(place)
    with primary(place) as server:
        await four_backups(server, cluster)
        with streamed(server, cluster):
            await backed_up(server, cluster, "backup 5")
    said = await told(config, status=1)
    assert "3 of 5 backups" in said and "--yes" in said
    assert len((await cluster.tier1.repository(CLOCK)).backups) == 5
    assert (await told(config, "--yes"))["held"] == 5
    assert len((await cluster.tier1.repository(CLOCK)).backups) == 2


async def test_on_object_storage(tmp_path: Path, seaweedfs: SeaweedFS, bucket: str) -> None:  # noqa: F811
    """In a bucket as in a folder: two phases, WAL and parts, what a dead writer left; what is kept restores."""
    rules = RetentionSettings(keep_latest=3, pitr=0.0, grace=HOUR)
    settings = replace(made_up.settings_of(tmp_path, RetentionSettings(), rules), tier2=on_s3(seaweedfs, bucket))
    cluster, clock = await made_up.opened(settings), made_up.Hands()
    tier = cluster.tier("2")
    for number, entry in enumerate(await made_up.backups(cluster, 5), 1):
        assert await made_up.backup(cluster, tier, number, entry.finished) == entry
    left = f"packs/00/{7:032x}"
    await tier.base.create(left, b"left")
    plan = await apply(cluster, tier, settings, clock)
    assert len(plan.forget) == 2 and plan.orphans.seen == {left: clock.now}
    clock.now += HOUR
    plan = await apply(cluster, tier, settings, clock)
    assert len(plan.expired) == len(plan.wal.segments) == 2 and plan.orphans.due == [left]
    repository = await tier.repository(clock)
    assert set(await made_up.on_disk(tier.base)) == repository.keys()
    assert [held.segment.start // made_up.SEGMENT for held in await tier.wal.segments()] == [3, 4, 5, 6]
    await made_up.check_restores(cluster, tier, tmp_path / "out", repository.backups.values())
    await cluster.close()
