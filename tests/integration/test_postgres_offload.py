"""A real primary's WAL on its way to tier 2, with a real queue and a real object store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import psycopg
import pytest
from tests.support.offloading import arrived, figure, impatient, opened, postgres_settings, running, until, write
from tests.support.postgres_wal import place, primary  # noqa: F401 - place is a fixture
from tests.support.spans import Kept, kept  # noqa: F401 - kept is a fixture

from tallykeep.clock import SystemClock
from tallykeep.config.model import Secret
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.metrics import Book
from tallykeep.runtime.backoff import Backoff
from tallykeep.runtime.supervisor import Supervisor
from tallykeep.runtime.tracing import tracer
from tallykeep.runtime.work import Collector
from tallykeep.systems.postgres import families
from tallykeep.systems.postgres.receiver import Receiver
from tallykeep.systems.postgres.settings import ClusterSettings, PostgresSettings

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


async def test_an_idle_primary_loses_nothing_with_tier_1(
    tmp_path: Path,
    place: Path,  # noqa: F811
    seaweedfs: SeaweedFS,
    bucket: str,
    kept: Kept,  # noqa: F811
) -> None:
    """What would be lost of tier 2 falls to 0 on an idle database; uploads go on in the trace of what was received."""
    with primary(place) as server:
        base = postgres_settings(tmp_path, partial_every=0.3)
        settings = PostgresSettings(
            archive=base.archive, key=base.key, tier2=base.tier2, queue=base.queue,
            clusters=(ClusterSettings(name="main", url=Secret(server.dsn())),),
        )  # fmt: skip
        cluster = await opened(settings, impatient(seaweedfs, bucket))
        book = Book()
        receiver = Receiver(cluster.source, cluster.folder, cluster.cipher, book, SystemClock())
        supervisor = Supervisor(book, SystemClock(), lambda: Backoff(0.1, 0.5))
        async with running(cluster, settings, book=book) as offload:

            def completed(segment: object) -> None:
                with tracer("klio.wal").span("receive"):
                    offload.segment_done(cluster, segment)  # type: ignore[arg-type]

            receiver.on_complete = completed
            supervisor.start([receiver])
            try:
                await until(lambda: receiver.streaming)
                await until(lambda: offload.queue.queue is not None)
                await asyncio.to_thread(_work, server.dsn())
                await _nothing_is_lost(offload.collectors[:2])
                await until(lambda: figure(book, families.CONSUMER_WRITTEN, cluster_name="main"))
            finally:
                await supervisor.stop()
    assert any(line.startswith("receive > klio.consumer upload_wal") for line in kept.lines), kept.lines


def _work(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
        connection.execute("SELECT pg_switch_wal()")
        connection.execute("INSERT INTO t VALUES (1)")


async def _nothing_is_lost(collectors: Sequence[Collector]) -> None:
    found: dict[object, object] = {}
    for _ in range(300):
        found = {sample.family: sample.value for each in collectors async for sample in each.collect()}
        if found.get(families.RPO_BYTES) == 0:
            assert found[families.RPO_SECONDS] == 0
            assert found[families.WAL_GAPS] == 0
            return
        await asyncio.sleep(0.1)
    raise AssertionError(found)
