"""Base backups of a real PostgreSQL into a repository, and back: proved by PostgreSQL's own pg_verifybackup."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import psycopg
import pytest
from tests.support.otlp import certificates
from tests.support.postgres_majors import MajorServer
from tests.support.postgres_wal import give, place, primary, wait  # noqa: F401 - a fixture

from tallykeep.clock import SystemClock
from tallykeep.demo.postgres import PostgresServer, program
from tallykeep.errors import IntegrityError, Refused, RestoreError, Unreachable
from tallykeep.storage.local import LocalStore
from tallykeep.systems.postgres import slot
from tallykeep.systems.postgres.basebackup.backup import BackupRequest, back_up
from tallykeep.systems.postgres.basebackup.putting import MARKER, put
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.lsn import LSN, SEGMENT_SIZE
from tallykeep.systems.postgres.replication import Connection, Stop, Stopped
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.repository.repository import Repository

pytestmark = pytest.mark.server
KEY = Cipher(bytes(range(32)))


async def opened(folder: Path, cipher: Cipher | None = None) -> Repository:
    """A repository in `folder`, made where there is none."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    return await Repository.open(LocalStore(folder), SystemClock(), cipher)


async def taken(server: PostgresServer, repository: Repository, name: str = "") -> BackupEntry:
    """A base backup."""
    await repository.chain.take_over()
    return await back_up(BackupRequest(server.dsn(), "main", name), repository, SystemClock())


def verified(folder: Path) -> str:
    """What PostgreSQL's own verification says of restored files, WAL left out."""
    argv = [str(program("pg_verifybackup")), "--no-parse-wal", str(folder)]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()


def senders(server: PostgresServer) -> int:
    """How many base backups and streams the server is sending."""
    with psycopg.connect(server.dsn()) as db:
        found = db.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'").fetchone()
    assert found is not None
    return int(found[0])


def fill(server: PostgresServer, rows: int) -> None:
    """So many rows more, in a table with an index."""
    numbers = f"SELECT (SELECT coalesce(max(id), 0) FROM t) + n AS id FROM generate_series(1, {rows}) n"
    with psycopg.connect(server.dsn(), autocommit=True) as db:
        db.execute("CREATE TABLE IF NOT EXISTS t (id bigint PRIMARY KEY, body text)")
        db.execute(f"INSERT INTO t SELECT id, repeat(md5(id::text), 5) FROM ({numbers}) new")


@pytest.mark.parametrize("cipher", [None, KEY], ids=["plain", "encrypted"])
async def test_a_backup_comes_back(place: Path, cipher: Cipher | None) -> None:  # noqa: F811
    """Every file comes back as PostgreSQL's own manifest says, of the second backup too; only news is stored."""
    with primary(place) as server:
        fill(server, 50_000)
        first = await taken(server, await opened(place / "repo", cipher), "monday")
        fill(server, 100)
        second = await taken(server, await opened(place / "repo", cipher), "tuesday")
    assert second.added < first.added / 2
    repository = await opened(place / "repo", cipher)
    assert [entry.name for entry in repository.backups.values()] == ["monday", "tuesday"]
    for entry in repository.backups.values():
        folder = place / entry.name
        files = await put(repository, entry, folder)
        assert verified(folder) == "backup successfully verified"
        assert entry.raw == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert entry.files == sum(file.kind == "file" for file in files.files)
        assert not (folder / MARKER).exists()


async def test_tablespaces(place: Path) -> None:  # noqa: F811
    """A tablespace comes back where it is wanted, and the restored files say so."""
    fast = place / "fast"
    with primary(place) as server:
        fast.mkdir()
        os.chown(fast, (server.data).stat().st_uid, -1)
        with psycopg.connect(server.dsn(), autocommit=True) as db:
            db.execute(f"CREATE TABLESPACE fast LOCATION '{fast}'")
            db.execute("CREATE TABLE f TABLESPACE fast AS SELECT n FROM generate_series(1, 1000) n")
        repository = await opened(place / "repo")
        entry = await taken(server, repository)
    [space] = (await repository.files(entry)).tablespaces
    assert space.location == str(fast)
    await put(repository, entry, place / "back", tablespaces={space.oid: place / "new"})
    assert any(path.is_file() and path.stat().st_size for path in (place / "new").rglob("*"))
    assert (place / "back/tablespace_map").read_text() == f"{space.oid} {place / 'new'}\n"


async def test_a_restore_that_was_cut_is_gone_on_with(place: Path) -> None:  # noqa: F811
    """What is there already is proved and kept, what is damaged or missing is fetched; a full folder is refused."""
    with primary(place) as server:
        fill(server, 5_000)
        repository = await opened(place / "repo")
        entry = await taken(server, repository)
    back = place / "back"
    await put(repository, entry, back)
    with pytest.raises(RestoreError, match="not empty"):
        await put(repository, entry, back)
    (back / MARKER).write_text(entry.id)
    largest = max(back.rglob("*"), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        file.seek(600_000)
        file.write(b"damage")
    (back / "PG_VERSION").unlink()
    await put(repository, entry, back)
    assert verified(back) == "backup successfully verified"


async def test_any_changed_pack_is_named(place: Path) -> None:  # noqa: F811
    """A changed byte in a pack ends the restore with the name of the pack, and the marker stays."""
    with primary(place) as server:
        repository = await opened(place / "repo")
        entry = await taken(server, repository)
    pack = place / "repo" / repository.packs[0].key
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    with pytest.raises(IntegrityError, match=pack.name):
        await put(repository, entry, place / "back")
    assert (place / "back" / MARKER).exists()


async def test_who_is_refused(place: Path) -> None:  # noqa: F811
    """A server that is not there, a role without the right, another cluster under the same name: each told as it is."""
    with primary(place) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as db:
            db.execute("CREATE ROLE nobody_special LOGIN")
        repository = await opened(place / "repo")
        await repository.chain.take_over()
        with pytest.raises(Refused, match="REPLICATION"):
            await back_up(BackupRequest(server.dsn("nobody_special"), "main"), repository, SystemClock())
        with pytest.raises(Refused, match="another cluster"):
            await back_up(BackupRequest(server.dsn(), "main", system_id="7"), repository, SystemClock())
        dsn = server.dsn()
    with pytest.raises(Unreachable):
        await back_up(BackupRequest(dsn, "main"), repository, SystemClock())
    assert not repository.backups


async def test_a_cancelled_backup_ends_on_the_server_too(place: Path) -> None:  # noqa: F811
    """A cancelled backup lets go of its connection and names nothing; the next one goes on from what it stored."""
    with primary(place) as server:
        fill(server, 50_000)
        repository = await opened(place / "repo")
        await repository.chain.take_over()
        came = asyncio.Event()
        loop = asyncio.get_running_loop()

        def advance(_: int) -> None:
            loop.call_soon_threadsafe(came.set)

        request = BackupRequest(server.dsn(), "main")
        task = asyncio.create_task(back_up(request, repository, SystemClock(), advance=advance))
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(wait, lambda: not senders(server))
        assert not (await opened(place / "repo")).backups
        entry = await taken(server, await opened(place / "repo"))
    await put(await opened(place / "repo"), entry, place / "back")
    assert verified(place / "back") == "backup successfully verified"


def over_tls(place: Path) -> tuple[MajorServer, str]:  # noqa: F811
    """A server that speaks TLS, not started, and what to add to its connection string."""
    server = MajorServer(18, place / "primary")
    server.start()
    server.stop()
    files = certificates(place)
    for name, source in (("server.crt", files.server), ("server.key", files.server_key)):
        (server.data / name).write_bytes(source.read_bytes())
        (server.data / name).chmod(0o600)
    give(server.data)
    with (server.data / "postgresql.auto.conf").open("a") as file:
        file.write("ssl = on\n")
    return server, f"?sslmode=verify-ca&sslrootcert={files.authority}"


async def test_over_tls(place: Path) -> None:  # noqa: F811
    """With TLS asked for, everything comes the same way."""
    server, asking = over_tls(place)
    with server:
        fill(server, 50_000)
        repository = await opened(place / "repo")
        await repository.chain.take_over()
        entry = await back_up(BackupRequest(server.dsn() + asking, "main"), repository, SystemClock())
    await put(repository, entry, place / "back")
    assert verified(place / "back") == "backup successfully verified"


def test_over_tls_a_receiver_that_catches_up_stops_when_told(place: Path) -> None:  # noqa: F811
    """And not only once it has caught up, which may take hours."""
    server, asking = over_tls(place)
    with server:
        with Connection(server.dsn() + asking, replication=True) as making:
            slot.create(making, "tallykeep")
        fill(server, 50_000)
        with Connection(server.dsn()) as connection:
            found = slot.find(connection, "tallykeep")
        assert found is not None and found.restart is not None
        stop = Stop()
        with Connection(server.dsn() + asking, replication=True, stop=stop) as receiving:
            receiving.start_wal("tallykeep", LSN(found.restart - found.restart % SEGMENT_SIZE), 1)
            stop.set()
            with pytest.raises(Stopped):
                while receiving.take() is not None:
                    pass
        stop.close()


async def test_a_server_that_falls_silent_is_given_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A server that is frozen in the middle does not hold a backup for ever, nor the loop at all."""
    monkeypatch.setattr("tallykeep.systems.postgres.basebackup.protocol.SILENCE", 0.5)
    with primary(place) as server:
        fill(server, 200_000)
        repository = await opened(place / "repo")
        await repository.chain.take_over()
        frozen = False

        def advance(_: int) -> None:
            nonlocal frozen
            if not frozen:
                frozen = True
                server.freeze()

        try:
            with pytest.raises(Unreachable, match="has sent nothing"):
                await back_up(BackupRequest(server.dsn(), "main"), repository, SystemClock(), advance=advance)
        finally:
            server.thaw()
    assert not repository.backups
