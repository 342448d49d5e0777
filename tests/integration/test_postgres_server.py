"""The server of PostgreSQL protection in this process: several clusters, what is refused, what cannot be told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_wal import KEY, place, primary, wait

from tallykeep.clock import SystemClock
from tallykeep.config.model import Secret
from tallykeep.demo.postgres import PostgresServer
from tallykeep.errors import ConfigError, Conflict, IntegrityError, RestoreError
from tallykeep.metrics import Book, Sample
from tallykeep.runtime.state import StateDirectory
from tallykeep.runtime.supervisor import Supervisor
from tallykeep.runtime.work import Parts
from tallykeep.systems.postgres import families, keyfile
from tallykeep.systems.postgres.backing_up import run_backup
from tallykeep.systems.postgres.cluster import Cluster, clusters_of, prepare
from tallykeep.systems.postgres.coverage import Gap
from tallykeep.systems.postgres.figures import held_backups
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.listing import listing
from tallykeep.systems.postgres.locks import BACKUP, exclusive, is_held
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.opening import check_postgres, open_postgres
from tallykeep.systems.postgres.settings import BackupSettings, ClusterSettings, DrillSettings, PostgresSettings
from tallykeep.systems.postgres.status import status_of
from tallykeep.systems.system import Tools

__all__ = ["place"]
pytestmark = pytest.mark.server
CLOCK = SystemClock()


def settings(folder: Path, *urls: str, **more: object) -> PostgresSettings:
    """Clusters named a, b and so on, with a key; nothing on a schedule."""
    clusters = tuple(ClusterSettings(name, Secret(url), f"slot_{name}") for name, url in zip("abc", urls, strict=False))
    quiet = {"backup": BackupSettings(schedule=""), "drill": DrillSettings(schedule="")}
    key = Secret(keyfile.to_text(KEY))
    return PostgresSettings(archive=folder, key=key, clusters=clusters, **{**quiet, **more})  # type: ignore[arg-type]


@asynccontextmanager
async def at_work(wanted: PostgresSettings) -> AsyncIterator[Parts]:
    """Its services under a supervisor."""
    book = Book()
    supervisor = Supervisor(book, CLOCK)
    async with open_postgres(wanted, Tools(CLOCK, book, StateDirectory.in_memory())) as parts:
        supervisor.start(parts.services)
        try:
            yield parts
        finally:
            await supervisor.stop(20)


async def figures(parts: Parts, collector: str) -> list[Sample]:
    """What collectors of that name tell now."""
    return [sample for each in parts.collectors if each.name == collector async for sample in each.collect()]


async def held(cluster: Cluster, server: PostgresServer) -> None:
    """Wait until all WAL is in tier 1."""

    def all_of_it() -> bool:
        with psycopg.connect(server.dsn()) as db:
            found = db.execute("SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn").fetchone()
        assert found is not None
        return max((stretch.end for stretch in cluster.archive.held()), default=0) >= int(found[0])

    await asyncio.to_thread(wait, all_of_it)


async def test_two_clusters_are_told_apart(place: Path, tmp_path: Path) -> None:
    """With two clusters each figure says whose it is; a backup of one is no backup of the other."""
    with primary(place) as server:
        wanted = settings(tmp_path, server.dsn(), server.dsn())
        async with at_work(wanted) as parts:
            first, second = clusters_of(wanted)
            await held(first, server)
            entry = await run_backup(first, wanted, CLOCK, "one")
            assert entry.name == "one" and entry.cluster == "a"
            told = {sample.labels: sample.value for sample in await figures(parts, "postgres_work")
                    if sample.family.name == families.BACKUP_SUCCESSES.name}  # fmt: skip
            assert told == {("a",): 1, ("b",): 0}
            snapshots = [sample for sample in await figures(parts, "postgres_base")
                         if sample.family is families.BASE_SNAPSHOTS]  # fmt: skip
            assert {sample.labels: sample.value for sample in snapshots} == {("a",): 1, ("b",): 0}
            assert [problem for problem in (await status_of(second, CLOCK)).problems if "no base backup" in problem]


async def test_one_server_for_each_cluster(place: Path, tmp_path: Path) -> None:
    """A second server on the same archive is refused, whatever its state directory; the first goes on."""
    with primary(place) as server:
        wanted = settings(tmp_path, server.dsn())
        async with at_work(wanted):
            with pytest.raises(Conflict, match="cluster a is protected"):
                async with at_work(wanted):
                    pass


async def test_a_backup_is_refused_while_another_is_taken(place: Path, tmp_path: Path) -> None:
    """Two at a time would be one too many; and it is no failure of the one that runs."""
    with primary(place) as server:
        wanted = settings(tmp_path, server.dsn())
        [cluster] = clusters_of(wanted)
        await prepare(cluster)
        with exclusive(cluster.folder / BACKUP, "held by a test"), pytest.raises(Conflict):
            await run_backup(cluster, wanted, CLOCK)
    assert Journal(cluster.folder).read().backups.failures == 0


async def test_what_was_stored_wrong_is_no_backup(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte that changes between storing and reading back makes the backup fail, be counted and be told by list."""
    with primary(place) as server:
        wanted = settings(tmp_path, server.dsn())
        [cluster] = clusters_of(wanted)
        async with at_work(wanted) as parts:
            await held(cluster, server)
            monkeypatch.setattr("tallykeep.systems.postgres.backing_up.wait_for_wal", damage_packs)
            with pytest.raises(IntegrityError, match="not what was sent"):
                await run_backup(cluster, wanted, CLOCK, "bad")
            told = {sample.family: sample.value for sample in await figures(parts, "postgres_work")}
    assert told[families.BACKUP_VERIFICATIONS] == told[families.BACKUP_VERIFICATION_FAILURES] == 1
    assert told[families.BACKUP_FAILURES] == 1 and told[families.BACKUP_SUCCESSES] == 0
    [listed] = (await listing(cluster, cluster.tier1, CLOCK)).backups
    assert listed.verified is not None and not listed.verified.sound
    problems = (await status_of(cluster, CLOCK)).problems
    assert any("bad is damaged" in problem for problem in problems)


async def damage_packs(cluster: Cluster, *_: object) -> None:
    """What a disk may do."""
    for pack in (cluster.folder / "base" / "packs").rglob("*"):
        if pack.is_file():
            data = bytearray(pack.read_bytes())
            data[len(data) // 2] ^= 1
            pack.write_bytes(data)


async def test_without_its_wal_a_backup_has_failed(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody receives WAL: the files are there, the backup is counted as failed, and is not usable."""
    monkeypatch.setattr("tallykeep.systems.postgres.backing_up.ALONE", 0.5)
    with primary(place) as server:
        wanted = settings(tmp_path, server.dsn())
        [cluster] = clusters_of(wanted)
        await prepare(cluster)
        with pytest.raises(RestoreError, match="nobody receives it"):
            await run_backup(cluster, wanted, CLOCK)
        [listed] = (await listing(cluster, cluster.tier1, CLOCK)).backups
        assert not listed.reach.usable
        backups = Journal(cluster.folder).read().backups
        assert backups.failures == 1 and not backups.latest_completion and "nobody receives" in backups.problem
        assert (backups.outcomes, backups.categories) == ({"failed": 1}, {"restore": 1})
        assert set(backups.stages) == {"copy", "wal"} and backups.stages["wal"] >= 0.5


async def test_a_base_backup_heals_a_gap(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WAL that is lost for good has another base backup taken at once, and only one."""
    monkeypatch.setattr("tallykeep.systems.postgres.scheduling._LOOK", 0.1)
    with primary(place) as server:
        wanted = settings(tmp_path, server.dsn(), backup=BackupSettings(schedule="0 0 1 1 *"))
        [cluster] = clusters_of(wanted)
        journal = Journal(cluster.folder)
        async with at_work(wanted):
            await asyncio.to_thread(wait, lambda: journal.read().backups.successes == 1)
            [first] = await held_backups(cluster, CLOCK)
            begun = LSN.parse(first.start_lsn)
            gap = Gap(1, begun, LSN(begun + 1), "a test", round(CLOCK.time(), 3))
            (cluster.folder / "gaps.jsonl").write_text(f"{gap.to_json()}\n")
            await asyncio.to_thread(wait, lambda: journal.read().backups.successes == 2)
            await asyncio.to_thread(wait, lambda: not is_held(cluster.folder / BACKUP))  # its retention has ended, too
            await asyncio.sleep(1)
            assert journal.read().backups.successes == 2 and not is_held(cluster.folder / BACKUP)


async def test_what_cannot_be_told_is_unknown(place: Path, tmp_path: Path) -> None:
    """A primary and a tier that do not answer are unknown, and never well."""
    with primary(place) as server:
        dsn = server.dsn()
    [cluster] = clusters_of(settings(tmp_path, dsn))
    await prepare(cluster)
    status = await status_of(cluster, CLOCK)
    assert status.streaming is None and status.exit_status and any("does not answer" in each for each in status.unknown)
    (cluster.folder / "base" / "manifest").mkdir()
    (cluster.folder / "base" / "manifest" / "0000000001.json").write_text("{}")
    found = await listing(cluster, cluster.tier1, CLOCK)
    assert (found.as_json()["backups"] is None) == bool(found.problem)


def test_settings_that_cannot_be_used_are_told_at_once(tmp_path: Path) -> None:
    """No cluster, two of one name, a tier 2 of no kind, a key that was copied wrong: each before anything is made."""
    with pytest.raises(ConfigError, match="nothing to protect"):
        check_postgres(settings(tmp_path))
    twice = PostgresSettings(archive=tmp_path, clusters=(ClusterSettings("a"), ClusterSettings("a")))
    with pytest.raises(ConfigError, match="named a"):
        check_postgres(twice)
    nowhere = settings(tmp_path, "host=nowhere", backup=BackupSettings(timezone="Mars/Olympus"))
    with pytest.raises(ConfigError, match="Mars/Olympus"):
        check_postgres(nowhere)
    with pytest.raises(ConfigError, match="key was not copied"):
        check_postgres(PostgresSettings(
            archive=tmp_path, key=Secret(keyfile.to_text(KEY)[:-7] + "AAAAAAA"), clusters=(ClusterSettings("a"),)
        ))  # fmt: skip
    assert not list(tmp_path.iterdir())
