"""Archives and their way to tier 2: clusters without a primary, WAL made byte by byte, everything that runs."""

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from tallykeep.clock import Clock, SystemClock
from tallykeep.config.model import Secret
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.errors import NotFound, Unavailable
from tallykeep.metrics import Book, Family
from tallykeep.runtime.backoff import Backoff
from tallykeep.runtime.supervisor import Supervisor
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.cloud import CloudStore
from tallykeep.storage.digest import check_digest, digest
from tallykeep.storage.store import Store
from tallykeep.systems.postgres.archive import Identity
from tallykeep.systems.postgres.archiver import Archiver, Figures
from tallykeep.systems.postgres.cluster import BASE, Cluster, Tier, clusters_of, prepare
from tallykeep.systems.postgres.keyfile import to_text
from tallykeep.systems.postgres.locks import writing
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.offload.offload import Offload
from tallykeep.systems.postgres.offload.reconciling import Reconciler
from tallykeep.systems.postgres.offload.standing import Standing
from tallykeep.systems.postgres.offload.work import Worker
from tallykeep.systems.postgres.repository.chunk import SIZE
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.repository.files import FOLDER, BackupFile, Files
from tallykeep.systems.postgres.repository.filling import Filler
from tallykeep.systems.postgres.repository.pack import Pack
from tallykeep.systems.postgres.repository.repository import Repository
from tallykeep.systems.postgres.settings import ClusterSettings, PostgresSettings, QueueSettings, Tier2Settings
from tallykeep.systems.postgres.wal_source import RemoteWal

MIB = 1 << 20
IDENTITY = Identity(7_000_000_000_000_000_001, MIB)
FIRST = 3 * MIB
QUICK = QueueSettings(reconcile_every=3600, wal_attempts=3, backup_attempts=3, retry_after=0.1, retry_at_most=0.4)
KEY = bytes(range(32))


def segment(number: int, timeline: int = 1) -> Segment:
    """The segment of that number, the first that `write` makes being 0."""
    return Segment(timeline, LSN(FIRST + number * MIB), MIB)


def key_of(number: int, timeline: int = 1) -> str:
    """Its key in tier 2."""
    name = segment(number, timeline).name
    return f"wal/{name[:16]}/{name}"


def wal(start: int, size: int, timeline: int = 1, seed: int = 0, system_id: int = IDENTITY.system_id) -> bytes:
    """WAL with true page headers, and noise that compresses by half."""
    out = bytearray(size)
    for at in range(0, size, 8192):
        lsn = start + at
        page = bytearray(random.Random(lsn + seed).randbytes(4096) + bytes(4096))
        struct.pack_into("<HHIQ", page, 0, 0xD118, 0 if lsn % MIB else 2, timeline, lsn)
        page[16:24] = bytes(8)
        if lsn % MIB == 0:
            struct.pack_into("<QII", page, 24, system_id, MIB, 8192)
        out[at : at + 8192] = page[: size - at]
    return bytes(out)


class Completed(Figures):
    """Hands on what an archiver completes."""

    def __init__(self, told: Callable[[Segment], None]) -> None:
        self._told = told

    def completed(self, segment: Segment) -> None:
        self._told(segment)


def write(
    cluster: Cluster, segments: float, *, identity: Identity = IDENTITY, timeline: int = 1, seed: int = 0,
    told: Callable[[Segment], None] = lambda _: None, piece: int = MIB,
) -> None:  # fmt: skip
    """Receive so many more segments, the last of them in part where there is a fraction.

    `piece`: bytes that are flushed at a time, each a block.
    """
    archiver = Archiver(cluster.folder, cluster.cipher, Completed(told))
    try:
        archiver.claim(identity)
        if archiver.timeline != timeline:
            archiver.begin(timeline, archiver.position or FIRST)
        start, size = archiver.position, int(segments * MIB)
        data = wal(start, size, timeline, seed, identity.system_id)
        for at in range(0, size, piece):
            archiver.append(start + at, data[at : at + piece])
            archiver.flush()
    finally:
        archiver.close()


def postgres_settings(folder: Path, tier2: str = "", queue: QueueSettings = QUICK, *, key: bool = True,
                      partial_every: float = 0.0) -> PostgresSettings:  # fmt: skip
    """One cluster, main, with tier 2 in a folder unless something else is named."""
    return PostgresSettings(
        archive=folder / "tier1",
        key=Secret(to_text(KEY) if key else ""),
        clusters=(ClusterSettings(name="main"),),
        tier2=Tier2Settings(url=tier2 or str(folder / "tier2"), partial_every=partial_every),
        queue=queue,
    )


async def opened(settings: PostgresSettings, store: Callable[[str], Store] | None = None) -> Cluster:
    """The cluster, its folders made; `store` makes its stores of tier 2 instead, by what comes behind the prefix."""
    (cluster, *_) = clusters_of(settings)
    if store is not None:
        root = store("main")
        tier2 = Tier("2", root, store(f"main/{BASE}"), RemoteWal(root, cluster.cipher), cluster.cipher)
        cluster = replace(cluster, tier2=tier2)
    await prepare(cluster)
    return cluster


def impatient(server: SeaweedFS, bucket: str, endpoint: str = "", timeout: float = 60.0) -> Callable[[str], Store]:
    """Stores on a server that tell of each failure at once, where those of the settings try again for a minute."""

    def make(prefix: str) -> Store:
        found = server.settings(bucket, prefix)
        return CloudStore.s3(replace(found, endpoint=endpoint or found.endpoint, timeout=timeout))

    return make


@asynccontextmanager
async def running(
    clusters: Cluster | Sequence[Cluster],
    settings: PostgresSettings,
    *,
    take_over: bool = False,
    book: Book | None = None,
) -> AsyncIterator[Offload]:  # fmt: skip
    """Everything under a supervisor that restarts quickly."""
    book, clock = book or Book(), SystemClock()
    offload = Offload(
        [clusters] if isinstance(clusters, Cluster) else clusters, settings, book, clock, take_over=take_over
    )
    supervisor = Supervisor(book, clock, lambda: Backoff(0.1, 0.5))
    supervisor.start(offload.services)
    try:
        yield offload
    finally:
        await supervisor.stop(60)


async def until(true: Callable[[], object], told: Callable[[], object] = lambda: "", timeout: float = 90.0) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, told()
        await asyncio.sleep(0.02)


async def keys(store: Store, prefix: str = "") -> set[str]:
    """What lies in a store."""
    with suppress(NotFound):
        return {each.key async for page in store.list(prefix) for each in page}
    return set()


async def holds(cluster: Cluster, *numbers: int) -> bool:
    """Whether tier 2 holds these segments, with the WAL that they had."""
    assert cluster.tier2 is not None
    for number in numbers:
        one = segment(number)
        if key_of(number) not in await keys(cluster.tier2.root, "wal/"):
            return False
        assert await cluster.tier2.wal.read(one) == wal(one.start, MIB), one.name
    return True


async def arrived(cluster: Cluster, *numbers: int, timeout: float = 90.0) -> None:
    """Wait until tier 2 holds these segments; while it is away it does not."""
    deadline = time.monotonic() + timeout
    while True:
        with suppress(Unavailable):
            if await holds(cluster, *numbers):
                return
        assert time.monotonic() < deadline, f"{numbers} did not arrive"
        await asyncio.sleep(0.05)


def figure(book: Book, family: Family, **labels: str) -> float | None:
    """A figure of the book."""
    wanted = tuple(labels[name] for name in family.labels)
    found = [sample.value for sample in book.read() if sample.family is family and sample.labels == wanted]
    return float(found[0]) if found and isinstance(found[0], float) else None


async def back_up(
    cluster: Cluster, id: str, contents: Sequence[bytes], start: int = FIRST, started: float = 1.0
) -> BackupEntry:
    """A base backup in tier 1, made of files with these contents."""
    async with writing(cluster, cluster.tier1, SystemClock()) as repository:
        filler, files = Filler(repository, asyncio.get_running_loop()), []

        def put() -> None:
            for number, content in enumerate(contents):
                file = BackupFile(f"base/{number}", "file", 0o600, 0, len(content))
                for at in range(0, len(content), SIZE):
                    filler.put(memoryview(content)[at : at + SIZE], file.chunks)
                files.append(file)
            filler.finish()

        await asyncio.to_thread(put)
        data, key = Files(files, []).encode(id, repository.cipher), f"{FOLDER}{id}"
        await repository.store.create(key, data)
        entry = BackupEntry(
            id=id, name=id[:4], cluster=cluster.name, system_id=str(IDENTITY.system_id), version=180000, timeline=1,
            start_lsn=str(LSN(start)), stop_lsn=str(LSN(start + 100)), started=started, finished=started + 1, key=key,
            hash=digest(data), size=len(data), files=len(files), directories=0, raw=sum(map(len, contents)),
            added=filler.stored,
        )  # fmt: skip
        await repository.commit([entry])
        return entry


async def contents_of(repository: Repository, entry: BackupEntry) -> list[bytes]:
    """What the files of a backup hold, read from packs, each proved."""
    chunks: dict[bytes, bytes] = {}
    for pack in repository.packs:
        async for id, chunk in frames_of(repository, pack):
            chunks[id] = chunk
    return [b"".join(chunks[id] for id in file.chunks) for file in (await repository.files(entry)).files]


async def offload_now(cluster: Cluster, settings: PostgresSettings, book: Book, clock: Clock) -> Standing:
    """Copy what tier 2 lacks, without a queue: in one go. What failed is in the answer.

    Raises: Refused and ConfigError where tier 2 is not ours to write, or there is none; IntegrityError; StoreErrors.
    """
    standing = Standing(cluster, cluster.tier("2"))
    parallel = settings.tier2.parallel
    worker = Worker([standing], book, clock, parallel)
    await Reconciler(standing, worker, None, settings.queue.reconcile_every, clock, parallel).compare()
    return standing


async def frames_of(repository: Repository, pack: Pack) -> AsyncIterator[tuple[bytes, bytes]]:
    """Every chunk of a pack by its id, proved by the object's hash, its seal and its own. Raises: IntegrityError."""
    name = f"{repository.store.name}/{pack.key}"
    data = await repository.store.read(pack.key)
    await in_thread(check_digest, name, data, pack.hash)
    view, offsets = memoryview(data), pack.offsets()
    for number in range(len(pack.stored)):
        id = pack.id(number)
        yield id, await in_thread(repository.frames.chunk, id, view[offsets[number] : offsets[number + 1]], name)
