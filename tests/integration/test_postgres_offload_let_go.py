"""What retention lets go of in tier 1 before it was copied: tier 2 is not behind for it."""

from __future__ import annotations

from pathlib import Path

from tests.support.offloading import opened, postgres_settings, segment, write

from tallykeep.clock import SystemClock
from tallykeep.metrics import Book
from tallykeep.systems.postgres.offload.held import RemoteHeld
from tallykeep.systems.postgres.offload.items import WAL, Item
from tallykeep.systems.postgres.offload.standing import Standing
from tallykeep.systems.postgres.offload.work import Worker


async def test_wal_that_tier_1_let_go_of_is_not_missing_in_tier_2(tmp_path: Path) -> None:
    """The position of tier 2 is that of the WAL which tier 1 still holds, and not held back by what went."""
    cluster = await opened(postgres_settings(tmp_path))
    assert cluster.tier2 is not None
    write(cluster, 2.5)
    standing = Standing(cluster, cluster.tier2)
    standing.compared(RemoteHeld(), [segment(0)])
    worker = Worker([standing], Book(), SystemClock(), 1)
    standing.completed(segment(1))
    (cluster.archive.folder_of(segment(0)) / segment(0).name).unlink()
    await worker.do(Item(WAL, "main", segment(1).name))
    assert standing.position() == segment(0).start
    await worker.do(Item(WAL, "main", segment(0).name))
    assert standing.position() == segment(1).end
    await cluster.close()
