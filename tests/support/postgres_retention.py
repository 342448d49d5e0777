"""Clusters with backups that were made up, dated as a test wants them, and stores that die at a step."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tallykeep.clock import SystemClock
from tallykeep.config.model import Secret
from tallykeep.errors import Unavailable
from tallykeep.storage.content import Content
from tallykeep.storage.digest import digest
from tallykeep.storage.local import LocalStore
from tallykeep.storage.store import Store
from tallykeep.systems.postgres import keyfile
from tallykeep.systems.postgres.basebackup.putting import put
from tallykeep.systems.postgres.blocks import Encoder, Header
from tallykeep.systems.postgres.cluster import Cluster, Tier, clusters_of, prepare
from tallykeep.systems.postgres.locks import writing
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.repository.entries import BackupEntry, VerifiedEntry
from tallykeep.systems.postgres.repository.files import FOLDER, BackupFile, Files
from tallykeep.systems.postgres.repository.filling import Filler
from tallykeep.systems.postgres.repository.repository import Repository
from tallykeep.systems.postgres.settings import (
    BackupSettings,
    ClusterSettings,
    PostgresSettings,
    RetentionSettings,
    Tier2Settings,
)
from tallykeep.systems.postgres.wal_source import segment_key

START = 1_790_000_000.0
HOUR, DAY = 3600.0, 86400.0
SEGMENT = 1 << 20
APART = ("manifest/", "probe/")
SYSTEM_ID = 7_000_000_000_000_000_001


class Hands(SystemClock):
    """A clock that shows what it is set to, and lets those who sleep wake as ever."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


class Steps:
    """Lets so many changes to stores happen, and not one more."""

    def __init__(self, count: int, *, lose: bool = False, kill: bool = False) -> None:
        """`lose`: the last one happens, and its reply is lost. `kill`: the process dies, without a word."""
        self.left = count
        self.lose = lose
        self.kill = kill

    def step(self) -> bool:
        """Whether this one is to happen and be told."""
        self.left -= 1
        return self.left >= 0

    def die(self) -> None:
        if self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        raise Unavailable("the store is gone")


class DyingStore(LocalStore):
    """A folder whose changes are counted by `steps`."""

    def __init__(self, root: Path, steps: Steps) -> None:
        super().__init__(root)
        self._steps = steps

    async def create(self, key: str, data: Content) -> None:
        told = self._steps.step()
        if told or self._steps.lose:
            await super().create(key, data)
        if not told:
            self._steps.die()

    async def delete(self, key: str) -> None:
        told = self._steps.step()
        if told or self._steps.lose:
            await super().delete(key)
        if not told:
            self._steps.die()


def settings_of(
    folder: Path, rules: RetentionSettings, tier2_rules: RetentionSettings | None = None, *, key: bool = False
) -> PostgresSettings:
    """Settings of a cluster in `folder`; with rules for a tier 2 it has one."""
    return PostgresSettings(
        archive=folder / "archive",
        key=Secret(keyfile.to_text(bytes(range(32)))) if key else Secret(""),
        clusters=(ClusterSettings(name="main"),),
        tier2=Tier2Settings(url=str(folder / "tier2") if tier2_rules else ""),
        backup=BackupSettings(),
        retention=rules,
        tier2_retention=tier2_rules or RetentionSettings(),
    )


async def opened(settings: PostgresSettings) -> Cluster:
    """The cluster, its folders made, whose WAL archive is that of a cluster with segments of 1 MiB."""
    [cluster] = clusters_of(settings)
    await prepare(cluster)
    for tier in cluster.tiers:
        identity = f'{{"system_id": "{SYSTEM_ID}", "segment_size": {SEGMENT}}}'
        await tier.root.replace("identity.json", identity.encode())
    return cluster


def dying(cluster: Cluster, steps: Steps) -> Cluster:
    """The same, whose stores die at a step."""

    def store(of: Store) -> Store:
        assert isinstance(of, LocalStore)
        return DyingStore(of.root, steps)

    tier1 = replace(cluster.tier1, base=store(cluster.tier1.base), root=store(cluster.tier1.root))
    return replace(cluster, tier1=tier1)


# --- what is kept


def content_of(number: int) -> dict[str, list[bytes]]:
    """The files of a backup: what all share, what it shares with the next, and what is its own."""

    def chunk(name: str) -> bytes:
        return random.Random(name).randbytes(3000)

    return {
        "base/all": [chunk("all"), chunk("all too")],
        "base/some": [chunk(f"some {number}"), chunk(f"some {number + 1}")],
        "base/own": [chunk(f"own {number}")],
    }


async def backup(
    cluster: Cluster, tier: Tier, number: int, finished: float, *, content: int | None = None, timeline: int = 1
) -> BackupEntry:
    """Make up backup `number`, which begins in segment `number`; `content`: it holds what that one holds."""
    id = hashlib.md5(f"{number} {timeline}".encode()).hexdigest()
    async with writing(cluster, tier, Hands(finished)) as repository:
        files = await filled(repository, content_of(number if content is None else content))
        data, key = files.encode(id, repository.cipher), f"{FOLDER}{id}"
        await repository.store.create(key, data)
        start = LSN(number * SEGMENT + 0x28)
        entry = BackupEntry(
            id, f"backup {number}", "main", str(SYSTEM_ID), 180000, timeline, str(start), str(LSN(start + 0x100)),
            finished - 60, finished, key, digest(data), len(data), len(files.files), 0, 15000, 0,
        )  # fmt: skip
        await repository.commit([entry])
    return entry


async def filled(repository: Repository, content: dict[str, list[bytes]]) -> Files:
    """Chunks of files into packs."""
    filler = Filler(repository, asyncio.get_running_loop())
    ids: dict[str, list[bytes]] = {path: [] for path in content}

    def fill() -> None:
        for path, chunks in content.items():
            for chunk in chunks:
                filler.put(chunk, ids[path])
        filler.finish()

    await asyncio.to_thread(fill)
    sizes = {path: sum(map(len, chunks)) for path, chunks in content.items()}
    return Files([BackupFile(path, "file", 0o600, 0, sizes[path], "", ids[path]) for path in content], [])


async def backups(cluster: Cluster, count: int, *, apart: float = DAY, until: float = START) -> list[BackupEntry]:
    """So many in tier 1, the last finished at `until`, with the WAL from the first on; one segment more."""
    for number in range(1, count + 2):
        await write_wal(cluster, Segment(1, LSN(number * SEGMENT), SEGMENT))
    return [
        await backup(cluster, cluster.tier1, number, until - (count - number) * apart) for number in range(1, count + 1)
    ]


async def verdict(cluster: Cluster, tier: Tier, entry: BackupEntry, *, sound: bool) -> None:
    """What a verification said."""
    async with writing(cluster, tier, SystemClock()) as repository:
        await repository.commit([VerifiedEntry(entry.id, START, sound, "" if sound else "a byte was changed")])


def wal_file(segment: Segment, cluster: Cluster) -> bytes:
    """A complete block file of zeros."""
    header = Header(cluster.cipher is not None, segment, segment.start, SYSTEM_ID, os.urandom(16))
    encoder = Encoder(header, cluster.cipher)
    return encoder.header + encoder.block(segment.start, bytes(SEGMENT)) + encoder.end(segment.end)


async def write_wal(cluster: Cluster, segment: Segment) -> None:
    """A complete segment in tier 1; in tier 2 as well where there is one."""
    for tier in cluster.tiers:
        await tier.root.create(segment_key(segment), wal_file(segment, cluster))


# --- what is looked at


async def names(cluster: Cluster, tier: Tier) -> list[str]:
    """Names of the backups that are promised."""
    repository = await tier.repository(SystemClock())
    return [entry.name for entry in repository.backups.values()]


async def on_disk(store: Store) -> dict[str, int]:
    """Every object but the manifest's and what a killed writer has left of its probe, and its size."""
    return {each.key: each.size async for page in store.list() for each in page if not each.key.startswith(APART)}


def held_wal(cluster: Cluster) -> list[int]:
    """Numbers of the segments that tier 1 holds."""
    return [stored.segment.start // SEGMENT for stored in cluster.archive.segments()]


async def check_restores(cluster: Cluster, tier: Tier, target: Path, wanted: Iterable[BackupEntry]) -> None:
    """Restore these, also in their grace period, and compare them byte for byte."""
    repository = await tier.repository(SystemClock())
    for entry in wanted:
        folder = target / entry.id
        await put(repository, entry, folder)
        assert contents(folder) == {path: b"".join(chunks) for path, chunks in content_of(number_of(entry)).items()}


def contents(folder: Path) -> dict[str, bytes]:
    """What a folder holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def number_of(entry: BackupEntry) -> int:
    """The number a backup was made up with."""
    return int(entry.name.removeprefix("backup "))


def ids(entries: Sequence[BackupEntry]) -> set[str]:
    """Their ids."""
    return {entry.id for entry in entries}
