"""Verification of a tier on S3 by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.postgres_verify import (
    CLOCK,
    backed_up,
    cluster_in,
    copied,
    fill,
    flipped,
    problems_of,
    streamed,
    switched,
    verified,
)
from tests.support.postgres_wal import place, primary

from tallykeep.config.model import Secret
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.errors import Unavailable
from tallykeep.storage.cloud import CloudStore
from tallykeep.storage.store import Store
from tallykeep.systems.postgres.cluster import prepare
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.settings import Tier2Settings
from tallykeep.systems.postgres.verifying.verify import verify_tier
from tallykeep.systems.postgres.wal_source import segment_key

__all__ = ["place"]
pytestmark = pytest.mark.server


async def test_tier_2(place: Path, own_seaweedfs: SeaweedFS) -> None:
    """Tier 2 on S3 is proved by itself; what is changed there is named; a store that does not answer is no verdict."""
    own_seaweedfs.create_bucket("tier2")
    s3 = own_seaweedfs.settings("tier2")
    settings = Tier2Settings(
        url="s3://tier2/pg", endpoint=s3.endpoint, region=s3.region, access_key=s3.access_key,
        secret_key=Secret(s3.secret_key),
    )  # fmt: skip
    cluster = cluster_in(place / "archive", settings)
    await prepare(cluster)
    with primary(place) as server, streamed(server, cluster):
        fill(server, 5_000)
        await backed_up(server, cluster, "monday")
        switched(server)
    await copied(cluster)
    tier2 = cluster.tier("2")
    assert problems_of(await verified(cluster, "2")) == []
    [pack, *_] = (await tier2.repository(CLOCK)).packs
    await flipped(tier2.base, pack.key, pack.size // 2)
    told = problems_of(await verified(cluster, "2"))
    assert all("s3://tier2/pg/main/base/packs" in problem for problem in told)
    await flipped(tier2.base, pack.key, pack.size // 2)
    held = await tier2.wal.segments()
    await flipped(tier2.root, segment_key(held[-1].segment), 500)
    told = problems_of(await verified(cluster, "2"))
    assert told
    assert all(held[-1].segment.name in problem for problem in told)
    assert problems_of(await verified(cluster, "1")) == []
    before = Journal(cluster.folder).read()
    frozen = replace(tier2, base=cloud(own_seaweedfs, "base"), root=cloud(own_seaweedfs, ""))
    own_seaweedfs.freeze()
    try:
        with pytest.raises(Unavailable):
            await verify_tier(cluster, frozen, CLOCK)
    finally:
        own_seaweedfs.thaw()
    assert Journal(cluster.folder).read() == before
    await cluster.close()


def cloud(server: SeaweedFS, below: str) -> Store:
    """Tier 2 without patience."""
    return CloudStore.s3(replace(server.settings("tier2", f"pg/main/{below}".rstrip("/")), timeout=2))
