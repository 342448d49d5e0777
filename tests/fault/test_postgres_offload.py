"""What lies in tier 2 is right, whoever put it there, and tier 1 keeps what tier 2 lacks."""

from __future__ import annotations

import logging
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.offloading import (
    FIRST,
    IDENTITY,
    MIB,
    back_up,
    contents_of,
    figure,
    holds,
    key_of,
    keys,
    offload_now,
    opened,
    postgres_settings,
    segment,
    wal,
    write,
)

from tallykeep.clock import SystemClock
from tallykeep.config.model import Secret
from tallykeep.errors import ConfigError, NotFound, Refused, Unavailable
from tallykeep.metrics import Book
from tallykeep.systems.postgres import coverage, families
from tallykeep.systems.postgres.archiver import Archiver
from tallykeep.systems.postgres.cluster import Cluster, Tier
from tallykeep.systems.postgres.collector import held_wal
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.locks import BACKUP as BACKUP_LOCK
from tallykeep.systems.postgres.locks import exclusive, writing
from tallykeep.systems.postgres.lsn import LSN, history_name
from tallykeep.systems.postgres.offload.collector import Tier2LagCollector
from tallykeep.systems.postgres.offload.deleting import deletable, delete_wal
from tallykeep.systems.postgres.offload.items import BACKUP, WAL, Item, Letter
from tallykeep.systems.postgres.offload.ownership import claim, take_over
from tallykeep.systems.postgres.offload.partial import copy_partial
from tallykeep.systems.postgres.offload.reconciling import Reconciler
from tallykeep.systems.postgres.offload.standing import Standing
from tallykeep.systems.postgres.offload.work import Worker
from tallykeep.systems.postgres.repository.entries import ForgottenEntry, RemovedEntry
from tallykeep.systems.postgres.retention.wal import Floor, needless_wal
from tallykeep.systems.postgres.settings import PostgresSettings
from tallykeep.systems.postgres.slot import ServerState
from tallykeep.systems.postgres.wal_source import history_key

CLOCK = SystemClock()


def tier2(cluster: Cluster) -> Tier:
    """It has one."""
    assert cluster.tier2 is not None
    return cluster.tier2


async def now(cluster: Cluster, settings: PostgresSettings, book: Book | None = None) -> Standing:
    """One comparison of the tiers, everything copied."""
    return await offload_now(cluster, settings, book or Book(), CLOCK)


@pytest.mark.parametrize("key", [False, True], ids=["plain", "encrypted"])
async def test_a_truncated_object_with_a_final_name_is_found_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, key: bool
) -> None:
    """An object that was cut does not pass for a segment: tier 1 keeps its own, puts it there, and says so."""
    settings = postgres_settings(tmp_path, key=key)
    cluster = await opened(settings)
    write(cluster, 4.5)
    whole = (cluster.folder / key_of(1)).read_bytes()
    await claim(cluster, tier2(cluster), CLOCK)
    await tier2(cluster).root.create(key_of(1), whole[:-5000])
    assert [stored.segment for stored in await deletable(cluster, LSN(FIRST + 4 * MIB))] == []
    standing = await now(cluster, settings)
    assert await holds(cluster, 0, 1, 2, 3) and not standing.failed
    assert await tier2(cluster).root.read(key_of(1)) == whole
    assert "was damaged, and is replaced" in caplog.text
    gone = await deletable(cluster, LSN(FIRST + 4 * MIB))
    assert [stored.segment for stored in gone] == [segment(number) for number in range(4)]


async def test_any_other_damage_is_replaced_when_it_is_met(tmp_path: Path) -> None:
    """An object of the right size with a flipped byte is replaced too, once its upload is asked for."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 1.5)
    whole = (cluster.folder / key_of(0)).read_bytes()
    await claim(cluster, tier2(cluster), CLOCK)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    await tier2(cluster).root.create(key_of(0), bytes(flipped))
    standing = await now(cluster, settings)
    standing.lacking.add(segment(0))
    await Worker([standing], Book(), CLOCK, 2).do(Item(WAL, "main", segment(0).name))
    assert await tier2(cluster).root.read(key_of(0)) == whole


async def test_other_wal_under_the_name_is_never_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Sound WAL of somebody else stays; the segment has failed, and everything behind it stays in tier 1."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    other = await opened(postgres_settings(tmp_path / "other"))
    write(cluster, 4.5)
    write(other, 2.5, seed=1)
    theirs = (other.folder / key_of(1)).read_bytes()
    await claim(cluster, tier2(cluster), CLOCK)
    await tier2(cluster).root.create(key_of(1), theirs)
    book = Book()
    standing = await now(cluster, settings, book)
    assert await holds(cluster, 0, 2, 3)
    assert await tier2(cluster).root.read(key_of(1)) == theirs
    (problem,) = standing.failed.values()
    assert "holds something else than tier 1 does, and is sound" in problem and "remove the other" in problem
    assert [record.levelname for record in caplog.records if "was not copied" in record.message] == ["ERROR"]
    assert [stored.segment for stored in await deletable(cluster, LSN(FIRST + 4 * MIB))] == [segment(0)]
    assert figure(book, families.CONSUMER_WRITTEN, cluster_name="main") == 3
    assert standing.position() == segment(1).start
    await tier2(cluster).root.delete(key_of(1))
    assert not (await now(cluster, settings)).failed
    assert len(await deletable(cluster, LSN(FIRST + 4 * MIB))) == 4


async def test_the_same_wal_in_other_bytes_is_held(tmp_path: Path) -> None:
    """A tier 1 that received the same WAL anew finds it in tier 2, puts nothing there, and may delete."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 2.5)
    await now(cluster, settings)
    before = await tier2(cluster).root.read(key_of(0))
    for path in (cluster.folder / "wal").rglob("*"):
        if path.is_file():
            path.unlink()
    write(cluster, 2.5, piece=MIB // 4)  # in four blocks instead of one, so its size is another
    book = Book()
    standing = await now(cluster, settings, book)
    assert not standing.failed and standing.proved
    assert await tier2(cluster).root.read(key_of(0)) == before
    standing = await now(cluster, settings, book)
    assert await tier2(cluster).root.read(key_of(0)) == before
    assert figure(book, families.CONSUMER_WRITTEN, cluster_name="main") == 0
    assert len(await deletable(cluster, LSN(FIRST + 2 * MIB))) == 2


async def test_damage_in_tier_1_does_not_spread(tmp_path: Path) -> None:
    """A segment that is damaged in tier 1 is not copied, replaces nothing, and has failed by name."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 3.5)
    path = cluster.folder / key_of(1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    standing = await now(cluster, settings)
    assert key_of(1) not in await keys(tier2(cluster).root)
    assert await holds(cluster, 0, 2)
    assert [item.name for item in standing.failed] == [segment(1).name]
    assert [stored.segment for stored in await deletable(cluster, LSN(FIRST + 3 * MIB))] == [segment(0)]


async def test_deletion_follows_what_is_uploaded_without_a_hole(tmp_path: Path) -> None:
    """A segment that tier 2 lacks stays in tier 1 with everything behind it; the newest file stays in any case."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 5)
    await now(cluster, settings)
    await tier2(cluster).root.delete(key_of(2))
    gone = await deletable(cluster, LSN(FIRST + 100 * MIB))
    assert [stored.segment for stored in gone] == [segment(0), segment(1)]
    assert [stored.segment for stored in await deletable(cluster, LSN(FIRST + MIB))] == [segment(0)]
    deleted = await delete_wal(cluster, gone)
    assert deleted.segments == 2 and deleted.size == sum(stored.size for stored in gone)
    await now(cluster, settings)
    rest = await deletable(cluster, LSN(FIRST + 100 * MIB))
    assert [stored.segment for stored in rest] == [segment(2), segment(3)]
    write(cluster, 1)  # an archive goes on after its WAL was deleted
    assert await cluster.tier1.wal.read(segment(5)) == wal(segment(5).start, MIB)


async def test_a_copy_elsewhere_below_wal_is_no_segment(tmp_path: Path) -> None:
    """What somebody has put into a folder of its own does not count as held, nor as WAL that can be restored."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 3.5)
    await claim(cluster, tier2(cluster), CLOCK)
    for number in range(3):
        data = (cluster.folder / key_of(number)).read_bytes()
        await tier2(cluster).root.create(f"wal/old/{key_of(number)}", data)
    await tier2(cluster).root.create("wal/old/00000002.history", b"")
    assert await deletable(cluster, LSN(FIRST + 3 * MIB)) == [] and await tier2(cluster).wal.segments() == []
    standing = await now(cluster, settings)
    assert standing.remote is not None and not standing.remote.timelines
    assert await holds(cluster, 0, 1, 2)
    going = await needless_wal(cluster, tier2(cluster), Floor(LSN(FIRST + 3 * MIB), 1))
    assert sorted(going.keys) == [key_of(number) for number in range(3)]


async def test_deletion_without_a_tier_2(tmp_path: Path) -> None:
    """Retention's word alone counts where there is no tier 2."""
    settings = postgres_settings(tmp_path)
    cluster = replace(await opened(settings), tier2=None)
    write(cluster, 4.5)
    assert len(await deletable(cluster, LSN(FIRST + 3 * MIB))) == 3


async def test_what_was_never_completed_goes_as_well(tmp_path: Path) -> None:
    """What a promotion left of a segment is no gap for ever; it goes only when tier 2 has as much of it."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 1.5)
    archiver = Archiver(cluster.folder, cluster.cipher)
    archiver.claim(IDENTITY)
    archiver.put_history(2, f"1\t{LSN(FIRST + 3 * MIB // 2)}\tno recovery target specified\n")
    archiver.begin(2, segment(1).start)
    archiver.append(segment(1).start, wal(segment(1).start, 3 * MIB, 2))
    archiver.close()
    standing = await now(cluster, settings)
    floor = LSN(FIRST + 3 * MIB)
    assert [stored.segment for stored in await deletable(cluster, floor)] == [segment(0), segment(1, 2), segment(2, 2)]
    await copy_partial(standing)
    gone = await deletable(cluster, floor)
    assert [stored.segment for stored in gone] == [segment(0), segment(1), segment(1, 2), segment(2, 2)]
    await delete_wal(cluster, gone)
    assert held_wal(cluster.archive) == ([], coverage.Range(floor, LSN(floor + MIB)), 2)


class Promoted(Tier2LagCollector):
    """Asks a server that was promoted half a segment before what had arrived from the old one."""

    def _primary(self) -> ServerState:
        return ServerState(standby=False, lsn=LSN(FIRST + MIB * 3 // 4), keep="-1", slot=None, timeline=2)


async def test_wal_of_the_old_primary_does_not_pass_for_that_of_a_promoted_standby(tmp_path: Path) -> None:
    """Tier 2 holds more bytes than the new primary ever wrote, and not the quarter of a segment behind the fork."""
    cluster = await opened(settings := postgres_settings(tmp_path))
    write(cluster, 1.5)
    standing = await now(replace(cluster, conninfo="host=/nowhere"), settings)
    collector = Promoted(standing, CLOCK, 1.0)
    with pytest.raises(Unavailable, match="on timeline 2, and what is held on 1"):
        assert [sample async for sample in collector.collect()] == []
    history = f"1\t{LSN(FIRST + MIB // 2)}\tno recovery target specified\n".encode()
    name = history_name(2)
    assert cluster.cipher is not None
    (cluster.archive.wal / name).write_bytes(cluster.cipher.seal(history, name.encode()))
    figures = {sample.family: sample.value async for sample in collector.collect()}
    assert figures[families.RPO_BYTES] == MIB // 4


async def test_nothing_may_go_where_tier_2_holds_another_cluster(tmp_path: Path) -> None:
    """The names of segments are the same for every cluster: those of another count for nothing."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 3.5)
    await now(cluster, settings)
    other = await opened(replace(settings, archive=tmp_path / "other"))
    write(other, 3.5, identity=IDENTITY._replace(system_id=5))
    assert await deletable(other, LSN(FIRST + 3 * MIB)) == []
    with pytest.raises(Refused, match="It is another cluster"):
        await claim(other, tier2(other), CLOCK, take_over=True)


async def test_a_tier_2_belongs_to_one_tier_1(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A second tier 1 is refused until it takes over; then the first one notices, says so, and stops."""
    settings = postgres_settings(tmp_path)
    first = await opened(settings)
    write(first, 1.5)
    await now(first, settings)
    elsewhere = replace(settings, archive=tmp_path / "rebuilt")
    second = await opened(elsewhere)
    assert not await claim(second, tier2(second), CLOCK)  # it knows no cluster yet
    write(second, 2.5)
    with pytest.raises(Refused, match=r"another server writes there, on .* --take-over"):
        await claim(second, tier2(second), CLOCK)
    assert key_of(1) not in await keys(tier2(second).root)
    assert await claim(second, tier2(second), CLOCK, take_over=True)
    await now(second, elsewhere)
    assert await holds(second, 0, 1)
    write(first, 2)
    with pytest.raises(Refused, match="another server writes there"):
        await now(first, settings)
    assert key_of(2) not in await keys(tier2(second).root)


async def test_a_server_takes_over_before_it_knows_its_cluster(tmp_path: Path) -> None:
    """On a new machine, before the first connection; taken over by mistake with another cluster it is refused."""
    settings = postgres_settings(tmp_path)
    first = await opened(settings)
    write(first, 1.5)
    await now(first, settings)
    for name, system_id in (("rebuilt", IDENTITY.system_id), ("mistaken", 5)):
        elsewhere = replace(settings, archive=tmp_path / name)
        second = await opened(elsewhere)
        assert await take_over(second, tier2(second), CLOCK)
        assert await take_over(second, tier2(second), CLOCK) == ""
        write(second, 2.5, identity=IDENTITY._replace(system_id=system_id))
        if name == "rebuilt":
            await now(second, elsewhere)
            assert await holds(second, 0, 1)
        else:
            with pytest.raises(Refused, match="It is another cluster"):
                await now(second, elsewhere)


async def test_wal_does_not_wait_for_a_tier_2_that_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A start goes on without tier 2; its key is looked at before anything is written there."""
    settings = postgres_settings(tmp_path, key=False)
    write(await opened(settings), 1.5)
    (tmp_path / "tier2" / "main" / "key.json").unlink()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and listens to none
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        nowhere = replace(settings, tier2=replace(settings.tier2, url="s3://nowhere", timeout=1.0, endpoint=endpoint,
                                                  access_key="a", secret_key=Secret("b")))  # fmt: skip
        cluster = await opened(nowhere)
    assert "tier 2 cannot be looked at now" in caplog.text
    write(cluster, 1)
    await cluster.close()


async def test_another_key_is_refused(tmp_path: Path) -> None:
    """Nothing is written to a tier 2 that was written with another key."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 1.5)
    await now(cluster, settings)
    plain = replace(postgres_settings(tmp_path, key=False), archive=tmp_path / "other")
    with pytest.raises(ConfigError, match="was written with a key"):
        await opened(plain)


@pytest.mark.parametrize("key", [False, True], ids=["plain", "encrypted"])
async def test_a_segment_that_is_not_complete_is_in_tier_2_as_far_as_it_is(tmp_path: Path, key: bool) -> None:
    """Each copy of it has all that tier 1 has; the older one goes, and the last with the whole segment."""
    settings = postgres_settings(tmp_path, key=key)
    cluster = await opened(settings)
    write(cluster, 1.25)
    standing = await now(cluster, settings)
    assert await copy_partial(standing) > 0
    assert await copy_partial(standing) == 0, "nothing new"
    assert await tier2(cluster).wal.read(segment(1)) == wal(segment(1).start, MIB // 4)
    assert standing.position() == FIRST + MIB + MIB // 4
    write(cluster, 0.5)
    await copy_partial(standing)
    (part,) = [key for key in await keys(tier2(cluster).root, "wal/") if key.endswith(".part")]
    assert part == f"{key_of(1)}.{MIB * 3 // 4:010d}.part"
    held = await tier2(cluster).wal.segments()
    assert [(one.segment, one.end) for one in held] == [
        (segment(0), segment(0).end), (segment(1), FIRST + MIB + MIB * 3 // 4)
    ]  # fmt: skip
    write(cluster, 0.25)
    await now(cluster, settings)
    assert not [key for key in await keys(tier2(cluster).root) if key.endswith(".part")]
    assert await holds(cluster, 0, 1)


async def test_histories_go_at_once(tmp_path: Path) -> None:
    """A history file is in tier 2 after the first comparison; another one under its name is an error."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 1.5)
    path = cluster.archive.wal / history_name(2)
    text, cipher = "1\t0/400000\tno recovery target specified\n", cluster.cipher
    assert cipher is not None
    path.write_bytes(cipher.seal(text.encode(), path.name.encode()))
    await now(cluster, settings)
    assert await tier2(cluster).wal.history_text(2) == text
    await tier2(cluster).root.replace(history_key(2), cipher.seal(b"other", path.name.encode()))
    standing = await now(cluster, settings)
    standing.begin()
    with pytest.raises(Exception, match="something else than tier 1 does"):
        await Worker([standing], Book(), CLOCK, 2).do(Item(WAL, "main", history_name(2)))


@pytest.mark.parametrize("whole", [True, False])
async def test_wal_of_a_new_timeline_goes_behind_its_history(tmp_path: Path, whole: bool) -> None:
    """After a promotion, too, when the comparison of the tiers is long ago: tier 2 is never left unreadable by it."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 1)
    standing = await now(cluster, settings)
    archiver = Archiver(cluster.folder, cluster.cipher)
    archiver.claim(IDENTITY)
    archiver.put_history(2, f"1\t{segment(1).start}\tno recovery target specified\n")
    archiver.begin(2, segment(1).start)
    archiver.append(segment(1).start, wal(segment(1).start, MIB if whole else MIB // 2, 2))
    archiver.flush()
    archiver.close()
    if whole:
        await Worker([standing], Book(), CLOCK, 2).do(Item(WAL, "main", segment(1, 2).name))
    else:
        await copy_partial(standing)
    assert await tier2(cluster).wal.timelines() == [2]
    assert (await tier2(cluster).wal.segments())[-1].segment == segment(1, 2)


BACKUPS = [f"{number:032x}" for number in (1, 2, 3)]


async def test_base_backups_are_the_same_in_both_tiers(tmp_path: Path) -> None:
    """A backup has the same id and bytes in tier 2; what two backups share goes there once."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 3.5)
    shared = os.urandom(20 << 20)
    first = await back_up(cluster, BACKUPS[0], [shared, b"a"])
    await now(cluster, settings)
    packs = await keys(tier2(cluster).base, "packs/")
    second = await back_up(cluster, BACKUPS[1], [shared, b"b" * 1000])
    await now(cluster, settings)
    repository = await tier2(cluster).repository(CLOCK)
    assert dict(repository.backups) == {first.id: first, second.id: second}
    assert await contents_of(repository, second) == [shared, b"b" * 1000]
    assert len(await keys(tier2(cluster).base, "packs/")) == len(packs) + 1


async def test_a_backup_that_is_being_taken_is_left_to_who_takes_it(tmp_path: Path) -> None:
    """While it waits for its WAL, or is read, a comparison does not copy it; earlier ones it does; later all."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 1.5)
    first = await back_up(cluster, BACKUPS[0], [b"a"])
    Journal(cluster.folder).backups(latest_start=5.0)
    with exclusive(cluster.folder / BACKUP_LOCK, "a backup is being taken"):
        second = await back_up(cluster, BACKUPS[1], [b"b"], started=6.0)
        await now(cluster, settings)
        assert list((await tier2(cluster).repository(CLOCK)).backups) == [first.id]
    await now(cluster, settings)
    assert list((await tier2(cluster).repository(CLOCK)).backups) == [first.id, second.id]


async def test_a_backup_shows_in_tier_2_only_when_all_of_it_is_there(tmp_path: Path) -> None:
    """With a damaged pack in tier 1 nothing of the backup shows, and the pack is named; other backups go on."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 1.5)
    bad = await back_up(cluster, BACKUPS[0], [os.urandom(40 << 20)])
    name = sorted(await keys(cluster.tier1.base, "packs/"))[1]
    good = await back_up(cluster, BACKUPS[1], [b"sound"])
    path = cluster.folder / "base" / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    standing = await now(cluster, settings)
    repository = await tier2(cluster).repository(CLOCK)
    assert list(repository.backups) == [good.id]
    assert name in standing.failed[Item(BACKUP, "main", bad.id)]
    path.write_bytes(data)
    assert not (await now(cluster, settings)).failed
    repository = await tier2(cluster).repository(CLOCK)
    assert bad.id in repository.backups and len(await contents_of(repository, bad)) == 1


async def test_packs_of_an_attempt_that_died_are_used_or_mended(tmp_path: Path) -> None:
    """A pack without a record is used when it is sound, and replaced when it is damaged or cut."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 1.5)
    content = os.urandom(40 << 20)
    entry = await back_up(cluster, BACKUPS[0], [content])
    sound, damaged, cut = sorted(await keys(cluster.tier1.base, "packs/"))
    for name, change in ((sound, 0), (damaged, 1), (cut, 2)):
        data = await cluster.tier1.base.read(name)
        wrong = {0: data, 1: data[:-1] + bytes([data[-1] ^ 1]), 2: data[:-100]}[change]
        await tier2(cluster).base.create(name, wrong)
    await now(cluster, settings)
    assert await contents_of(await tier2(cluster).repository(CLOCK), entry) == [content]


async def test_what_tier_2_has_let_go_does_not_come_back(tmp_path: Path) -> None:
    """A backup that was forgotten in tier 2 is not copied again, nor is the WAL from before the oldest it keeps."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 4.5)
    first = await back_up(cluster, BACKUPS[0], [b"a"], start=FIRST)
    second = await back_up(cluster, BACKUPS[1], [b"b"], start=FIRST + 2 * MIB)
    await now(cluster, settings)
    async with writing(cluster, tier2(cluster), CLOCK) as repository:
        await repository.commit([ForgottenEntry(first.id, 1.0, "test"), RemovedEntry(2.0, [first.key])])
    for number in (0, 1):
        await tier2(cluster).root.delete(key_of(number))
    standing = await now(cluster, settings)
    assert list((await tier2(cluster).repository(CLOCK)).backups) == [second.id]
    assert not {key_of(0), key_of(1)} & await keys(tier2(cluster).root)
    assert not standing.lacking
    assert len(await deletable(cluster, LSN(FIRST + 3 * MIB))) == 3


async def test_a_pack_that_tier_2_has_removed_comes_back_under_another_name(tmp_path: Path) -> None:
    """A deletion that is still under way, whoever does it, does not hit what a later backup needs."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 1.5)
    first = await back_up(cluster, BACKUPS[0], [b"shared" * 1000])
    await now(cluster, settings)
    async with writing(cluster, tier2(cluster), CLOCK) as repository:
        removed = sorted(repository.keys())
        await repository.commit([ForgottenEntry(first.id, 1.0, "test"), RemovedEntry(2.0, removed)])
    second = await back_up(cluster, BACKUPS[1], [b"shared" * 1000])
    await now(cluster, settings)
    for key in removed:
        await tier2(cluster).base.delete(key)
    repository = await tier2(cluster).repository(CLOCK)
    assert await contents_of(repository, second) == [b"shared" * 1000]
    assert list(repository.backups) == [second.id]


async def test_a_tier_2_that_was_emptied_is_filled_again(tmp_path: Path) -> None:
    """A bucket is emptied, or another put in its place, under a running server: base backups come again as well."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 2.5)
    entry = await back_up(cluster, "aa" * 16, [b"a" * 5000])
    standing = Standing(cluster, tier2(cluster))
    reconciler = Reconciler(standing, Worker([standing], Book(), CLOCK, 2), None, 600, CLOCK, 2)
    for _ in range(2):
        await reconciler.compare()
    shutil.rmtree(tmp_path / "tier2" / "main")
    (tmp_path / "tier2" / "main" / "base").mkdir(parents=True)
    await reconciler.compare()
    assert await holds(cluster, 0, 1)
    repository = await tier2(cluster).repository(CLOCK)
    assert await contents_of(repository, entry) == [b"a" * 5000]


async def test_what_tier_1_has_let_go_of_is_dropped(tmp_path: Path) -> None:
    """A message for something that is not there any more is dealt with; one for another cluster too."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 2.5)
    standing = await now(cluster, settings)
    worker = Worker([standing], Book(), CLOCK, 2)
    await worker.do(Item(WAL, "main", segment(99).name))
    await worker.do(Item(BACKUP, "main", BACKUPS[2]))
    await worker.do(Item(WAL, "other", segment(0).name))
    assert not standing.failed


async def test_a_bucket_that_is_gone_is_no_reason_to_drop_anything(tmp_path: Path) -> None:
    """Where it is tier 2 that is not there, that is an error, and not the end of the item."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 2.5)
    standing = await now(cluster, settings)
    (tmp_path / "tier2").rename(tmp_path / "away")
    standing.lacking.add(segment(0))
    standing.remote.segments.pop(segment(0))  # type: ignore[union-attr]
    with pytest.raises(NotFound, match="no such folder"):
        await Worker([standing], Book(), CLOCK, 2).do(Item(WAL, "main", segment(0).name))


def test_an_item_travels_and_comes_back() -> None:
    """A letter is read as it was written; clusters with dots in their names have subjects of their own."""
    for item in (Item(WAL, "a.b", segment(0).name), Item(WAL, "a", history_name(2)), Item(BACKUP, "a", BACKUPS[0])):
        letter = Letter(item, "00-1-2-01", "a problem", 3)
        assert Letter.decode(letter.encode()) == letter
    assert Item(WAL, "a.b", "X").subject == "a/b.X"


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"kind":"wal","cluster":"a","name":"../x"}', b"\xff"])
def test_what_is_no_letter_is_refused(data: bytes) -> None:
    """Anything else in the queue is named as such, and names no file."""
    with pytest.raises(Exception, match="none of tallykeep's"):
        Letter.decode(data)


def test_errors_are_logged_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """The same problem of the same thing is told once, a new one again."""
    item = Item(WAL, "main", segment(0).name)
    standing = Standing.__new__(Standing)
    standing.failed, standing._said = {}, {}
    with caplog.at_level(logging.WARNING):
        for problem in ("one", "one", "two"):
            standing.troubled(item, problem, given_up=True)
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == ["one", "two"]


async def test_a_file_that_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    """A segment that the disk does not give has failed, in words; those behind it are copied."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 4.5)
    path = cluster.folder / key_of(0)
    path.unlink()
    path.mkdir()  # to read it is an error of the system, for root as well
    standing = await now(cluster, settings)
    assert await holds(cluster, 1, 2, 3)
    assert ["cannot be read: Is a directory" in problem for problem in standing.failed.values()] == [True]
