"""WAL on its way to tier 2, with a real queue and a real object store."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
from tests.support.offloading import (
    arrived,
    figure,
    impatient,
    opened,
    postgres_settings,
    running,
    until,
    write,
)

from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.metrics import Book
from tallykeep.systems.postgres import families

pytestmark = pytest.mark.server


async def test_what_is_there_and_what_comes_goes_to_object_storage(
    tmp_path: Path, seaweedfs: SeaweedFS, bucket: str
) -> None:
    """Segments of before are found by the comparison, new ones by their hints; each counts once, with its bytes."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings, impatient(seaweedfs, bucket))
    write(cluster, 3.5)
    book = Book()
    async with running(cluster, settings, book=book) as offload:
        await arrived(cluster, 0, 1, 2)
        await asyncio.to_thread(write, cluster, 2.5, told=partial(offload.segment_done, cluster))
        await arrived(cluster, 3, 4, 5)
        await until(lambda: not offload.standings["main"].lacking)
        await until(lambda: figure(book, families.CONSUMER_WRITTEN, cluster_name="main") == 6)
    assert cluster.tier2 is not None
    sizes = [each.size async for page in cluster.tier2.root.list("wal/") for each in page]
    assert figure(book, families.CONSUMER_WRITTEN_SIZE, cluster_name="main") == sum(sizes)
    assert figure(book, families.CONSUMER_LATEST_WRITTEN_TIME, cluster_name="main")
    assert await cluster.tier2.wal.identity() == await cluster.tier1.wal.identity()
