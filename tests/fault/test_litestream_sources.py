"""Whatever happens to a source, the page says so: nothing hangs, nothing stays green, what still works goes on."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.faults import Fault, FaultProxy, listing, reading
from tests.support.prometheus import PrometheusServer, need_prometheus
from tests.support.replicas import FIXTURES, LOCAL_LTX, ltx_name, replica
from tests.support.watching import Watch, file_target, upload, watching

from tallykeep.config.model import Secret
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.errors import Denied
from tallykeep.exposition.rules import alert_rules
from tallykeep.runtime.state import StateDirectory
from tallykeep.storage import walk as walking
from tallykeep.storage.store import ObjectInfo
from tallykeep.systems.litestream import drill
from tallykeep.systems.litestream.families import FAMILIES
from tallykeep.systems.litestream.settings import DrillSettings, SweepSettings, TargetSettings
from tallykeep.systems.litestream.urls import parse_replica
from tallykeep.threads import in_thread
from tallykeep.web.app import MetricsApp
from tallykeep.web.listener import Listener

NOBODY = 65534


def s3_target(server: SeaweedFS, bucket: str, endpoint: str = "", secret: str = "") -> TargetSettings:
    """The replica in `bucket`, with the local side of the fixtures."""
    return TargetSettings(
        local=LOCAL_LTX, bucket=bucket, prefix="omni", endpoint=endpoint or server.endpoint,
        access_key_id=server.access_key, secret_access_key=Secret(secret or server.secret_key),
    )  # fmt: skip


async def stored(server: SeaweedFS, bucket: str, case: str = "healthy") -> None:
    store = server.s3_store(bucket, "omni")
    await upload(store, replica(case))
    await store.close()


def last_success(watch: Watch, collector: str) -> float:
    value = watch.value("tallykeep_collector_last_success_timestamp_seconds", collector=collector)
    assert value is not None
    return value


def since(server: PrometheusServer, title: str) -> float:
    """When an alert began to fire: a new beginning would be a new value."""
    [series] = server.there(f'ALERTS_FOR_STATE{{alertname="{title}"}}')
    return float(series["value"][1])


@asynccontextmanager
async def served(watch: Watch) -> AsyncIterator[str]:
    """The watched world's page on a free port."""
    listener = Listener(MetricsApp(watch.board, watch.book, watch.clock, watch.health), "127.0.0.1", 0, setting="TEST")
    await listener.start()
    try:
        yield f"127.0.0.1:{listener.port}"
    finally:
        await listener.stop()


def remote_is_unknown(watch: Watch) -> bool:
    """Every figure of the replica is withdrawn, every verdict says unknown, and the local side goes on."""
    withdrawn = ("restorable_txid", "restore_plan_files", "txid_gaps", "rpo_commits", "replica_lag_txids")
    return (
        (watch.verdict(), watch.reasons()) == ("unknown", {"unreachable"})
        and watch.value("ops_litestream_remote_ltx_files") is None
        and not any(watch.series(f"ops_litestream_{family}") for family in withdrawn)
        and watch.value("ops_litestream_rpo_at_least", reason="replica_unknown") == 7
        and watch.value("ops_litestream_local_ltx_files") == 14
    )


async def becomes_unknown(watch: Watch) -> None:
    await watch.until(lambda: remote_is_unknown(watch), "the replica is unknown, and the local side goes on")


@pytest.mark.server
async def test_a_frozen_remote(own_seaweedfs: SeaweedFS) -> None:
    """While S3 does not answer all it would tell is unknown; the local side stays fresh; thawed, all comes back."""
    own_seaweedfs.create_bucket("frozen")
    await stored(own_seaweedfs, "frozen")
    async with Watch(watching(s3_target(own_seaweedfs, "frozen"), timeout=3.0)) as watch:
        await watch.until(lambda: watch.verdict() == "restorable", "the verdict")
        await watch.until(lambda: watch.value("ops_litestream_rpo_commits") == 7, "the exact RPO")
        own_seaweedfs.freeze()
        await becomes_unknown(watch)
        errors, local = watch.errors("remote"), last_success(watch, "litestream_local")
        assert errors >= 1
        last = watch.value("ops_litestream_last_scrape_timestamp_seconds")
        await watch.until(lambda: watch.errors("remote") > errors, "one more error")
        await watch.until(lambda: last_success(watch, "litestream_local") > local, "the local side goes on")
        assert watch.value("ops_litestream_last_scrape_timestamp_seconds") == last
        own_seaweedfs.thaw()
        await watch.until(lambda: watch.verdict() == "restorable", "recovery")
        await watch.until(lambda: watch.value("ops_litestream_rpo_commits") == 7, "the exact RPO")
        assert watch.errors("local") == 0


@pytest.mark.server
async def test_a_remote_that_refuses_connections(own_seaweedfs: SeaweedFS) -> None:
    """A server that is gone, and comes back."""
    own_seaweedfs.create_bucket("gone")
    await stored(own_seaweedfs, "gone")
    async with Watch(watching(s3_target(own_seaweedfs, "gone"), timeout=3.0)) as watch:
        await watch.first_look()
        await asyncio.to_thread(own_seaweedfs.stop)
        await becomes_unknown(watch)
        assert watch.value("ops_litestream_store_requests_total", operation="list", result="unavailable")
        await asyncio.to_thread(own_seaweedfs.start)
        await watch.until(lambda: watch.verdict() == "restorable", "recovery")


@pytest.mark.server
@pytest.mark.parametrize("case", ["wrong secret", "no such bucket"])
async def test_a_remote_that_denies(seaweedfs: SeaweedFS, bucket: str, case: str) -> None:
    """Credentials that are refused, or a bucket that is not there: unknown, with the code, and no 0 anywhere."""
    target = s3_target(seaweedfs, bucket if case == "wrong secret" else "missing", secret="hunter2" * (case[0] == "w"))
    async with Watch(watching(target)) as watch:
        await becomes_unknown(watch)
        code = "denied" if case == "wrong secret" else "not_found"
        assert watch.value("tallykeep_collector_errors_total", collector="litestream_remote", code=code)
        assert "hunter2" not in watch.page().decode()


@pytest.mark.server
async def test_a_slow_remote(seaweedfs: SeaweedFS, bucket: str) -> None:
    """Slow answers make a late verdict, not a wrong one; the local side has been on the page for long."""
    await stored(seaweedfs, bucket)
    answering = threading.Event()
    slow = Fault(lambda _: answering.wait(60), delay=0.1, times=0)
    with FaultProxy(seaweedfs.endpoint, slow) as proxy:
        async with Watch(watching(s3_target(seaweedfs, bucket, proxy.endpoint), timeout=100.0)) as watch:
            await watch.until(lambda: watch.value("ops_litestream_local_ltx_files") == 14, "the local side")
            assert watch.verdict() == "unknown"
            answering.set()
            await watch.until(lambda: watch.verdict() == "restorable", "the verdict")
            assert watch.errors("remote") == 0


@pytest.mark.server
async def test_a_half_listed_remote(seaweedfs: SeaweedFS, bucket: str) -> None:
    """When the second page of a listing fails, the first is not taken for the whole."""
    store = seaweedfs.s3_store(bucket, "omni")
    names = [f"0000/{ltx_name(txid)}" for txid in range(1, 1201)]
    for start in range(0, len(names), 50):
        await asyncio.gather(*(store.replace(name, b"x" * 200) for name in names[start : start + 50]))
    await store.close()
    fault = Fault(listing, first=2, times=0, status=500)
    with FaultProxy(seaweedfs.endpoint, fault) as proxy:
        async with Watch(watching(s3_target(seaweedfs, bucket, proxy.endpoint), timeout=4.0)) as watch:
            await watch.until(lambda: watch.errors("remote"), "an error")
            await becomes_unknown(watch)
            assert fault.met >= 2
            fault.times = 1
            await watch.until(lambda: watch.value("ops_litestream_remote_ltx_files") == 1200, "the whole listing")


@pytest.mark.server
async def test_objects_that_vanish_between_listing_and_reading(seaweedfs: SeaweedFS, bucket: str) -> None:
    """What retention deletes meanwhile is neither corrupt nor an error: what it would have told is left out."""
    await stored(seaweedfs, bucket)
    with FaultProxy(seaweedfs.endpoint, Fault(reading, times=0, status=404, code="NoSuchKey")) as proxy:
        settings = replace(watching(s3_target(seaweedfs, bucket, proxy.endpoint)), sweep=SweepSettings())
        async with Watch(settings) as watch:
            await watch.first_look()
            await watch.until(lambda: sum(seen.method == "GET" for seen in proxy.seen) > 60, "the sweep has tried")
            assert (watch.verdict(), watch.reasons()) == ("restorable", set())
            assert watch.errors("remote") == 0
            assert watch.series("ops_litestream_pitr_newest_timestamp_seconds") == {}
            assert watch.series("ops_litestream_corrupt_files") == {}
            assert watch.state("ops_litestream_sweep_result") == "unknown"
            assert watch.value("ops_litestream_verified_files_total") == 0


async def test_a_replica_folder_that_vanishes_or_is_emptied(tmp_path: Path) -> None:
    """Gone is unknown; there and empty is unrestorable."""
    folder = tmp_path / "replica"
    shutil.copytree(replica("healthy"), folder)
    async with Watch(watching(file_target(folder, LOCAL_LTX))) as watch:
        await watch.first_look()
        folder.rename(tmp_path / "elsewhere")
        await becomes_unknown(watch)
        folder.mkdir()
        await watch.until(lambda: watch.verdict() == "unrestorable", "the emptied replica")
        assert watch.reasons() >= {"empty"}
        assert watch.value("ops_litestream_remote_ltx_files") == 0
        assert watch.series("ops_litestream_restorable_txid") == {}
        await watch.until(
            lambda: watch.value("ops_litestream_rpo_at_least", reason="nothing_replicated"), "all is lost"
        )


async def test_an_emptied_local_folder(tmp_path: Path) -> None:
    """0 files are counted, what they told is withdrawn, and the WAL still tells the RPO exactly."""
    shutil.copytree(FIXTURES / "local", tmp_path / "data")
    ltx = tmp_path / "data" / ".omni.db-litestream" / "ltx"
    async with Watch(watching(file_target(replica("healthy"), ltx))) as watch:
        await watch.first_look()
        assert watch.value("ops_litestream_newest_txid", source="local") == 0x3B
        for file in (ltx / "0").iterdir():
            file.unlink()
        await watch.until(lambda: watch.value("ops_litestream_local_ltx_files") == 0, "it is empty")
        await watch.until(lambda: watch.series("ops_litestream_replica_lag_txids") == {}, "no lag is told")
        assert watch.value("ops_litestream_newest_txid", source="local") is None
        assert watch.errors("local") == 0
        assert watch.verdict() == "restorable"
        assert watch.value("ops_litestream_rpo_commits") == 7


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user whom file modes bind."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_world() -> Iterator[Path]:
    """A folder that any user may enter, as pytest's own are not."""
    world = Path(tempfile.mkdtemp(prefix="tallykeep-test-"))
    shutil.copytree(FIXTURES / "local", world / "data")
    shutil.copytree(replica("healthy"), world / "replica")
    world.chmod(0o755)
    yield world
    close_to_all(world, 0o700)
    shutil.rmtree(world)


def close_to_all(world: Path, mode: int = 0) -> Path:
    """The LTX folder of that world, whose level 0 nobody may read."""
    ltx = world / "data" / ".omni.db-litestream" / "ltx"
    (ltx / "0").chmod(mode)
    return ltx


async def test_a_local_folder_that_cannot_be_read(open_world: Path) -> None:
    """An error each time, and no figure of it; the replica is judged all the same."""
    ltx = close_to_all(open_world)
    with unprivileged():
        async with Watch(watching(file_target(open_world / "replica", ltx))) as watch:
            await watch.until(lambda: watch.errors("local") >= 2, "two errors")
            assert watch.value("tallykeep_collector_errors_total", collector="litestream_local", code="denied")
            assert watch.value("ops_litestream_local_ltx_files") is None
            assert watch.series("ops_litestream_replica_lag_txids") == {}
            await watch.until(lambda: watch.verdict() == "restorable", "the verdict")
            assert watch.value("ops_litestream_last_scrape_timestamp_seconds") == 0


async def test_100_000_local_files(tmp_path: Path) -> None:
    """They are counted, one and all, and the loop goes on serving meanwhile."""
    ltx = tmp_path / ".omni.db-litestream" / "ltx"
    (ltx / "0").mkdir(parents=True)
    await asyncio.to_thread(many_files, ltx / "0", 100_000)
    async with Watch(watching(file_target(replica("healthy"), ltx), interval=60, timeout=60)) as watch:
        await watch.until(lambda: watch.value("ops_litestream_local_ltx_files") == 100_000, "all of them", 60)
        assert watch.value("ops_litestream_newest_txid", source="local") == 100_000
        assert watch.value("ops_litestream_local_ltx_bytes") == 0


def many_files(folder: Path, number: int) -> None:
    for txid in range(1, number + 1):
        os.close(os.open(folder / ltx_name(txid), os.O_CREAT | os.O_WRONLY))


async def test_a_database_replaced_under_litestream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, sizes and checksums are in order; the drill finds the database malformed, and that is the verdict."""
    monkeypatch.setattr(drill, "FIRST", 0.0)
    settings = replace(watching(file_target(replica("db-replaced"))), drill=DrillSettings(every=3600))
    async with Watch(settings) as watch:
        await watch.first_look()
        await watch.until(lambda: watch.state("ops_litestream_drill_result") == "failed", "the drill", 60)
        await watch.until(lambda: watch.verdict() == "unrestorable", "the verdict")
        assert watch.reasons() == {"malformed_database"}
        assert watch.value("ops_litestream_drill_runs_total", result="failed") == 1
        assert watch.value("ops_litestream_drill_last_success_timestamp_seconds") == 0


async def test_a_replica_of_litestream_0_3(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its files are not read, so nothing is known of it; the log names what lies there."""
    snapshots = tmp_path / "generations" / "0123456789abcdef" / "snapshots"
    snapshots.mkdir(parents=True)
    (snapshots / "00000000.snapshot.lz4").write_bytes(b"x" * 500)
    with caplog.at_level("WARNING"):
        async with Watch(watching(file_target(tmp_path))) as watch:
            await watch.first_look()
            await watch.until(lambda: watch.value("ops_litestream_remote_ltx_files") == 0, "no LTX file is there")
            assert watch.verdict() == "unknown"
    assert "Litestream 0.3" in caplog.text


async def test_another_kind_of_replica_does_not_stop_the_others() -> None:
    """A kind that cannot be read is unknown, with an error; the target beside it is watched."""
    other = TargetSettings(name="sftp", replica=parse_replica("sftp://user:pa55@host/path"))
    async with Watch(watching(file_target(replica("healthy")), other)) as watch:
        await watch.first_look()
        assert (watch.verdict(), watch.verdict("sftp")) == ("restorable", "unknown")
        assert watch.reasons("sftp") == {"unreachable"}
        assert watch.errors("remote") >= 1
        assert "pa55" not in watch.page().decode()


@pytest.mark.parametrize(("stale_after", "reasons"), [(60.0, {"stale"}), (1e10, set[str]())])
async def test_a_replica_that_lags(stale_after: float, reasons: set[str]) -> None:
    """11 TXIDs behind for hours: the lag and the commits are told, and it is stale; it is not within its grace."""
    async with Watch(watching(file_target(replica("stale"), LOCAL_LTX), stale_after=stale_after)) as watch:
        await watch.first_look()
        assert (watch.verdict(), watch.reasons()) == ("restorable", reasons)
        assert watch.value("ops_litestream_replica_lag_txids") == 11
        assert watch.value("ops_litestream_restorable_txid") == 0x30
        assert watch.value("ops_litestream_rpo_commits") == 27


@pytest.mark.server
async def test_a_collector_that_never_returns_while_its_alert_fires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alert of an unrestorable replica goes on when its collector hangs for good, and others join in."""
    need_prometheus()
    hang, release = threading.Event(), threading.Event()
    walk = walking.pages

    def pages(root: Path, *args: str) -> Iterator[list[ObjectInfo]]:
        if hang.is_set() and root == replica("gap-tail"):
            release.wait()
        yield from walk(root, *args)

    monkeypatch.setattr("tallykeep.storage.local.pages", pages)
    settings = watching(file_target(replica("gap-tail"), LOCAL_LTX), interval=0.5, timeout=1.0)
    rules = re.sub(r"for: \S+", "for: 1s", alert_rules({"litestream": FAMILIES}))
    title = "LitestreamReplicaNotRestorable"
    try:
        async with Watch(settings) as watch, served(watch) as address:
            server = PrometheusServer(tmp_path, [address], rules)
            await in_thread(server.start)
            try:
                both = {title, "LitestreamUncoveredGap"}
                await in_thread(server.wait_for, lambda: both <= server.alerts().keys(), "the alerts")
                began = await in_thread(since, server, title)
                hang.set()
                await watch.until(lambda: watch.verdict() == "unknown", "the hang shows")
                joined = {"LitestreamCorruptFiles", "LitestreamRpoGrowing", "LitestreamReplicaStale"}
                await in_thread(server.wait_for, lambda: joined | both <= server.alerts().keys(), "the others")
                failed = await in_thread(server.query, "min_over_time(up[5m]) == 0")  # such a scrape interrupts it
                assert await in_thread(since, server, title) == began or failed
                await watch.until(lambda: watch.value("ops_litestream_local_ltx_files") == 14, "the local side")
            finally:
                await in_thread(server.stop)
    finally:
        release.set()


async def test_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without any folder to write to all is watched, and drills alone cannot be made."""

    def refused(state: StateDirectory, name: str) -> Path:
        raise Denied(f"{name}: read-only file system")

    monkeypatch.setattr(StateDirectory, "scratch", refused)
    settings = replace(watching(file_target(replica("healthy"))), drill=DrillSettings(every=3600.0))
    async with Watch(settings) as watch:
        await watch.first_look()
        assert watch.verdict() == "restorable"
        assert watch.state("ops_litestream_drill_result") == "unknown"
