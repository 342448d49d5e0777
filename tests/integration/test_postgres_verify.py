"""Verification of real backups and WAL: what is sound is called so, and any byte changed is found and named."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.postgres import server_folder
from tests.support.postgres_majors import MAJORS, MajorServer
from tests.support.postgres_verify import (
    CLOCK,
    backed_up,
    changed,
    cluster_in,
    fill,
    problems_of,
    streamed,
    switched,
    verified,
    without,
)
from tests.support.postgres_wal import base_backup, place, primary, restored
from tests.support.servers import need

from tallykeep.demo.postgres import MISSING, program
from tallykeep.errors import ConfigError, NotFound
from tallykeep.storage.local import LocalStore
from tallykeep.systems.postgres import blocks
from tallykeep.systems.postgres.cluster import Cluster, prepare
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.locks import writing
from tallykeep.systems.postgres.lsn import LSN, SEGMENT_SIZE, Segment
from tallykeep.systems.postgres.repository.entries import ForgottenEntry, RemovedEntry
from tallykeep.systems.postgres.verifying.verify import verify_tier
from tallykeep.systems.postgres.wal_source import segment_key

__all__ = ["place"]
pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """An archive with two backups of one server, which share most packs, and its WAL; the server is gone."""
    need(str(program("postgres")), MISSING)
    with server_folder() as folder:
        asyncio.run(protected(folder))
        yield folder / "archive"


async def protected(folder: Path) -> None:
    """Make that archive."""
    cluster = cluster_in(folder / "archive")
    await prepare(cluster)
    with primary(folder) as server, streamed(server, cluster):
        fill(server, 20_000)
        await backed_up(server, cluster, "monday")
        fill(server, 5_000)
        await backed_up(server, cluster, "tuesday")
        fill(server, 5_000)
        switched(server)
    await cluster.close()


@pytest.fixture
def cluster(template: Path, tmp_path: Path) -> Cluster:
    """A copy of it, for one test to damage."""
    shutil.copytree(template, tmp_path / "archive")
    return cluster_in(tmp_path / "archive")


def objects(cluster: Cluster, folder: str) -> list[Path]:
    """Files of one kind."""
    return sorted(path for path in (cluster.folder / folder).rglob("*") if path.is_file())


async def wal_of(cluster: Cluster, name: str) -> Path:
    """The segment that a backup begins in."""
    entry = (await cluster.tier1.repository(CLOCK)).backup(name)
    segment = Segment.at(entry.timeline, LSN.parse(entry.start_lsn), SEGMENT_SIZE)
    return cluster.folder / segment_key(segment)


async def test_sound_backups(cluster: Cluster) -> None:
    """Both are sound, every page was compared, and that is written down in the manifest and in the journal."""
    verdicts = await verified(cluster)
    assert sorted(verdicts) == ["monday", "tuesday"]
    assert problems_of(verdicts) == []
    repository = await cluster.tier1.repository(CLOCK)
    for entry in repository.backups.values():
        verdict = verdicts[entry.name]
        assert verdict.sound and verdict.page_checksums and verdict.bytes == entry.raw
        assert verdict.pages > 2000
        assert repository.verified[entry.id].sound
    journal = Journal(cluster.folder).read().verified["1"]
    assert (journal.successes, journal.failures, journal.sound, journal.problem) == (1, 0, True, "")


async def test_any_byte_changed_is_found_and_named(cluster: Cluster) -> None:
    """A bit of any object, wherever it is: the verification names the object, and calls no backup sound for nothing."""
    random.seed(5)
    kinds = {"base/manifest": 6, "base/indexes": 4, "base/backups": 6, "base/packs": 12, "wal": 10}
    await verified(cluster)
    for folder, times in kinds.items():
        for _ in range(times):
            path = random.choice(objects(cluster, folder))
            size = path.stat().st_size
            with changed(path, random.randrange(size), 1 << random.randrange(8)):
                verdicts = await verified(cluster)
            assert any(path.name in problem for problem in problems_of(verdicts)), (path, verdicts)
            if folder == "base/backups":
                assert [verdict.sound for verdict in verdicts.values()].count(False) == 1
    assert problems_of(await verified(cluster)) == []


async def test_a_changed_pack_tells_files_and_bytes(cluster: Cluster) -> None:
    """What is damaged in a pack is told by file, bytes, object and chunk, of the backup that needs it, and noted."""
    repository = await cluster.tier1.repository(CLOCK)
    monday, tuesday = repository.backups.values()
    ours = {id for file in (await repository.files(tuesday)).files for id in file.chunks}
    ours -= {id for file in (await repository.files(monday)).files for id in file.chunks}
    pack, number = repository.place(ours.pop())
    path = cluster.folder / "base" / pack.key
    with changed(path, pack.offsets()[number] + 40):
        verdicts = await verified(cluster)
    assert verdicts["monday"].sound
    [problem] = verdicts["tuesday"].problems
    assert f"{pack.key}, chunk {number} (bytes {pack.offsets()[number]} to" in problem
    assert ", bytes " in problem.split(":")[0]
    noted = (await cluster.tier1.repository(CLOCK)).verified[tuesday.id]
    assert not noted.sound and noted.problem == problem
    journal = Journal(cluster.folder).read().verified["1"]
    assert (journal.failures, journal.problem) == (1, problem)
    assert (await verified(cluster, "1", "monday"))["monday"].sound
    later = Journal(cluster.folder).read().verified["1"]
    assert later == replace(journal, successes=1), "what is wrong with another backup is not forgotten"


async def test_missing_objects(cluster: Cluster) -> None:
    """Whatever is missing is named; a folder that is not there at all is no verdict."""
    for folder in ("base/indexes", "base/backups", "base/packs"):
        path = random.choice(objects(cluster, folder))
        with without(path):
            verdicts = await verified(cluster)
        assert any(path.name in problem for problem in problems_of(verdicts)), verdicts
        assert not all(verdict.sound for verdict in verdicts.values())
    with without(objects(cluster, "base/manifest")[0]):
        [verdict] = (await verified(cluster)).values()
    assert "00000000000000000001" in verdict.problems[0]
    segment = await wal_of(cluster, "monday")
    with without(segment):
        verdicts = await verified(cluster)
    assert any(segment.name in problem for problem in verdicts["monday"].problems)
    shutil.rmtree(cluster.folder / "base")
    with pytest.raises(NotFound):
        await verified(cluster)
    assert Journal(cluster.folder).read().verified["1"].failures == 5


async def test_wal_cut_at_the_border_of_a_block(cluster: Cluster) -> None:
    """A complete segment without its last blocks is no complete one, though every block in it is right."""
    path = await wal_of(cluster, "monday")
    whole = path.read_bytes()
    found = blocks.scan(whole, path.name)
    last = found.blocks[-1]
    assert found.complete
    path.write_bytes(whole[: found.size - blocks.HEAD_SIZE - blocks.HEAD_SIZE - len(last.stored) - 28])
    verdicts = await verified(cluster)
    assert any(path.name in problem for problem in verdicts["monday"].problems)


async def test_a_wrong_key(cluster: Cluster) -> None:
    """Another key is a mistake in the settings; where nothing is left to tell that by, what does not open is told."""
    other = cluster_in(cluster.folder.parent, key=bytes(32))
    with pytest.raises(ConfigError, match="another key"):
        await verified(other)
    (cluster.folder / "key.json").unlink()
    assert any("key" in problem for problem in problems_of(await verified(other)))
    assert Journal(cluster.folder).read().verified["1"].failures == 1


async def test_wal_that_has_not_come(cluster: Cluster) -> None:
    """A backup whose WAL is not in its tier is not sound, and it is told how far the WAL goes."""
    shutil.rmtree(cluster.folder / "wal")
    (cluster.folder / "wal").mkdir()
    verdicts = await verified(cluster, "1", "tuesday")
    assert list(verdicts) == ["tuesday"]
    assert "holds nothing of the WAL segment" in verdicts["tuesday"].problems[0]


@pytest.mark.parametrize("major", MAJORS)
async def test_every_major(place: Path, major: int) -> None:
    """A backup of every major is proved against its own manifest, and so is the WAL that it needs."""
    cluster = cluster_in(place / "archive", key=None)
    await prepare(cluster)
    with MajorServer(major, place / "primary") as server, streamed(server, cluster):
        fill(server, 5_000)
        entry = await backed_up(server, cluster, "monday")
    [verdict] = (await verified(cluster)).values()
    assert verdict.problems == ()
    assert verdict.bytes == entry.raw
    assert verdict.page_checksums is (major >= 18)
    assert (verdict.pages > 0) is (major >= 18)


class Dying(LocalStore):
    """A store that goes away, or loses to a retention, while packs are read."""

    def __init__(self, root: Path, then: Callable[[], Awaitable[None]]) -> None:
        super().__init__(root)
        self.then: Callable[[], Awaitable[None]] | None = then

    async def read(self, key: str) -> bytes:
        if key.startswith("packs/") and self.then is not None:
            then, self.then = self.then, None
            await then()
        return await super().read(key)


async def test_a_disk_that_goes_away(cluster: Cluster) -> None:
    """A folder that is gone in the middle of a verification is no damage: nothing is known, nothing written down."""
    base = cluster.folder / "base"

    async def unmounted() -> None:
        base.rename(base.with_name("elsewhere"))
        base.mkdir()

    with pytest.raises(NotFound):
        await verify_tier(cluster, replace(cluster.tier1, base=Dying(base, unmounted)), CLOCK)
    assert Journal(cluster.folder).read().verified == {}


async def test_a_retention_meanwhile(cluster: Cluster) -> None:
    """A backup that is removed while it is verified is no damage; the others are told of as they are."""
    base = cluster.folder / "base"
    repository = await cluster.tier1.repository(CLOCK)
    monday, tuesday = repository.backups.values()

    async def removed() -> None:
        needed = {repository.place(id)[0].key for file in (await repository.files(monday)).files for id in file.chunks}
        gone = [pack.key for pack in repository.packs if pack.key not in needed]
        async with writing(cluster, cluster.tier1, CLOCK) as writer:
            await writer.commit([ForgottenEntry(tuesday.id, 1, "test"), RemovedEntry(2, [tuesday.key, *gone])])
        for key in (tuesday.key, *gone):
            (base / key).unlink()

    verdicts = await verify_tier(cluster, replace(cluster.tier1, base=Dying(base, removed)), CLOCK, patience=0)
    assert [(verdict.name, verdict.sound) for verdict in verdicts] == [("monday", True)]


async def test_a_later_timeline(place: Path) -> None:
    """A backup of a promoted server needs the history of its timeline too: missing or changed, that is told."""
    first, cluster = cluster_in(place / "first"), cluster_in(place / "archive")
    await prepare(first)
    await prepare(cluster)
    with primary(place) as server, streamed(server, first):
        fill(server, 1_000)
        base_backup(server, place / "base")
    with restored(place / "base", first.archive, place / "again") as server, streamed(server, cluster):
        fill(server, 1_000)
        entry = await backed_up(server, cluster, "monday")
    assert entry.timeline == 2
    assert problems_of(await verified(cluster)) == []
    history = cluster.folder / "wal/00000002.history"
    with without(history):
        [problem] = problems_of(await verified(cluster))
    assert "no history of timeline 2" in problem
    with changed(history, 20):
        assert any(history.name in problem for problem in problems_of(await verified(cluster)))
