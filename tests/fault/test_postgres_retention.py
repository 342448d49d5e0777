"""Retention that dies at any step: what is kept restores, and the next run comes to the same end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.postgres_retention import (
    DAY,
    START,
    Hands,
    Steps,
    backup,
    backups,
    check_restores,
    content_of,
    contents,
    dying,
    held_wal,
    names,
    on_disk,
    opened,
    settings_of,
)

from tallykeep.errors import Unavailable
from tallykeep.storage.store import Store
from tallykeep.systems.postgres.basebackup.putting import put
from tallykeep.systems.postgres.cluster import Cluster
from tallykeep.systems.postgres.offload.copying import copy_backup
from tallykeep.systems.postgres.repository import filling
from tallykeep.systems.postgres.retention import collecting
from tallykeep.systems.postgres.retention.planning import apply
from tallykeep.systems.postgres.settings import PostgresSettings, RetentionSettings

RULES = RetentionSettings(keep_latest=3, pitr=0.0, grace=DAY)
_ROOT = Path(__file__).parents[2]
_DEAD = -9


@pytest.fixture(autouse=True)
def many_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs of a chunk or two, so that indexes name some that stay and some that go."""
    monkeypatch.setattr(filling, "SIZE", 4000)


async def standing(folder: Path) -> tuple[Cluster, PostgresSettings]:
    """Five backups, of which two were let go a day ago; a sixth, so that one more is to go."""
    settings = settings_of(folder, RULES)
    cluster = await opened(settings)
    await backups(cluster, 5)
    await apply(cluster, cluster.tier1, settings, Hands())
    await backup(cluster, cluster.tier1, 6, START + DAY / 2)
    return cluster, settings


async def check_end(cluster: Cluster, folder: Path) -> None:
    """As an uninterrupted run leaves it: on disk is what the manifest names, and all of that restores."""
    repository = await cluster.tier1.repository(Hands())
    assert await names(cluster, cluster.tier1) == ["backup 4", "backup 5", "backup 6"]
    assert [entry.name for entry in repository.in_grace.values()] == ["backup 3"]
    assert set(await on_disk(cluster.tier1.base)) == repository.keys() and not repository.unfinished
    assert held_wal(cluster) == [3, 4, 5, 6]
    entries = [*repository.backups.values(), *repository.in_grace.values()]
    await check_restores(cluster, cluster.tier1, folder, entries)


@pytest.mark.parametrize("lose", [False, True], ids=["before the step", "after it, its reply lost"])
async def test_a_store_that_is_gone_at_any_step(tmp_path: Path, *, lose: bool) -> None:
    """The store fails at the first change, at the second, and so on: each time what is kept restores, and the next run
    comes to the end."""
    for count in range(100):
        folder = tmp_path / str(count)
        await asyncio.to_thread(folder.mkdir)
        cluster, settings = await standing(folder)
        later = Hands(START + DAY)
        try:
            doomed = dying(cluster, Steps(count, lose=lose))
            await apply(doomed, doomed.tier1, settings, later)
        except Unavailable:
            pass
        else:
            break
        repository = await cluster.tier1.repository(later)
        kept = [entry for entry in repository.known.values() if entry.name in ("backup 4", "backup 5", "backup 6")]
        await check_restores(cluster, cluster.tier1, folder / "meanwhile", kept)
        await apply(cluster, cluster.tier1, settings, later)
        await check_end(cluster, folder / "end")
    assert count > 10


_KILLED = """
import asyncio, sys
from pathlib import Path
from tests.fault.test_postgres_retention import RULES
from tests.support.postgres_retention import DAY, START, Hands, Steps, dying, settings_of
from tallykeep.systems.postgres.cluster import clusters_of
from tallykeep.systems.postgres.retention.planning import apply

settings = settings_of(Path(sys.argv[1]), RULES)
[cluster] = clusters_of(settings)
count = int(sys.argv[2])
cluster = dying(cluster, Steps(count, kill=True)) if count else cluster
asyncio.run(apply(cluster, cluster.tier1, settings, Hands(START + DAY)))
"""


def killed(folder: Path, count: int) -> subprocess.Popen[bytes]:
    """A process that runs retention and is killed at a step; 0: it is not."""
    return subprocess.Popen([sys.executable, "-c", _KILLED, str(folder), str(count)], cwd=_ROOT, stderr=subprocess.PIPE)


async def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Its status, and what it said."""
    _, said = await asyncio.to_thread(process.communicate)
    return process.returncode, said.decode()


async def test_a_process_that_is_killed(tmp_path: Path) -> None:
    """Retention is killed at one step after another, each time going on from what the last has left: what is kept
    restores each time, and a run that is left alone comes to the end."""
    cluster, _ = await standing(tmp_path)
    for count in (1, 3, 6, 9, 12):
        status, said = await ended(killed(tmp_path, count))
        assert status in (_DEAD, 0), said
        repository = await cluster.tier1.repository(Hands())
        kept = [entry for entry in repository.known.values() if entry.name in ("backup 4", "backup 5", "backup 6")]
        await check_restores(cluster, cluster.tier1, tmp_path / f"after {count}", kept)
    assert await ended(killed(tmp_path, 0)) == (0, "")
    await check_end(cluster, tmp_path / "end")


async def test_two_processes_at_once(tmp_path: Path) -> None:
    """Two processes run retention at the same time: one waits for the other, and both come to the same end."""
    cluster, _ = await standing(tmp_path)
    processes = [killed(tmp_path, 0), killed(tmp_path, 0)]
    assert [await ended(process) for process in processes] == [(0, ""), (0, "")]
    await check_end(cluster, tmp_path / "end")


async def test_a_backup_beside_retention(tmp_path: Path) -> None:
    """A backup that is taken while retention runs shares packs with what stays alone, and restores."""
    cluster, settings = await standing(tmp_path)
    clock = Hands(START + DAY)
    settings = replace(settings, retention=replace(RULES, grace=0.0))
    taken, _ = await asyncio.gather(
        backup(cluster, cluster.tier1, 7, START + DAY), apply(cluster, cluster.tier1, settings, clock)
    )
    await apply(cluster, cluster.tier1, settings, clock)
    repository = await cluster.tier1.repository(clock)
    assert set(await on_disk(cluster.tier1.base)) == repository.keys()
    await check_restores(cluster, cluster.tier1, tmp_path / "out", [taken])


async def test_removed_content_comes_again(tmp_path: Path) -> None:
    """Retention dies between the record and the deletions, and a backup of the same content is taken: the next run
    deletes what was removed, and nothing of that backup."""
    cluster, settings = await standing(tmp_path)
    clock, count = Hands(START + DAY), 0
    while not (await cluster.tier1.repository(clock)).unfinished:
        count += 1
        doomed = dying(cluster, Steps(count))
        with pytest.raises(Unavailable):
            await apply(doomed, doomed.tier1, settings, clock)
    again = await backup(cluster, cluster.tier1, 7, START + DAY, content=1)
    await apply(cluster, cluster.tier1, settings, clock)
    repository = await cluster.tier1.repository(clock)
    assert set(await on_disk(cluster.tier1.base)) == repository.keys() and not repository.unfinished
    await put(repository, again, tmp_path / "out")
    assert contents(tmp_path / "out") == {path: b"".join(chunks) for path, chunks in content_of(1).items()}


async def gone(store: Store, keys: set[str]) -> None:
    """A store that is gone before anything is deleted."""
    raise Unavailable(f"{store.name} is gone with {len(keys)} objects")


async def test_removed_content_comes_again_to_tier_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy to tier 2 brings packs again that retention had removed there, also where it died before it deleted
    them: the copy restores, and goes on doing so after the next run."""
    settings = settings_of(tmp_path, RetentionSettings(), RetentionSettings(keep_latest=1, pitr=0.0, grace=0.0))
    cluster, clock = await opened(settings), Hands()
    assert cluster.tier2 is not None
    for entry in await backups(cluster, 2):
        await copy_backup(cluster, cluster.tier2, entry.id, clock, 2)
    with monkeypatch.context() as patch, pytest.raises(Unavailable):
        patch.setattr(collecting, "delete_all", gone)
        await apply(cluster, cluster.tier2, settings, clock)
    assert (await cluster.tier2.repository(clock)).unfinished
    again = await backup(cluster, cluster.tier1, 3, START + DAY, content=1)
    await copy_backup(cluster, cluster.tier2, again.id, clock, 2)
    for folder in ("one", "two"):
        repository = await cluster.tier2.repository(clock)
        await put(repository, again, tmp_path / folder)
        assert contents(tmp_path / folder) == {path: b"".join(chunks) for path, chunks in content_of(1).items()}
        await apply(cluster, cluster.tier2, settings, clock)
    repository = await cluster.tier2.repository(clock)
    assert set(await on_disk(cluster.tier2.base)) == repository.keys() and not repository.unfinished
