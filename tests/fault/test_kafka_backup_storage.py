"""Backups while storage tears writes, fills up, and dies: the run goes on, and no half of an object has its name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.faults import Fault, FaultProxy, Seen, writing
from tests.support.kafka import KafkaServer
from tests.support.kafka_corpus import a_record, produce, seen
from tests.support.kafka_holding import a_run, what_is_held
from tests.support.stores import Wrapped

from tallykeep.clock import SystemClock
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.errors import Unavailable
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.cloud import CloudStore
from tallykeep.storage.content import Content
from tallykeep.storage.digest import digest
from tallykeep.storage.local import LocalStore
from tallykeep.storage.retry import RetryStore
from tallykeep.storage.store import Store
from tallykeep.systems.kafka.backup_request import BackupResult
from tallykeep.systems.kafka.manifest import FOLDER, Record
from tallykeep.systems.kafka.validating import validate

pytestmark = [pytest.mark.chaos, pytest.mark.server, pytest.mark.timeout(180)]

SIZES: dict[str, Any] = {"fetch_bytes": 64 << 10, "segment_bytes": 100_000, "memory_bytes": 1 << 20}
TORN = """
import asyncio, itertools, os, signal, sys
from pathlib import Path
from tests.support.kafka_live import Silent, opened
from tallykeep.clock import SystemClock
from tallykeep.storage import local
from tallykeep.systems.kafka.backup import back_up
from tallykeep.systems.kafka.backup_request import BackupRequest
from tallykeep.systems.kafka.selecting import Selection

whole, numbers = local._write_fully, itertools.count(1)

def torn(descriptor, views):
    if next(numbers) != int(sys.argv[4]):
        return whole(descriptor, views)
    data = b"".join(views)
    whole(descriptor, [memoryview(data)[: len(data) // 2]])
    os.kill(os.getpid(), signal.SIGKILL)

local._write_fully = torn

async def main(bootstrap, store, topic, _):
    async with opened(bootstrap) as (cluster, brokers):
        request = BackupRequest(Selection((topic,)), fetch_bytes=64 << 10, segment_bytes=100_000, memory_bytes=1 << 20)
        store = local.LocalStore(Path(store))
        await back_up(request, cluster, brokers, store, SystemClock(), Silent(), asyncio.Event())

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def full(kafka: KafkaServer) -> str:
    """A topic of 1.2 MB, in small batches."""
    kafka.create_topic("torn-writes", 3)
    many = [(number % 3, a_record(number, 1000)) for number in range(1200)]
    produce(kafka, "torn-writes", many, batch_num_messages=10)
    return "torn-writes"


async def prove(kafka: KafkaServer, store: Store, topic: str) -> None:
    """Whole, sound, and exactly what a consumer reads."""
    await all_whole(store)
    report = await validate(store, SystemClock(), deep=True)
    assert report.sound, report.problems
    assert await what_is_held(store) == await in_thread(seen, kafka, [topic])


def asides(folder: Path) -> list[Path]:
    """What writers have left there, or are about to write."""
    return [file for file in folder.rglob(".tallykeep-*") if file.is_file()]


async def all_whole(store: Store) -> None:
    """Each object that has its name is what the name says: hashes are part of names, records close with theirs."""
    async for page in store.list():
        for key in (info.key for info in page):
            data = await store.read(key)
            if key.startswith(FOLDER):
                Record.decode(data, key)
            elif not key.startswith("probe/"):
                assert digest(data).rpartition(":")[2][:16] in key, key


@pytest.mark.parametrize("at", [1, 3, 4, 6, 9, 12, 20])
async def test_killed_in_mid_write(kafka: KafkaServer, full: str, tmp_path: Path, at: int) -> None:
    """kill -9 when half of an object is on the disk: it lies aside, is no object, and the next run completes."""
    argv = [sys.executable, "-c", TORN, kafka.bootstrap, str(tmp_path), full, str(at)]
    ended = await in_thread(partial(subprocess.run, argv, check=False, timeout=120))
    assert ended.returncode == -signal.SIGKILL
    assert any(aside.stat().st_size for aside in asides(tmp_path))
    await all_whole(LocalStore(tmp_path))
    assert (await a_run(kafka, LocalStore(tmp_path), full, **SIZES)).complete
    await prove(kafka, LocalStore(tmp_path), full)


class Disk:
    """A disk of a given size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, size: str) -> None:
        """Let it be so large."""
        options = f"{'remount,' if os.path.ismount(self.folder) else ''}size={size}"
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("mounting a tmpfs takes root")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """One of this test alone."""
    disk = Disk(tmp_path)
    disk.has("512k")
    yield disk
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


async def test_a_disk_that_fills_up(kafka: KafkaServer, full: str, disk: Disk) -> None:
    """ENOSPC in the middle of an object: the run waits, and goes on when somebody has made room."""
    refused: list[str] = []

    def make_room(error: Exception) -> None:
        refused.append(str(error))
        if len(refused) == 4:
            disk.has("16m")

    store = RetryStore(LocalStore(disk.folder), longest_wait=0.2, retried=make_room)
    assert (await a_run(kafka, store, full, **SIZES)).complete
    assert "No space left" in refused[0]
    assert not asides(disk.folder)
    await prove(kafka, store, full)


async def test_a_disk_that_stays_full(kafka: KafkaServer, full: str, disk: Disk) -> None:
    """The run gives up with the reason; what it has committed is whole, and the next one goes on behind it."""
    store = LocalStore(disk.folder)
    with pytest.raises(Unavailable, match="No space left"):
        await a_run(kafka, store, full, **SIZES)
    await all_whole(store)
    disk.has("16m")
    assert (await a_run(kafka, store, full, **SIZES)).complete
    await prove(kafka, store, full)


def first_puts() -> Callable[[Seen], bool]:
    """The first try to put each object."""
    met: set[str] = set()

    def match(one: Seen) -> bool:
        again = one.target in met
        met.add(one.target)
        return writing(one) and not again

    return match


def patient(store: Store) -> RetryStore:
    """As commands have it, with shorter waits."""
    return RetryStore(store, longest_wait=0.3)


SPOILT = {
    "cut in its middle": Fault(part=0.5, times=0),
    "cut before its last bytes": Fault(part=0.99, times=0),
    "its reply is lost": Fault(lose=True, times=0),
    "refused": Fault(status=503, code="SlowDown", times=0),
}


@pytest.mark.parametrize("how", SPOILT)
async def test_puts_to_s3(kafka: KafkaServer, full: str, seaweedfs: SeaweedFS, bucket: str, how: str) -> None:
    """Of every object the first put is spoilt: the same run puts it again, and nothing half is ever there."""
    fault = SPOILT[how]
    spoilt = Fault(first_puts(), times=0, part=fault.part, lose=fault.lose, status=fault.status, code=fault.code)
    with FaultProxy(seaweedfs.endpoint, spoilt) as proxy:
        settings = replace(seaweedfs.settings(bucket), endpoint=proxy.endpoint)
        store = patient(CloudStore.s3(settings))
        assert (await a_run(kafka, store, full, **SIZES)).complete
        await store.close()
    assert spoilt.met > 20
    store = patient(seaweedfs.s3_store(bucket))
    await prove(kafka, store, full)
    await store.close()


class Interrupting(Wrapped):
    """Its server is killed at some calls, while they are on their way, and is back after a while.

    Calls are counted while it is there: those that meet nobody come again and again.
    """

    def __init__(self, store: Store, server: SeaweedFS, *at: int) -> None:
        super().__init__(store)
        self.calls = 0
        self.threads: list[threading.Thread] = []
        self._server, self._at = server, at

    async def create(self, key: str, data: Content) -> None:
        self.calls += not any(thread.is_alive() for thread in self.threads)
        if self._at and self.calls == self._at[0]:
            self._at = self._at[1:]
            self.threads.append(threading.Thread(target=self._interrupt))
            self.threads[-1].start()
        await self.store.create(key, data)

    def _interrupt(self) -> None:
        self._server.kill()
        time.sleep(0.5)
        self._server.start()


async def test_an_s3_server_that_dies(kafka: KafkaServer, full: str, own_seaweedfs: SeaweedFS) -> None:
    """Killed twice under a run, with puts on their way, and started again: the same run completes."""
    own_seaweedfs.create_bucket("backups")
    store = Interrupting(own_seaweedfs.s3_store("backups"), own_seaweedfs, 5, 30)
    result: BackupResult = await a_run(kafka, patient(store), full, **SIZES)
    assert result.complete
    assert len(store.threads) == 2
    for thread in store.threads:
        await in_thread(thread.join)
    fresh = patient(own_seaweedfs.s3_store("backups"))
    await prove(kafka, fresh, full)
    await fresh.close()
    await store.close()


async def test_an_s3_server_that_stays_away(kafka: KafkaServer, full: str, own_seaweedfs: SeaweedFS) -> None:
    """The run ends with the reason; once the server is back the next run completes what was committed."""
    own_seaweedfs.create_bucket("backups")
    store = own_seaweedfs.s3_store("backups")
    killing = Killing(store, own_seaweedfs, 12)
    with pytest.raises(Unavailable):
        await a_run(kafka, RetryStore(killing, deadline=1.0), full, **SIZES)
    await in_thread(own_seaweedfs.start)
    assert (await a_run(kafka, patient(store), full, **SIZES)).complete
    await prove(kafka, patient(store), full)
    await store.close()


class Killing(Wrapped):
    """Its server is killed at a call."""

    def __init__(self, store: Store, server: SeaweedFS, at: int) -> None:
        super().__init__(store)
        self._server, self._left = server, at

    async def create(self, key: str, data: Content) -> None:
        self._left -= 1
        if not self._left:
            self._server.kill()
        await self.store.create(key, data)
