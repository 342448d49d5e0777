"""Records of a real PostgreSQL's WAL, proved; the receiver as a service, and what it tells."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_wal import KEY, Receiving, lsn_of, place, primary, run, wait

from tallykeep.clock import SystemClock
from tallykeep.errors import IntegrityError, Unreachable
from tallykeep.metrics import Book, Distribution, Family
from tallykeep.runtime.work import Collector
from tallykeep.systems.postgres import families
from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.collector import HeldCollector, WalCollector
from tallykeep.systems.postgres.receiver import Receiver
from tallykeep.systems.postgres.records import Records
from tallykeep.systems.postgres.session import Source
from tallykeep.systems.postgres.verifier import Verifier, verify_all

__all__ = ["place"]
pytestmark = pytest.mark.server


async def test_records_are_proved_through_switches_and_crashes_and_any_flip_is_found(
    place: Path, tmp_path: Path
) -> None:
    """pgbench, a crash of the primary and segment switches; then bytes flipped under a valid block."""
    with primary(place) as server, Receiving(server.dsn(), tmp_path / "main") as receiving:
        run("pgbench", "-i", "-q", "-s", "2", "-d", server.dsn())
        run("pgbench", "-c", "2", "-t", "300", "-d", server.dsn())
        server.kill()
        server.start()
        for _ in range(2):
            run("pgbench", "-c", "2", "-t", "300", "-d", server.dsn())
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                connection.execute("SELECT pg_switch_wal()")
        end = lsn_of(server)
        receiving.until(lambda archiver: archiver.durable >= end)
    archive = Archive(tmp_path / "main")
    assert await verify_all(archive) == []
    complete = [stored.segment for stored in archive.segments() if stored.complete]
    verifier = Verifier("main", archive, SystemClock())
    verifier.resume()
    for segment in complete:
        assert verifier.following() == segment
        verifier.prove(segment)
    assert verifier.following() is None and verifier.lsn == complete[-1].end and not verifier.damage
    again = Verifier("main", archive, SystemClock())
    again.resume()
    assert again.lsn == verifier.lsn
    data = bytearray(archive.read(complete[1]))
    for at in range(5000, 60_000, 6777):
        wrong = bytearray(data)
        wrong[at] ^= 4
        records = Records(16 << 20, complete[0].start)
        records.feed(archive.read(complete[0]))
        with pytest.raises(IntegrityError, match="WAL"):
            records.feed(bytes(wrong))


async def test_the_service_counts_what_is_on_disk_and_an_idle_database_is_not_behind(
    place: Path, tmp_path: Path
) -> None:
    """Figures equal to the files, RPO 0 while nothing happens, bytes while the receiver is stopped, seconds
    from before a restart too; later withdrawn."""
    book, clock = Book(), SystemClock()
    with primary(place) as server:
        source = Source("main", server.dsn())
        receiver = Receiver(source, tmp_path / "main", Cipher.from_key(KEY), book, clock)
        task = asyncio.create_task(receiver.run())
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE t AS SELECT generate_series(1, 300000) i")
            end = lsn_of(server)
        await until(lambda: receiver.durable >= end)
        collector = WalCollector(source, receiver, clock)
        figures = await level(collector)
        assert figures[families.RPO_SECONDS] == 0
        assert families.SLOT_RETAINED in figures
        archive = Archive(tmp_path / "main", Cipher.from_key(KEY))
        held = HeldCollector("main", archive)
        figures = await told(held)
        assert end <= figures[families.WAL_RANGE_END] <= lsn_of(server)
        assert figures[families.WAL_RANGE_END] > figures[families.WAL_RANGE_START]
        assert figures[families.WAL_GAPS] == 0
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("INSERT INTO t SELECT generate_series(1, 1000)")
            begun = lsn_of(server)
        figures = await told(collector)
        assert 0 < begun - receiver.durable <= figures[families.RPO_BYTES] <= lsn_of(server) - receiver.durable
        assert figures[families.RPO_SECONDS] > 0
        os.utime(tmp_path / "main" / "level-1", (clock.time() - 3600,) * 2)
        restarted = WalCollector(source, receiver, clock)
        figures = await told(restarted)
        assert figures[families.RPO_SECONDS] > 3599
    with pytest.raises(Unreachable):
        async for _ in collector.collect():
            pass
    figures = await told(held)  # the primary is gone, its WAL is not
    assert figures[families.WAL_RANGE_END] == receiver.durable and figures[families.WAL_GAPS] == 0
    stored = archive.segments()
    counted = {sample.family: sample.value for sample in book.read()}
    assert counted[families.WAL_WRITTEN] == sum(one.complete for one in stored) > 0
    flushes = counted[families.WAL_FLUSH]
    assert isinstance(flushes, Distribution) and sum(flushes.counts) > 0 and flushes.total > 0
    headers = sum(64 + (52 if one.complete else 0) for one in stored)
    assert counted[families.WAL_WRITTEN_SIZE] == sum(one.size for one in stored) - headers


async def told(collector: Collector) -> dict[Family, float]:
    """Its figures now."""
    return {sample.family: float(sample.value) async for sample in collector.collect()}  # type: ignore[arg-type]


async def level(collector: Collector) -> dict[Family, float]:
    """Its figures once nothing would be lost: an idle server, too, writes a record now and then."""
    deadline = time.monotonic() + 60
    while (figures := await told(collector))[families.RPO_BYTES]:
        assert time.monotonic() < deadline, figures
        await asyncio.sleep(0.1)
    return figures


async def until(true: object, timeout: float = 60) -> None:
    """Wait on the loop."""
    assert callable(true)
    await asyncio.to_thread(wait, true, timeout)
