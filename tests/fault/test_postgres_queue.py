"""The queue and the object store killed, frozen, refusing, cut: WAL waits for neither, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.support import nats_jwt
from tests.support.faults import Fault, FaultProxy, writing
from tests.support.offloading import (
    MIB,
    QUICK,
    arrived,
    figure,
    holds,
    impatient,
    key_of,
    keys,
    offload_now,
    opened,
    postgres_settings,
    running,
    segment,
    until,
    wal,
    write,
)
from tests.support.otlp import certificates
from tests.support.servers import need

from tallykeep.clock import SystemClock
from tallykeep.config.model import Secret
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.errors import ConfigError, Conflict, Refused, Unavailable, Unreachable
from tallykeep.metrics import Book
from tallykeep.runtime.processes import ManagedProcess, free_port
from tallykeep.systems.postgres import families
from tallykeep.systems.postgres.cluster import Cluster, clusters_of, prepare
from tallykeep.systems.postgres.offload import collector, consuming, jetstream, nats_server
from tallykeep.systems.postgres.offload.address import Address, address_of, queue_folder
from tallykeep.systems.postgres.offload.dead_letters import announce, list_failed, queue_states, retry
from tallykeep.systems.postgres.offload.items import WAL, Item, Letter
from tallykeep.systems.postgres.offload.jetstream import Delivery, connected
from tallykeep.systems.postgres.offload.nats_server import MISSING, PROGRAM, NatsServer
from tallykeep.systems.postgres.offload.offload import Offload
from tallykeep.systems.postgres.offload.reconciling import Reconciler
from tallykeep.systems.postgres.settings import ClusterSettings, PostgresSettings

pytestmark = [pytest.mark.server, pytest.mark.timeout(400)]
CLOCK = SystemClock()


@pytest.fixture(autouse=True)
def nats(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests need the server, and answers that a slow disk holds up do not change what they show."""
    need(PROGRAM, MISSING)
    monkeypatch.setattr(jetstream, "_TIMEOUT", 60.0)
    monkeypatch.setattr(nats_server, "_START", 60.0)


async def receive(cluster: Cluster, offload: Offload, segments: float) -> None:
    """WAL that arrives, with its hints, in a thread as a receiver's."""
    await asyncio.to_thread(write, cluster, segments, told=partial(offload.segment_done, cluster))


async def queued(offload: Offload) -> None:
    """Wait for the queue."""
    await until(lambda: offload.queue.queue is not None)


async def seen(offload: Offload) -> None:
    """Wait for the first comparison."""
    await until(lambda: offload.standings["main"].remote is not None)


def process_of(offload: Offload) -> ManagedProcess:
    """Its nats-server."""
    assert offload.nats is not None and offload.nats.process is not None
    return offload.nats.process


async def failed(settings: PostgresSettings, count: int) -> list[tuple[str, str]]:
    """Wait until so many things have failed; their names and problems."""
    deadline = time.monotonic() + 90
    while True:
        found = [(dead.item.name, dead.problem) for dead in await list_failed(settings)]
        if len(found) == count:
            return found
        assert time.monotonic() < deadline, f"{count} were to fail: {found}"
        await asyncio.sleep(0.05)


# --- the queue


async def test_nats_killed_is_started_again_and_nothing_is_lost(tmp_path: Path) -> None:
    """Killed in the middle, again and again: what came before, meanwhile and after is in tier 2, once."""
    settings = postgres_settings(tmp_path)
    cluster, book = await opened(settings), Book()
    write(cluster, 1.5)
    async with running(cluster, settings, book=book) as offload:
        await queued(offload)
        for _ in range(3):
            before = process_of(offload).pid
            await receive(cluster, offload, 2)
            process_of(offload).kill()
            await receive(cluster, offload, 2)
            await until(lambda before=before: process_of(offload).pid != before)  # type: ignore[misc]
        await arrived(cluster, *range(13))
        await until(lambda: not offload.standings["main"].lacking)
    assert figure(book, families.CONSUMER_WRITTEN, cluster_name="main") == 13


async def test_nats_frozen_holds_up_neither_wal_nor_tier_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that takes messages and says nothing: WAL is taken as ever, and goes to tier 2 without it."""
    monkeypatch.setattr(jetstream, "_TIMEOUT", 5.0)
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 0.5)
    async with running(cluster, settings) as offload:
        await queued(offload)
        await seen(offload)
        process_of(offload).freeze()
        before = process_of(offload).pid
        await receive(cluster, offload, 3)  # returns: nothing waits for the queue
        await arrived(cluster, 0, 1, 2)
        await until(lambda: process_of(offload).pid != before)  # it was ended, and another one is there
        await queued(offload)
        await receive(cluster, offload, 1)
        await arrived(cluster, 3)


async def test_what_is_asked_of_a_queue_that_dies_has_failed_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for an answer of a server that is gone; and who is stopped at that moment stops."""
    monkeypatch.setattr(jetstream, "_TIMEOUT", 3600.0)
    settings = postgres_settings(tmp_path)
    async with running(await opened(settings), settings) as offload:
        await queued(offload)
        async with connected(address_of(settings), "tallykeep") as queue:
            process = process_of(offload)
            process.freeze()
            asked = asyncio.create_task(queue.put(Letter(Item(WAL, "main", segment(0).name)), "1"))
            await until(lambda: queue._client._resp_map)
            process.kill()
            with pytest.raises(Unreachable, match="cannot be reached"):
                await asyncio.wait_for(asked, 90)
    assert "did not stop" not in caplog.text


async def test_without_any_queue_everything_still_arrives(tmp_path: Path) -> None:
    """An external queue that is down for ever: hints wake the comparison of the tiers, which copies by itself."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and listens to none
        nowhere = replace(QUICK, url=Secret(f"nats://127.0.0.1:{nobody.getsockname()[1]}"))
        settings = postgres_settings(tmp_path, queue=nowhere)
        cluster = await opened(settings)
        write(cluster, 2.5)
        async with running(cluster, settings) as offload:
            await arrived(cluster, 0, 1)
            await receive(cluster, offload, 2)
            await arrived(cluster, 2, 3)
            assert offload.queue.queue is None


async def test_a_queue_that_brings_nothing_forward_is_gone_around(tmp_path: Path) -> None:
    """Messages are taken and nobody works on them: at the second comparison what is still missing is copied at once."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 3.5)
    offload = Offload([cluster], settings, Book(), CLOCK)
    async with a_queue(tmp_path) as address, connected(address, "tallykeep") as queue:
        offload.queue.queue = queue
        reconciler: Reconciler = offload.reconcilers["main"]
        await reconciler.compare()
        assert not await holds(cluster, 0)
        assert (await queue.states())[0].messages == 3
        await reconciler.compare()
        assert await holds(cluster, 0, 1, 2)


async def test_a_queue_that_is_full_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that takes no more is worked on all the same, over one connection; what it did not take is copied."""
    settings = postgres_settings(tmp_path, queue=replace(QUICK, retry_after=60.0, retry_at_most=60.0))
    cluster = await opened(settings)
    monkeypatch.setattr(jetstream, "_MOST", 2)
    write(cluster, 0.5)
    async with running(cluster, settings) as offload:
        await queued(offload)
        await seen(offload)
        queue, standing = offload.queue.queue, offload.standings["main"]
        (tmp_path / "tier2/main/wal").write_text("in the way")
        await receive(cluster, offload, 2)
        await until(lambda: len(standing._said) == 2)
        (tmp_path / "tier2/main/wal").unlink()
        await receive(cluster, offload, 4)
        await arrived(cluster, 2, 3, 4, 5)
        assert offload.queue.queue is queue


async def test_a_stream_that_is_deleted_is_made_again(tmp_path: Path) -> None:
    """Somebody deletes streams and consumers under a running server: what comes then arrives."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 0.5)
    async with running(cluster, settings) as offload:
        await queued(offload)
        await seen(offload)
        queue = offload.queue.queue
        async with connected(address_of(settings), "tallykeep") as somebody:
            for name in somebody.streams:
                await somebody._stream.delete_stream(name)
        await receive(cluster, offload, 3)
        await arrived(cluster, 0, 1, 2)
        await until(lambda: offload.queue.queue not in (None, queue))
        await receive(cluster, offload, 1)
        await arrived(cluster, 3)
        await drained(settings)
        assert len(await queue_states(settings)) == 4


async def test_duplicates_do_no_harm(tmp_path: Path) -> None:
    """The same thing asked for again and again, at once and later, is copied and counted once."""
    settings = postgres_settings(tmp_path)
    cluster, book = await opened(settings), Book()
    write(cluster, 2.5)
    async with running(cluster, settings, book=book) as offload:
        await queued(offload)
        await arrived(cluster, 0, 1)
        for _ in range(3):
            await announce(settings, Item(WAL, "main", segment(0).name))
            await until(lambda: not offload.standings["main"].lacking)
        await drained(settings)
        for _ in range(20):
            offload.segment_done(cluster, segment(1))
        await drained(settings)
    assert figure(book, families.CONSUMER_WRITTEN, cluster_name="main") == 2


async def drained(settings: PostgresSettings) -> None:
    """Wait until the queues are empty."""
    deadline = time.monotonic() + 90  # a message whose consumer has died comes again after 30 seconds
    while any(state.messages for state in await queue_states(settings)):
        assert time.monotonic() < deadline, await queue_states(settings)
        await asyncio.sleep(0.05)


async def test_two_processes_do_not_run_one_queue(tmp_path: Path) -> None:
    """The second is told who has it."""
    settings = postgres_settings(tmp_path)
    async with running(await opened(settings), settings) as offload:
        await queued(offload)
        with pytest.raises(Conflict, match="the queue is run by another process"):
            await NatsServer(queue_folder(settings), CLOCK).run()


async def test_nats_dies_with_its_parent(tmp_path: Path) -> None:
    """kill -9 of the process leaves no nats-server behind; the next process goes on with what it had queued."""
    (tmp_path / "tier2").mkdir()
    code = [sys.executable, "-m", "tests.support.offload_server", str(tmp_path)]
    child = await asyncio.to_thread(_begun_and_killed, code)
    await until(lambda: not _lives(child))
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 2.5)
    async with running(cluster, settings):
        await arrived(cluster, 0, 1)


def _begun_and_killed(code: list[str]) -> int:
    """Run a program until it tells of its child, and kill it; the child's process id."""
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert _lives(child)
        process.kill()
    return child


def _lives(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    return False


async def test_what_a_dead_process_had_taken_is_given_out_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next process does not wait until the queue has noticed that the one before is gone."""
    monkeypatch.setattr(jetstream, "ACK_WAIT", 3600.0)
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 1.5)
    async with a_queue(tmp_path) as address:
        settings = replace(settings, queue=replace(QUICK, url=Secret(address.urls[0])))
        async with connected(address, "tallykeep") as queue:
            await queue.put(Letter(Item(WAL, "main", segment(0).name)), "1")
            assert await queue.take("wal", 60) is not None
        async with running(cluster, settings):
            await arrived(cluster, 0)
            await drained(settings)


async def test_the_queue_of_our_own_is_private(tmp_path: Path) -> None:
    """It listens on 127.0.0.1, lets nobody in without its token, and only its owner can read that."""
    settings = postgres_settings(tmp_path)
    async with running(await opened(settings), settings) as offload:
        await queued(offload)
        address = address_of(settings)
        with pytest.raises(Refused, match="does not let us in"):
            async with connected(address._replace(token="wrong"), "tallykeep"):
                pass
        folder = queue_folder(settings)
        assert folder.stat().st_mode & 0o77 == 0
        for name in ("nats.json", "nats.conf"):
            assert (folder / name).stat().st_mode & 0o77 == 0
        token = json.loads((folder / "nats.json").read_text())["token"]
        assert token == address.token and token not in repr(address) and token not in (folder / "nats.log").read_text()
        assert 'listen: "127.0.0.1:' in (folder / "nats.conf").read_text()


async def test_commands_without_a_server_say_so(tmp_path: Path) -> None:
    """What to start is in the message, before a server ever ran and after it has gone."""
    settings = postgres_settings(tmp_path)
    with pytest.raises(Unreachable, match="tallykeep postgres server"):
        await list_failed(settings)
    async with running(await opened(settings), settings) as offload:
        await queued(offload)
    with pytest.raises(Unreachable, match=r"The queue at 127\.0\.0\.1"):
        await list_failed(settings)


@asynccontextmanager
async def a_queue(folder: Path, token: str = "secret-token") -> AsyncIterator[Address]:
    """A NATS server of somebody else."""
    async with foreign(folder, f'authorization {{ token: "{token}" }}') as port:
        yield Address((f"nats://{token}@127.0.0.1:{port}",))


@asynccontextmanager
async def foreign(folder: Path, lines: str = "") -> AsyncIterator[int]:
    """A NATS server with JetStream, and with these lines in its configuration; its port."""
    port, config = free_port(), folder / "theirs.conf"
    config.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder / "theirs"}" }}\n{lines}\n')
    with ManagedProcess([PROGRAM, "-c", str(config)], log=folder / "theirs.log") as process:
        await asyncio.to_thread(process.wait_ready, lambda: "Server is ready" in process.log_tail(50), 60)
        yield port


async def test_an_external_queue(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By its URL, with a token in it, which no message and no log shows; two prefixes share it."""
    async with a_queue(tmp_path) as address:
        queue = replace(QUICK, url=Secret(address.urls[0]))
        settings = postgres_settings(tmp_path, queue=queue)
        cluster = await opened(settings)
        write(cluster, 1.5)
        async with running(cluster, settings) as offload:
            await queued(offload)
            assert offload.nats is None
            await arrived(cluster, 0)
            await receive(cluster, offload, 1)
            await arrived(cluster, 1)
            other = replace(settings, queue=replace(queue, prefix="other"))
            assert {state.stream for state in await queue_states(other)} == {
                "other-wal", "other-wal-failed", "other-backup", "other-backup-failed"
            }  # fmt: skip
        with pytest.raises(Refused) as refused:
            async with connected(Address((address.urls[0].replace("secret-token", "wrong-token"),)), "tallykeep"):
                pass
    with pytest.raises(Unreachable) as unreachable:
        await list_failed(settings)
    for text in (str(refused.value), str(unreachable.value), caplog.text, repr(address)):
        assert "secret-token" not in text and "wrong-token" not in text
    assert not (queue_folder(settings)).exists()


async def test_a_queue_that_two_servers_share_by_mistake(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is for another server's cluster is given back to the queue, and told; nobody's goes in the end."""
    monkeypatch.setattr(consuming, "_GIVEN_BACK", 40)  # that many times in a row the wrong one gets none
    async with foreign(tmp_path) as port:
        queue = replace(QUICK, url=Secret(f"nats://127.0.0.1:{port}"), retry_after=0.05, retry_at_most=0.05)
        settings = postgres_settings(tmp_path / "one", queue=queue)
        theirs = replace(postgres_settings(tmp_path / "two", queue=queue), clusters=(ClusterSettings(name="second"),))
        cluster, other = await opened(settings), await opened(theirs)
        write(cluster, 0.5)
        write(other, 0.5)
        async with running(other, theirs) as second:
            await queued(second)
            async with running(cluster, settings) as offload:
                await queued(offload)
                await seen(offload)
                await receive(cluster, offload, 4)
                await arrived(cluster, *range(4))
                await announce(settings, Item(WAL, "nobodys", segment(0).name))
                await drained(settings)
                told = [line for line in caplog.messages if "which is none of this server's" in line]
                assert len(told) == 1 and told[0].startswith("nobodys: WAL file")


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_an_external_queue_over_tls(tmp_path: Path, scheme: str) -> None:
    """With the CA it is given it trusts the server; without it nothing is said to it."""
    files = certificates(tmp_path)
    lines = (
        f'tls {{ cert_file: "{files.server}", key_file: "{files.server_key}" }}\n'
        'authorization { user: "keeper", password: "hidden" }'
    )
    async with foreign(tmp_path, lines) as port:
        address = Address((f"{scheme}://keeper:hidden@127.0.0.1:{port}",), ca_file=files.authority)
        async with connected(address, "tallykeep") as queue:
            assert await queue.put(Letter(Item(WAL, "main", segment(0).name)), "1")
        with pytest.raises(Unreachable) as refused:
            async with connected(address._replace(ca_file=None), "tallykeep"):
                pass
        assert "hidden" not in str(refused.value)
        with pytest.raises(ConfigError, match="CA of NATS cannot be read"):
            async with connected(address._replace(ca_file=tmp_path / "none"), "tallykeep"):
                pass


async def test_an_external_queue_with_credentials(tmp_path: Path) -> None:
    """A user's JWT and key let us in; another user's do not, and what is no such file is named."""
    lines, path = nats_jwt.write(tmp_path)
    (tmp_path / "other").mkdir()
    _, other = nats_jwt.write(tmp_path / "other")
    async with foreign(tmp_path, lines) as port:
        address = Address((f"nats://127.0.0.1:{port}",), credentials=path)
        async with connected(address, "tallykeep") as queue:
            assert await queue.put(Letter(Item(WAL, "main", segment(0).name)), "1")
        with pytest.raises(Refused, match="check the token, the user or the credentials"):
            async with connected(address._replace(credentials=other), "tallykeep"):
                pass
        for wrong, problem in (("theirs.conf", "is no credentials file"), ("none", "cannot be read")):
            with pytest.raises(ConfigError, match=problem):
                async with connected(address._replace(credentials=tmp_path / wrong), "tallykeep"):
                    pass


async def test_what_is_no_letter_is_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A message of another program does not stop the queue, and is told of."""
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 1.5)
    async with running(cluster, settings) as offload:
        await queued(offload)
        async with connected(address_of(settings), "tallykeep") as queue:
            await queue._client.publish("tallykeep-wal.x", b"hello")
        await receive(cluster, offload, 1)
        await arrived(cluster, 0, 1)
        await until(lambda: "none of tallykeep's" in caplog.text)
        await drained(settings)


async def test_one_cluster_does_not_wait_for_another(tmp_path: Path) -> None:
    """The queue works for a cluster while tier 1 of the other has never seen its primary."""
    settings = postgres_settings(tmp_path)
    settings = replace(settings, clusters=(*settings.clusters, ClusterSettings(name="other")))
    cluster, other = clusters_of(settings)
    for one in (cluster, other):
        await prepare(one)
    write(cluster, 0.5)
    async with running((cluster, other), settings) as offload:
        await queued(offload)
        await seen(offload)
        await receive(cluster, offload, 1)
        await arrived(cluster, 0)
        assert not offload.standings["other"].owned
        await asyncio.to_thread(write, other, 1.5, told=partial(offload.segment_done, other))
        await arrived(other, 0)
        await drained(settings)


# --- the object store


async def test_a_store_that_refuses_leads_to_dead_letters_and_back(
    tmp_path: Path, seaweedfs: SeaweedFS, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused at every attempt: listed as failed, in the figures too; asked for again it arrives, and is no more."""
    settings = postgres_settings(tmp_path)
    with FaultProxy(seaweedfs.endpoint) as proxy:
        cluster = await opened(settings, impatient(seaweedfs, bucket, proxy.endpoint))
        write(cluster, 1.5)
        async with running(cluster, settings) as offload:
            await queued(offload)
            await arrived(cluster, 0)
            proxy.faults.append(Fault(writing, times=0, status=403, code="AccessDenied"))
            await receive(cluster, offload, 2)
            found = await failed(settings, 2)
            assert {name for name, _ in found} == {segment(1).name, segment(2).name}
            assert all("403 AccessDenied" in problem for _, problem in found)
            assert len(offload.standings["main"].failed) == 2
            attempts = [line for line in proxy.seen if line.method == "PUT" and segment(1).name in line.target]
            assert len(attempts) == QUICK.wal_attempts
            dead = await list_failed(settings)
            assert [one.attempts for one in dead] == [QUICK.wal_attempts] * 2
            with pytest.raises(ConfigError, match="wal-99: nothing of that id"):
                await retry(settings, ["wal-99"])
            proxy.faults.clear()
            assert [one.id for one in await retry(settings, [dead[0].id])] == [dead[0].id]
            assert len(await failed(settings, 1)) == 1
            assert [one.id for one in await retry(settings)] == [dead[1].id]
            await arrived(cluster, 0, 1, 2)
            await failed(settings, 0)
            await until(lambda: not offload.standings["main"].failed)
    assert seaweedfs.secret_key not in caplog.text


@asynccontextmanager
async def given_up(cluster: Cluster, settings: PostgresSettings, proxy: FaultProxy) -> AsyncIterator[Offload]:
    """A server that was refused a file as often as it tries, and is refused it still."""
    write(cluster, 0.5)
    async with running(cluster, settings) as offload:
        await queued(offload)
        await seen(offload)
        proxy.faults.append(Fault(writing, times=0, status=403, code="AccessDenied"))
        await receive(cluster, offload, 1)
        await failed(settings, 1)
        yield offload


async def test_what_has_failed_heals_with_the_next_comparison(
    tmp_path: Path, seaweedfs: SeaweedFS, bucket: str
) -> None:
    """An outage that outlasts all attempts needs nobody: what was given up is queued again, and its letter goes."""
    settings = postgres_settings(tmp_path)
    with FaultProxy(seaweedfs.endpoint) as proxy:
        cluster = await opened(settings, impatient(seaweedfs, bucket, proxy.endpoint))
        async with given_up(cluster, settings, proxy) as offload:
            proxy.faults.clear()
            offload.reconcilers["main"].wake()
            await arrived(cluster, 0)
            await until(lambda: not offload.standings["main"].failed)
            await failed(settings, 0)


async def test_waiting_for_the_first_comparison_is_no_attempt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A tier 2 that was away at the start leaves what has come since all its attempts."""
    settings = postgres_settings(tmp_path, queue=replace(QUICK, retry_after=0.05, retry_at_most=0.05))
    cluster = await opened(settings)
    write(cluster, 0.5)
    (tmp_path / "tier2").rename(tmp_path / "away")
    (tmp_path / "tier2").touch()
    async with running(cluster, settings) as offload:
        await queued(offload)
        deferred: list[Item] = []
        not_now = offload.queue._not_now

        async def counted(delivery: Delivery, item: Item) -> None:
            deferred.append(item)
            await not_now(delivery, item)

        offload.queue._not_now = counted  # type: ignore[method-assign]
        await receive(cluster, offload, 1)
        await until(lambda: len(deferred) > 5)
        (tmp_path / "tier2").unlink()
        (tmp_path / "away").rename(tmp_path / "tier2")
        (tmp_path / "tier2/main/wal").write_text("in the way")
        offload.reconcilers["main"].wake()
        await failed(settings, 1)
        assert [dead.attempts for dead in await list_failed(settings)] == [QUICK.wal_attempts]


async def test_no_dead_letter_is_left_of_what_arrived_without_the_queue(
    tmp_path: Path, seaweedfs: SeaweedFS, bucket: str
) -> None:
    """What a comparison copies by itself, or finds there, has failed no more: not in the queue, not after a restart."""
    settings = postgres_settings(tmp_path)
    with FaultProxy(seaweedfs.endpoint) as proxy:
        cluster = await opened(settings, impatient(seaweedfs, bucket, proxy.endpoint))
        async with given_up(cluster, settings, proxy) as offload:
            pass
        proxy.faults.clear()
        await offload_now(cluster, settings, Book(), CLOCK)
        assert await holds(cluster, 0) and len(offload.standings["main"].failed) == 1
        async with running(cluster, settings) as offload:
            await seen(offload)
            await queued(offload)
            offload.reconcilers["main"].wake()
            await failed(settings, 0)
            await until(lambda: not offload.standings["main"].failed)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_store_that_goes_away_and_comes_back(tmp_path: Path, own_seaweedfs: SeaweedFS, how: str) -> None:
    """WAL arrives in tier 1 all the while; when the store is back, all of it arrives there, by itself."""
    own_seaweedfs.create_bucket("bucket")
    patient = postgres_settings(tmp_path, queue=replace(QUICK, wal_attempts=1000, retry_at_most=1.0))
    cluster = await opened(patient, impatient(own_seaweedfs, "bucket", timeout=3.0))
    write(cluster, 1.5)
    async with running(cluster, patient) as offload:
        await queued(offload)
        await arrived(cluster, 0)
        if how == "killed":
            own_seaweedfs.kill()
        else:
            own_seaweedfs.freeze()
        await receive(cluster, offload, 3)
        await until(lambda: len(offload.standings["main"]._said) >= 1)  # it was tried, and could not
        if how == "killed":
            await asyncio.to_thread(own_seaweedfs.start)
        else:
            own_seaweedfs.thaw()
        await arrived(cluster, 0, 1, 2, 3)
        await until(lambda: not offload.standings["main"].lacking)


async def test_a_queue_that_dies_under_an_upload(
    tmp_path: Path, seaweedfs: SeaweedFS, bucket: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload goes on, and counts once; its message comes again, and finds it there."""
    monkeypatch.setattr(jetstream, "ACK_WAIT", 6.0)
    monkeypatch.setattr(consuming, "_HEARTBEAT", 2.0)
    settings = postgres_settings(tmp_path)
    with FaultProxy(seaweedfs.endpoint) as proxy:
        cluster, book = await opened(settings, impatient(seaweedfs, bucket, proxy.endpoint)), Book()
        write(cluster, 0.5)
        async with running(cluster, settings, book=book) as offload:
            await queued(offload)
            await seen(offload)
            slow = Fault(_putting(segment(0).name), delay=1.0)
            proxy.faults.append(slow)
            await receive(cluster, offload, 1)
            await until(lambda: slow.met)
            queue = offload.queue.queue
            process_of(offload).kill()
            await until(lambda: offload.queue.queue is not queue)
            await arrived(cluster, 0)
            await until(lambda: figure(book, families.CONSUMER_WRITTEN, cluster_name="main") == 1)
            await queued(offload)
            await drained(settings)
        assert figure(book, families.CONSUMER_WRITTEN, cluster_name="main") == 1
    assert "defect" not in caplog.text


async def test_a_torn_upload_never_has_a_final_name(tmp_path: Path, seaweedfs: SeaweedFS, bucket: str) -> None:
    """Cut in the middle, and with its reply lost: nothing of the first is there, the second counts once."""
    settings = postgres_settings(tmp_path)
    with FaultProxy(seaweedfs.endpoint) as proxy:
        cluster, book = await opened(settings, impatient(seaweedfs, bucket, proxy.endpoint)), Book()
        write(cluster, 0.5)
        async with running(cluster, settings, book=book) as offload:
            await queued(offload)
            await seen(offload)
            torn = Fault(_putting(segment(0).name), times=2, part=0.6)
            lost = Fault(_putting(segment(1).name), lose=True)
            proxy.faults += [torn, lost]
            await receive(cluster, offload, 2)
            await until(lambda: torn.met >= 1)
            assert cluster.tier2 is not None
            found = await keys(cluster.tier2.root, "wal/")
            assert key_of(0) not in found or torn.met > 2
            await arrived(cluster, 0, 1)
            await until(lambda: figure(book, families.CONSUMER_WRITTEN, cluster_name="main") == 2)
            assert torn.met >= 3 and lost.met >= 2
        sizes = [each.size async for page in cluster.tier2.root.list("wal/") for each in page]
    assert figure(book, families.CONSUMER_WRITTEN_SIZE, cluster_name="main") == sum(sizes)


async def test_an_upload_whose_answer_never_came_counts_once(tmp_path: Path, seaweedfs: SeaweedFS, bucket: str) -> None:
    """What the next comparison finds there is counted then, if this process had sent it."""
    settings = postgres_settings(tmp_path)
    with FaultProxy(seaweedfs.endpoint, Fault(_putting(segment(0).name), lose=True)) as proxy:
        cluster, book = await opened(settings, impatient(seaweedfs, bucket, proxy.endpoint)), Book()
        write(cluster, 1.5)
        offload = Offload([cluster], settings, book, CLOCK)
        reconciler = offload.reconcilers["main"]
        with pytest.raises(Unavailable):
            await reconciler.compare()
        assert not figure(book, families.CONSUMER_WRITTEN, cluster_name="main")
        for _ in range(2):
            await reconciler.compare()
            assert figure(book, families.CONSUMER_WRITTEN, cluster_name="main") == 1


def _putting(name: str) -> Callable[..., bool]:
    return lambda seen: seen.method == "PUT" and name in seen.target


async def test_an_idle_database_is_in_tier_2_to_its_last_commit(
    tmp_path: Path, seaweedfs: SeaweedFS, bucket: str
) -> None:
    """What is in a segment that is not complete is in tier 2 soon, without anybody's hint."""
    settings = postgres_settings(tmp_path, partial_every=0.2)
    cluster = await opened(settings, impatient(seaweedfs, bucket))
    write(cluster, 1.25)
    assert cluster.tier2 is not None
    async with running(cluster, settings) as offload:
        standing = offload.standings["main"]
        await until(lambda: standing.position() == segment(1).start + MIB // 4)
        assert await cluster.tier2.wal.read(segment(1)) == wal(segment(1).start, MIB // 4)
        await receive(cluster, offload, 0.5)
        await until(lambda: standing.position() == segment(1).start + MIB * 3 // 4)
        assert await cluster.tier2.wal.read(segment(1)) == wal(segment(1).start, MIB * 3 // 4)
        await receive(cluster, offload, 0.25)
        await arrived(cluster, 0, 1)
        await until(lambda: standing.remote is not None and not standing.remote.parts)
    assert not [key for key in await keys(cluster.tier2.root, "wal/") if key.endswith(".part")]


async def test_the_old_server_stops_when_another_takes_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At its next comparison it reads that tier 2 is another's, says so, shows it, and copies nothing more."""
    settings = postgres_settings(tmp_path)
    old = await opened(settings)
    write(old, 1.5)
    elsewhere = replace(settings, archive=tmp_path / "rebuilt")
    new = await opened(elsewhere)
    write(new, 2.5)
    async with running(old, settings) as offload:
        await arrived(old, 0)
        async with running(new, elsewhere) as refused:
            await until(lambda: refused.standings["main"].owned is False)
            assert key_of(1) not in await keys(new.tier2.root)  # type: ignore[union-attr]
        async with running(new, elsewhere, take_over=True):
            await arrived(new, 0, 1)
        offload.reconcilers["main"].wake()
        await until(lambda: offload.standings["main"].owned is False)
        await receive(old, offload, 2)
        await asyncio.sleep(0.5)
        assert key_of(2) not in await keys(new.tier2.root)  # type: ignore[union-attr]
    said = [record for record in caplog.records if "another server writes there" in record.message]
    assert said and {record.levelname for record in said} == {"ERROR"}


async def test_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the queue holds by stream, what failed, whose tier 2 it is; and nothing while that is not known."""
    monkeypatch.setattr(collector, "_STARTING", 3600.0)  # seconds in which not to know is no error
    settings = postgres_settings(tmp_path)
    cluster = await opened(settings)
    write(cluster, 2.5)
    async with running(cluster, settings) as offload:
        tier2, queue = offload.collectors
        await arrived(cluster, 0, 1)
        await queued(offload)
        await drained(settings)
        found = {(sample.family, sample.labels): sample.value for sample in [each async for each in queue.collect()]}
        assert found[families.QUEUE_MESSAGES, ("tallykeep-wal",)] == 0
        assert len(found) == 8
        found = {(sample.family, sample.labels): sample.value for sample in [each async for each in tier2.collect()]}
        assert found[families.TIER2_OWNED, ("main",)] == 1
        assert found[families.OFFLOAD_FAILED, ("main",)] == 0
        assert found[families.WAL_GAPS, ("main", "2")] == 0
    assert [each async for each in queue.collect()] == [], "what is not known is not told"


async def test_a_letter_goes_on_with_its_trace(tmp_path: Path) -> None:
    """The traceparent of what was received comes out of the queue as it went in."""
    async with a_queue(tmp_path) as address, connected(address, "tallykeep") as queue:
        item = Item(WAL, "main", segment(0).name)
        sent = Letter(item, f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01")
        assert await queue.put(sent, "1")
        assert not await queue.put(sent, "2"), "it waits there already"
        delivery = await queue.take("wal", 60)
        assert delivery is not None and delivery.letter == sent and delivery.attempt == 1
        await delivery.again(0.05)
        delivery = await queue.take("wal", 60)
        assert delivery is not None and delivery.attempt == 2
        await delivery.done()
        assert await queue.take("wal", 0.2) is None
        assert await queue.put(sent, "3")
