"""Retention of made-up backups on real folders: what goes, when, and that nothing else does."""

from __future__ import annotations

import asyncio
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
    content_of,
    filled,
    held_wal,
    ids,
    names,
    on_disk,
    opened,
    settings_of,
    verdict,
    write_wal,
)

from tallykeep.errors import ConfigError, IntegrityError, RestoreError
from tallykeep.systems.postgres.cluster import Cluster, Tier
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.locks import writing
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.repository import filling
from tallykeep.systems.postgres.repository.entries import RemovedEntry
from tallykeep.systems.postgres.repository.repository import Repository
from tallykeep.systems.postgres.restoring.request import RestoreRequest
from tallykeep.systems.postgres.restoring.restore import plan as plan_restore
from tallykeep.systems.postgres.retention.figures import RetentionCollector
from tallykeep.systems.postgres.retention.planning import RetentionRefused, apply, plan_retention
from tallykeep.systems.postgres.retention.service import RetentionService, maintain, retain
from tallykeep.systems.postgres.retention.telling import plan_json, plan_lines
from tallykeep.systems.postgres.settings import RetentionSettings
from tallykeep.systems.postgres.wal_source import part_key, segment_key

LATEST_3 = RetentionSettings(keep_latest=3, pitr=0.0, grace=DAY)


@pytest.fixture(autouse=True, params=[1, 16 << 20], ids=["many packs", "one pack"])
def pack_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Every chunk a pack of its own, or all of a backup in one."""
    monkeypatch.setattr(filling, "SIZE", request.param)
    size: int = request.param
    return size


async def check_exact(tier: Tier) -> Repository:
    """What is on disk is what the manifest names, neither more nor less."""
    repository = await tier.repository(Hands())
    assert set(await on_disk(tier.base)) == repository.keys()
    return repository


@pytest.mark.parametrize("key", [False, True], ids=["plain", "encrypted"])
async def test_two_phases(tmp_path: Path, key: bool) -> None:
    """What is let go can be restored until its grace period is over; then its objects and its WAL go, and no others."""
    settings = settings_of(tmp_path, LATEST_3, key=key)
    cluster = await opened(settings)
    made, clock, tier = await backups(cluster, 5), Hands(), cluster.tier1
    before = await on_disk(tier.base)
    plan = await apply(cluster, tier, settings, clock)
    assert plan.forget.keys() == ids(made[:2]) and not plan.freed
    assert await names(cluster, tier) == ["backup 3", "backup 4", "backup 5"]
    assert await on_disk(tier.base) == before and held_wal(cluster) == [1, 2, 3, 4, 5, 6]
    await check_restores(cluster, tier, tmp_path / "one", made)
    clock.now += DAY - 1
    assert (await apply(cluster, tier, settings, clock)).idle
    clock.now += 1
    plan = await apply(cluster, tier, settings, clock)
    repository, after = await check_exact(tier), await on_disk(tier.base)
    assert not repository.in_grace and not repository.unfinished
    assert plan.objects.freed == sum(size for object, size in before.items() if object not in after) > 0
    assert held_wal(cluster) == [3, 4, 5, 6]
    await check_restores(cluster, tier, tmp_path / "two", made[2:])
    records = len(repository.chain.records)
    assert (await apply(cluster, tier, settings, clock)).idle
    assert len((await tier.repository(clock)).chain.records) == records


async def test_without_grace(tmp_path: Path) -> None:
    """Without a grace period both phases are one run; what is left restores."""
    settings = settings_of(tmp_path, replace(LATEST_3, grace=0.0))
    cluster = await opened(settings)
    made = await backups(cluster, 5)
    plan = await apply(cluster, cluster.tier1, settings, Hands())
    assert ids(plan.expired) == plan.forget.keys() == ids(made[:2])
    await check_exact(cluster.tier1)
    await check_restores(cluster, cluster.tier1, tmp_path / "out", made[2:])


async def test_backups_go_one_after_another(tmp_path: Path, pack_size: int) -> None:
    """Day after day the oldest goes: packs that later backups share stay as long as one of them does."""
    settings, clock = settings_of(tmp_path, replace(LATEST_3, grace=0.0)), Hands()
    cluster = await opened(settings)
    made = await backups(cluster, 3)
    for number in range(4, 9):
        clock.now += DAY
        await write_wal(cluster, Segment(1, LSN((number + 1) * SEGMENT), SEGMENT))
        made.append(await backup(cluster, cluster.tier1, number, clock.now))
        plan = await apply(cluster, cluster.tier1, settings, clock)
        assert ids(plan.expired) == {made[number - 4].id}
        assert bool(plan.objects.dead) == (pack_size > 1)
        await check_exact(cluster.tier1)
        await check_restores(cluster, cluster.tier1, tmp_path / str(number), made[number - 3 :])
        assert held_wal(cluster)[0] == number - 2


async def test_a_name_is_not_given_twice(tmp_path: Path) -> None:
    """Content that was removed and comes again is stored under other names, so that no late deletion meets it."""
    settings = settings_of(tmp_path, RetentionSettings(keep_latest=1, pitr=0.0, grace=0.0))
    cluster = await opened(settings)
    await backups(cluster, 2)
    before = await on_disk(cluster.tier1.base)
    await apply(cluster, cluster.tier1, settings, Hands())
    gone = before.keys() - await on_disk(cluster.tier1.base)
    again = await backup(cluster, cluster.tier1, 3, START + DAY, content=1)
    for key in gone:
        await cluster.tier1.base.delete(key)
    repository = await check_exact(cluster.tier1)
    files = await repository.files(again)
    for file in files.files:
        for id in file.chunks:
            pack, number = repository.place(id)
            data = (await repository.store.read(pack.key))[pack.offsets()[number] : pack.offsets()[number + 1]]
            assert repository.frames.id_of(repository.frames.chunk(id, memoryview(data), pack.key)) == id


async def test_a_chunk_in_two_packs(tmp_path: Path) -> None:
    """A chunk that two packs hold is still found when one of the two is removed."""
    settings = settings_of(tmp_path, RetentionSettings(keep_latest=1, pitr=0.0, grace=0.0))
    cluster = await opened(settings)
    [first] = await backups(cluster, 1)
    repository = await cluster.tier1.repository(Hands())
    files = await repository.files(first)
    doubled, removed = repository.packs[0]._replace(key="packs/00/again"), repository.packs[0]
    repository.add_pack(doubled)
    await repository.chain.take_over()
    await repository.commit([RemovedEntry(START, [removed.key])])
    assert {repository.place(id)[0].key for file in files.files for id in file.chunks} >= {doubled.key}


async def test_an_attempt_that_failed_is_found_by_the_next(tmp_path: Path) -> None:
    """Packs of a backup that did not come to its end stay for the length of the grace period, and then go."""
    settings, clock = settings_of(tmp_path, replace(LATEST_3, grace=HOUR)), Hands()
    cluster = await opened(settings)
    await backups(cluster, 4)
    tier = cluster.tier1
    await apply(cluster, tier, settings, clock)
    clock.now += HOUR
    before = await on_disk(tier.base)
    async with writing(cluster, tier, clock) as repository:
        await filled(repository, content_of(99))
    left = {key for key in (await on_disk(tier.base)).keys() - before if key.startswith("packs/")}
    await apply(cluster, tier, settings, clock)
    assert left and left <= (await on_disk(tier.base)).keys()
    await backup(cluster, tier, 5, clock.now)
    await apply(cluster, tier, settings, clock)
    clock.now += HOUR
    await apply(cluster, tier, settings, clock)
    assert not left & (await on_disk(tier.base)).keys()
    await check_exact(tier)


async def test_what_a_dead_writer_has_left(tmp_path: Path) -> None:
    """Objects that no record names go when the grace period has passed since a run before has seen them, and only
    under names that are ours; what is taken again meanwhile stays."""
    settings, clock = settings_of(tmp_path, replace(LATEST_3, grace=HOUR)), Hands()
    cluster = await opened(settings)
    await backups(cluster, 4)
    base = cluster.tier1.base
    ours = {
        f"packs/ab/{1:032x}",
        f"indexes/{2:032x}",
        f"backups/{3:032x}",
        f"probe/{4:032x}",
        f"packs/ab/{1:032x}-00c0ffee",
    }
    theirs = {"packs/README", "notes/today", f"backups/{3:032x}.old"}
    for key in ours | theirs:
        await base.create(key, b"left")
    plan = await apply(cluster, cluster.tier1, settings, clock)
    assert plan.orphans.seen.keys() == ours and not plan.orphans.due
    clock.now += HOUR - 1
    await backup(cluster, cluster.tier1, 5, clock.now)
    await apply(cluster, cluster.tier1, settings, clock)
    late = f"packs/ab/{5:032x}"
    await base.create(late, b"left later")
    clock.now += 1
    await apply(cluster, cluster.tier1, settings, clock)
    left = (await on_disk(base)).keys() - (await cluster.tier1.repository(clock)).keys()
    assert left == theirs | {late}
    assert not [each.key async for page in base.list("probe/") for each in page]
    again = await plan_retention(cluster, cluster.tier1, settings, clock)
    assert again.orphans.seen == {late: clock.now} and "writer left" in "".join(plan_lines(again, dry=True))


async def test_a_restore_in_the_grace_period(tmp_path: Path) -> None:
    """A backup that was let go is restored when it is asked for, by its name or by a moment, until its bytes go."""
    settings, clock = settings_of(tmp_path, LATEST_3), Hands()
    cluster = await opened(settings)
    made = await backups(cluster, 5)
    await apply(cluster, cluster.tier1, settings, clock)
    for wanted in (
        RestoreRequest(tmp_path / "out", backup="backup 2", immediate=True),
        RestoreRequest(tmp_path / "out", time=made[1].finished + HOUR),
    ):
        assert (await plan_restore(cluster, wanted, clock)).entry == made[1]
    assert (await plan_restore(cluster, RestoreRequest(tmp_path / "out"), clock)).entry == made[4]
    clock.now += DAY
    await apply(cluster, cluster.tier1, settings, clock)
    with pytest.raises(RestoreError, match="backup 2"):
        await plan_restore(cluster, RestoreRequest(tmp_path / "out", backup="backup 2", immediate=True), clock)


# --- what protects


async def test_more_than_half(tmp_path: Path) -> None:
    """More than half goes only with yes; without it nothing at all is done, and a figure says so."""
    settings = settings_of(tmp_path, RetentionSettings(keep_latest=1, pitr=0.0, grace=DAY))
    cluster = await opened(settings)
    made = await backups(cluster, 3)
    with pytest.raises(RetentionRefused, match="2 of 3 backups") as refused:
        await retain(cluster, cluster.tier1, settings, Hands())
    assert "--yes" in str(refused.value) and refused.value.exit_status == 1
    assert len(await names(cluster, cluster.tier1)) == 3
    assert await figures(cluster) == {"refused": 1, "backups": 0, "freed": 0, "start": made[0].finished}
    plan = await plan_retention(cluster, cluster.tier1, settings, Hands())
    assert plan.needs_yes and "--yes" in list(plan_lines(plan, dry=True))[-1]
    assert await maintain(cluster, settings, Hands()) == []
    await retain(cluster, cluster.tier1, settings, Hands(), yes=True)
    assert await names(cluster, cluster.tier1) == ["backup 3"]
    found = await figures(cluster)
    assert found == {"refused": 0, "backups": 2, "freed": 0, "start": made[2].finished, "latest": START}
    [done] = await maintain(cluster, settings, Hands(START + DAY))
    assert (await figures(cluster))["freed"] == done.freed > 0


async def figures(cluster: Cluster) -> dict[str, float]:
    """What tier 1's collector tells."""
    words = {
        "recovery_start": "start",
        "_refused": "refused",
        "backups": "backups",
        "freed": "freed",
        "latest": "latest",
    }
    found = dict[str, float]()
    async for sample in RetentionCollector(cluster, cluster.tier1, Hands()).collect():
        assert sample.labels == ("main", "1") and isinstance(sample.value, float)
        found[next(word for part, word in words.items() if part in sample.family.name)] = sample.value
    return found


async def test_exactly_half(tmp_path: Path) -> None:
    """Half of the backups go without a question."""
    settings = settings_of(tmp_path, RetentionSettings(keep_latest=1, pitr=0.0, grace=DAY))
    cluster = await opened(settings)
    await backups(cluster, 2)
    await apply(cluster, cluster.tier1, settings, Hands())
    assert await names(cluster, cluster.tier1) == ["backup 2"]


async def test_the_newest_verified_stays(tmp_path: Path) -> None:
    """The newest backup that was read and found sound stays until a newer one is; one found damaged counts for none."""
    settings = settings_of(tmp_path, RetentionSettings(keep_latest=2, pitr=0.0, grace=DAY))
    cluster = await opened(settings)
    made = await backups(cluster, 5)
    await verdict(cluster, cluster.tier1, made[1], sound=True)
    await verdict(cluster, cluster.tier1, made[3], sound=False)
    await apply(cluster, cluster.tier1, settings, Hands())
    assert await names(cluster, cluster.tier1) == ["backup 2", "backup 3", "backup 4", "backup 5"]
    await verdict(cluster, cluster.tier1, made[3], sound=True)
    await apply(cluster, cluster.tier1, settings, Hands())
    assert await names(cluster, cluster.tier1) == ["backup 4", "backup 5"]


async def test_a_backup_without_its_wal_counts_for_none(tmp_path: Path) -> None:
    """A backup whose WAL is not there keeps no other from its place: it cannot be restored."""
    settings = settings_of(tmp_path, RetentionSettings(keep_latest=2, pitr=0.0, grace=DAY))
    cluster = await opened(settings)
    await backups(cluster, 4)
    (cluster.folder / "wal" / f"{1:08X}{0:08X}" / Segment(1, LSN(3 * SEGMENT), SEGMENT).name).unlink()
    await apply(cluster, cluster.tier1, settings, Hands())
    assert await names(cluster, cluster.tier1) == ["backup 2", "backup 3", "backup 4"]


async def test_a_clock_set_back_a_day(tmp_path: Path) -> None:
    """With the clock set back a day retention lets nothing go and deletes nothing that it would not have by the right
    one; and a backup that is taken then does not pass for an old one when the clock is right again."""
    settings = settings_of(tmp_path, RetentionSettings(keep_latest=1, pitr=1.5 * DAY, grace=HOUR))
    cluster, clock = await opened(settings), Hands()
    made = await backups(cluster, 4)
    before = await on_disk(cluster.tier1.base)
    clock.now -= DAY
    plan = await apply(cluster, cluster.tier1, settings, clock)
    assert not plan.forget and not plan.freed and await on_disk(cluster.tier1.base) == before
    await write_wal(cluster, Segment(1, LSN(6 * SEGMENT), SEGMENT))
    back = await backup(cluster, cluster.tier1, 5, clock.now + HOUR)
    clock.now = START + HOUR
    plan = await apply(cluster, cluster.tier1, settings, clock)
    assert await names(cluster, cluster.tier1) == [f"backup {number}" for number in (2, 3, 4, 5)]
    assert plan.forget.keys() == {made[0].id}
    clock.now = START  # and back again, before the grace period is over
    assert (await apply(cluster, cluster.tier1, settings, clock)).idle
    clock.now = START + 2 * HOUR
    await apply(cluster, cluster.tier1, settings, clock)
    await check_exact(cluster.tier1)
    await check_restores(cluster, cluster.tier1, tmp_path / "out", [*made[1:], back])


async def test_a_clock_that_is_ahead_a_year(tmp_path: Path) -> None:
    """With the clock a year ahead nothing changes. When a backup is taken by it all others look old: more than half
    does not go, and what goes all the same is taken back when the clock is right again."""
    settings = settings_of(tmp_path, RetentionSettings(keep_latest=2, pitr=30 * DAY, grace=DAY))
    cluster, clock = await opened(settings), Hands(START + 365 * DAY)
    made = await backups(cluster, 6)
    assert (await apply(cluster, cluster.tier1, settings, clock)).idle
    await write_wal(cluster, Segment(1, LSN(8 * SEGMENT), SEGMENT))
    await backup(cluster, cluster.tier1, 7, clock.now)
    with pytest.raises(RetentionRefused, match="clock"):
        await apply(cluster, cluster.tier1, settings, clock)
    await apply(cluster, cluster.tier1, settings, clock, yes=True)
    assert await names(cluster, cluster.tier1) == ["backup 6", "backup 7"]
    clock.now = START
    plan = await apply(cluster, cluster.tier1, settings, clock)
    assert plan.recall.keys() == ids(made[:5])
    assert await names(cluster, cluster.tier1) == [f"backup {number}" for number in range(1, 8)]
    assert not (await cluster.tier1.repository(clock)).in_grace
    clock.now += 400 * DAY
    assert not (await plan_retention(cluster, cluster.tier1, settings, clock)).expired


async def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    """Where a list of files that stays cannot be read nothing is removed: what it needs is not known."""
    settings = settings_of(tmp_path, replace(LATEST_3, grace=0.0))
    cluster = await opened(settings)
    made = await backups(cluster, 4)
    before = await on_disk(cluster.tier1.base)
    await cluster.tier1.base.replace(made[3].key, b"x" * made[3].size)
    with pytest.raises(IntegrityError, match=made[3].key):
        await apply(cluster, cluster.tier1, settings, Hands())
    assert await on_disk(cluster.tier1.base) == before and len(await names(cluster, cluster.tier1)) == 4


# --- two tiers


async def test_a_backup_that_tier_2_has_yet_to_get(tmp_path: Path) -> None:
    """In tier 1 a backup stays until tier 2 has had it; tier 2 keeps the WAL of one that is still to come."""
    settings = settings_of(tmp_path, RetentionSettings(keep_latest=1, pitr=0.0, grace=0.0), LATEST_3)
    cluster = await opened(settings)
    assert cluster.tier2 is not None
    await backups(cluster, 4)
    plan = await apply(cluster, cluster.tier1, settings, Hands())
    assert not plan.forget and plan.decisions[0].reasons == ["pinned: not yet in tier 2"]
    for number in (2, 3, 4):
        await backup(cluster, cluster.tier2, number, START)
    plan = await apply(cluster, cluster.tier2, settings, Hands())
    assert plan.idle and plan.wal.floor is not None and plan.wal.floor.lsn == SEGMENT + 0x28
    await apply(cluster, cluster.tier1, settings, Hands())
    assert await names(cluster, cluster.tier1) == ["backup 1", "backup 4"]
    await backup(cluster, cluster.tier2, 1, START)
    await apply(cluster, cluster.tier1, settings, Hands())
    assert await names(cluster, cluster.tier1) == ["backup 4"]


async def test_wal_of_tier_2(tmp_path: Path) -> None:
    """Segments and parts below the lowest start of what tier 2 keeps go; histories, and a timeline that has no backup
    yet, stay."""
    settings = settings_of(tmp_path, RetentionSettings(), RetentionSettings(keep_latest=2, pitr=0.0, grace=0.0))
    cluster = await opened(settings)
    assert cluster.tier2 is not None
    await backups(cluster, 4)
    for number in (3, 1, 4, 2):  # copies come in any order
        await backup(cluster, cluster.tier2, number, START - 5 + number)
    root = cluster.tier2.root
    parts = [part_key(Segment(1, LSN(number * SEGMENT), SEGMENT), 4096) for number in (1, 3)]
    newer = segment_key(Segment(2, LSN(SEGMENT), SEGMENT))
    for key in (*parts, newer):
        await root.create(key, b"")
    await root.create("wal/00000002.history", b"1\t0/100000\tno recovery target specified\n")
    plan = await apply(cluster, cluster.tier2, settings, Hands())
    assert await names(cluster, cluster.tier2) == ["backup 3", "backup 4"]
    left = {each.key async for page in root.list("wal/") for each in page}
    segments = {segment_key(Segment(1, LSN(number * SEGMENT), SEGMENT)) for number in (3, 4, 5)}
    assert left == segments | {parts[1], newer, "wal/00000002.history"}
    assert len(plan.wal.segments) == 2 and plan.wal.bytes > 0
    assert held_wal(cluster) == [1, 2, 3, 4, 5]


async def test_wal_that_tier_2_lacks_stays_in_tier_1(tmp_path: Path) -> None:
    """In tier 1 nothing goes behind the first segment that tier 2 needs and does not hold."""
    settings = settings_of(tmp_path, RetentionSettings(keep_latest=1, pitr=0.0, grace=0.0), RetentionSettings())
    cluster = await opened(settings)
    assert cluster.tier2 is not None
    await backups(cluster, 4)
    for number in range(1, 5):
        await backup(cluster, cluster.tier2, number, START)
    missing = segment_key(Segment(1, LSN(2 * SEGMENT), SEGMENT))
    kept = await cluster.tier2.root.read(missing)
    await cluster.tier2.root.delete(missing)
    await apply(cluster, cluster.tier1, settings, Hands(), yes=True)
    assert await names(cluster, cluster.tier1) == ["backup 4"] and held_wal(cluster) == [2, 3, 4, 5]
    await cluster.tier2.root.create(missing, kept)
    await apply(cluster, cluster.tier1, settings, Hands())
    assert held_wal(cluster) == [4, 5]


async def test_no_backup_at_all(tmp_path: Path) -> None:
    """Without a backup no WAL goes."""
    settings = settings_of(tmp_path, LATEST_3)
    cluster = await opened(settings)
    await write_wal(cluster, Segment(1, LSN(SEGMENT), SEGMENT))
    await write_wal(cluster, Segment(1, LSN(2 * SEGMENT), SEGMENT))
    plan = await apply(cluster, cluster.tier1, settings, Hands())
    assert plan.idle and plan.wal.floor is None and held_wal(cluster) == [1, 2]
    assert "no backup" in list(plan_lines(plan, dry=False))[-1]


# --- at work


async def test_what_is_told(tmp_path: Path) -> None:
    """Every backup is told with its fate and the reasons, for people and for programs; nothing is changed by that."""
    settings = settings_of(tmp_path, replace(LATEST_3, keep_daily=2, pitr=1.5 * DAY))
    cluster, clock = await opened(settings), Hands()
    made = await backups(cluster, 5)
    for _ in range(2):
        plan = await plan_retention(cluster, cluster.tier1, settings, clock)
        lines = list(plan_lines(plan, dry=True))
        assert lines[0] == "main, tier 1: 5 backups, 2 of them let go now"
        assert lines[1].startswith(f"  let go     {made[0].id[:12]}  backup 1") and "no rule keeps it" in lines[1]
        assert lines[5].endswith(
            "among the newest 3; newest of the day 2026-09-21; finished within the last 1 d 12 h; the newest"
        )
        assert lines[-1] == "  nothing was changed: --dry-run"
    body = plan_json(plan, dry=True)
    assert [each["fate"] for each in body["backups"]] == ["let go", "let go", "keep", "keep", "keep"]
    assert body["backups"][0]["bytes_until"] == START + DAY and not body["needs_yes"]
    await apply(cluster, cluster.tier1, settings, clock)
    clock.now += DAY
    after = plan_json(await plan_retention(cluster, cluster.tier1, settings, clock), dry=True)
    assert [each["fate"] for each in after["backups"]] == ["delete", "delete", "keep", "keep", "keep"]
    assert after["objects"]["bytes"] > 0 and after["wal"] == {
        "before": "0/300028",
        "segments": 2,
        "bytes": after["wal"]["bytes"],
    }


async def test_an_unknown_time_zone(tmp_path: Path) -> None:
    """A time zone that does not exist is told."""
    settings = settings_of(tmp_path, LATEST_3)
    settings = replace(settings, backup=replace(settings.backup, timezone="Mars/Olympus"))
    cluster = await opened(settings)
    await backups(cluster, 1)
    with pytest.raises(ConfigError, match="Mars/Olympus"):
        await plan_retention(cluster, cluster.tier1, settings, Hands())


async def test_once_a_day(tmp_path: Path) -> None:
    """The service runs what was missed at once and then once a day, whatever the wall clock does meanwhile."""
    settings = settings_of(tmp_path, LATEST_3)
    cluster, clock = await opened(settings), FakeClock(START)
    await backups(cluster, 5)
    service = asyncio.ensure_future(RetentionService([cluster], settings, clock).run())
    journal = Journal(cluster.folder)

    def done(count: int) -> bool:
        """Done, and waiting for the next time."""
        found = journal.read().retention.get("1")
        return found is not None and found.latest >= START + count * DAY and bool(clock._sleepers)

    try:
        await until(lambda: done(0))
        assert await names(cluster, cluster.tier1) == ["backup 3", "backup 4", "backup 5"]
        await clock.advance(DAY)
        await until(lambda: done(1))
        await check_exact(cluster.tier1)
    finally:
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)
