"""Retention where something is wrong already: damage, an attempt that died, a disk that is full."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.clock import FakeClock
from tests.support.offloading import until
from tests.support.postgres_retention import (
    DAY,
    HOUR,
    SEGMENT,
    START,
    Hands,
    backup,
    backups,
    check_restores,
    held_wal,
    names,
    opened,
    settings_of,
    verdict,
)
from tests.support.small_disk import small_disk

from tallykeep.storage.metered import MeteredStore, Request
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.repository import filling
from tallykeep.systems.postgres.repository.filling import store_index
from tallykeep.systems.postgres.repository.repository import Repository
from tallykeep.systems.postgres.retention.objects import needless
from tallykeep.systems.postgres.retention.planning import apply, in_order, plan_retention
from tallykeep.systems.postgres.retention.service import RetentionService, retain
from tallykeep.systems.postgres.settings import RetentionSettings
from tallykeep.systems.postgres.wal_source import segment_key

LATEST_1 = RetentionSettings(keep_latest=1, pitr=0.0, grace=0.0)
LATEST_3 = RetentionSettings(keep_latest=3, pitr=0.0, grace=DAY)


async def test_what_cannot_come_to_tier_2_is_not_waited_for(tmp_path: Path) -> None:
    """A backup that was found damaged in tier 1 is never copied: it does not hold back all WAL behind it for ever."""
    settings = settings_of(tmp_path, LATEST_1, RetentionSettings())
    cluster = await opened(settings)
    assert cluster.tier2 is not None
    made = await backups(cluster, 4)
    for number in (2, 3, 4):
        await backup(cluster, cluster.tier2, number, START)
    await verdict(cluster, cluster.tier1, made[0], sound=False)
    await apply(cluster, cluster.tier1, settings, Hands(), yes=True)
    assert await names(cluster, cluster.tier1) == ["backup 4"] and held_wal(cluster) == [4, 5]


async def test_an_index_of_a_run_that_died_is_not_removed_once_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index that a run stored before it died goes as an orphan, unless this very run gives it to the manifest."""
    monkeypatch.setattr(filling, "SIZE", 1)  # each chunk is a pack: some of an index stay
    settings, clock = settings_of(tmp_path, LATEST_3), Hands()
    cluster = await opened(settings)
    made, tier = await backups(cluster, 5), cluster.tier1
    await apply(cluster, tier, settings, clock)
    clock.now += DAY
    repository = await tier.repository(clock)
    entries = in_order(repository)
    going = await needless(repository, entries[2:], entries[:2], clock.now)
    assert going.named_anew
    await store_index(repository, going.named_anew)  # and here it died
    await apply(cluster, tier, replace(settings, retention=replace(LATEST_3, keep_latest=9)), clock)  # taken back
    clock.now += HOUR
    await apply(cluster, tier, settings, clock)  # let go again, an hour after the index was seen
    clock.now += DAY
    await apply(cluster, tier, settings, clock)
    assert await names(cluster, tier) == ["backup 3", "backup 4", "backup 5"]
    await check_restores(cluster, tier, tmp_path / "out", made[2:])


async def test_a_dry_run_tells_of_no_deletion_that_is_not_done(tmp_path: Path) -> None:
    """Orphans go with the next that goes: where nothing does, neither the run nor its rehearsal deletes them."""
    settings, clock = settings_of(tmp_path, LATEST_3), Hands()
    cluster = await opened(settings)
    await backups(cluster, 4)
    await cluster.tier1.base.create(f"packs/ab/{1:032x}", b"left")
    await apply(cluster, cluster.tier1, settings, clock)
    clock.now += DAY
    await apply(cluster, cluster.tier1, settings, clock)
    left = f"packs/ab/{2:032x}"
    await cluster.tier1.base.create(left, b"left")
    (cluster.folder / "orphans-1.json").write_text(f'{{"{left}": {START}}}')
    plan = await plan_retention(cluster, cluster.tier1, settings, clock)
    assert plan.idle and plan.orphans.seen.keys() == {left} and not plan.orphans.due and not plan.freed


async def test_a_full_disk_is_freed_of_wal(tmp_path: Path) -> None:
    """Tier 2 was away until the disk of tier 1 was full: now that it has the WAL, it goes, though no record fits."""
    with small_disk(tmp_path / "disk", 4) as disk:
        settings = settings_of(disk.folder, LATEST_1, RetentionSettings())
        settings = replace(settings, tier2=replace(settings.tier2, url=str(tmp_path / "tier2")))
        cluster = await opened(settings)
        assert cluster.tier2 is not None
        await backups(cluster, 4)
        for number in range(1, 5):
            await backup(cluster, cluster.tier2, number, START)
        missing = segment_key(Segment(1, LSN(SEGMENT), SEGMENT))
        kept = await cluster.tier2.root.read(missing)
        await cluster.tier2.root.delete(missing)
        await apply(cluster, cluster.tier1, settings, Hands(), yes=True)
        assert await names(cluster, cluster.tier1) == ["backup 4"] and held_wal(cluster) == [1, 2, 3, 4, 5]
        await cluster.tier2.root.create(missing, kept)
        with (disk.folder / "archive/main/rest").open("wb", buffering=0) as rest, suppress(OSError):
            while True:
                rest.write(bytes(4096))
        await retain(cluster, cluster.tier1, settings, Hands())
        assert held_wal(cluster) == [4, 5]


async def test_what_failed_is_tried_again_within_the_hour(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While tier 2 is away tier 1 lets go of nothing; it does not wait another day once tier 2 is back."""
    settings = settings_of(tmp_path, LATEST_3, LATEST_3)
    cluster, clock = await opened(settings), FakeClock(START)
    assert cluster.tier2 is not None
    await backups(cluster, 5)
    for number in range(1, 6):
        await backup(cluster, cluster.tier2, number, START)
    (tmp_path / "tier2").rename(tmp_path / "away")
    (tmp_path / "tier2").touch()
    service = asyncio.ensure_future(RetentionService([cluster], settings, clock).run())
    try:
        await until(lambda: "retention of tier 2" in caplog.text and clock._sleepers)
        (tmp_path / "tier2").unlink()
        (tmp_path / "away").rename(tmp_path / "tier2")
        await clock.advance(HOUR)
        await until(lambda: Journal(cluster.folder).read().retention.get("1"))
        assert await names(cluster, cluster.tier1) == ["backup 3", "backup 4", "backup 5"]
    finally:
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)


async def test_a_manifest_is_read_on_from_where_it_was_read_to(tmp_path: Path) -> None:
    """What is looked at every few minutes for years is not read anew each time; one that was replaced is."""
    settings = settings_of(tmp_path, LATEST_3)
    cluster = await opened(settings)
    await backups(cluster, 3)
    asked: list[Request] = []
    store = MeteredStore(cluster.tier1.base, asked.append)
    first = await Repository.listed(store, Hands())
    assert len(first.chain.records) == 9
    await backup(cluster, cluster.tier1, 4, START)
    asked.clear()
    again = await Repository.listed(store, Hands(), chain=first.chain)
    assert len(again.backups) == 4 and again.chain is first.chain
    old = {record.key for record in first.chain.records[:8]}
    assert not [each for each in asked if each.key in old]
    shutil.rmtree(cluster.folder / "base")
    (cluster.folder / "base").mkdir()
    await backup(cluster, cluster.tier1, 5, START)
    assert [each.name for each in (await Repository.listed(store, Hands(), chain=again.chain)).backups.values()] == [
        "backup 5"
    ]
