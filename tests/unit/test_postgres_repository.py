"""The repository of base backups: chunks, packs, indexes and lists of files come back, and nothing changed passes."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.clock import FakeClock
from tests.support.offloading import frames_of

from tallykeep.errors import IntegrityError, RestoreError, Unavailable
from tallykeep.storage.local import LocalStore
from tallykeep.storage.memory import MemoryStore
from tallykeep.storage.store import Store
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.repository.chunk import SIZE, Frames
from tallykeep.systems.postgres.repository.files import BackupFile, Files, Tablespace
from tallykeep.systems.postgres.repository.filling import Filler
from tallykeep.systems.postgres.repository.pack import Pack, PackBuilder, decode_index, encode_index
from tallykeep.systems.postgres.repository.repository import Repository

KEY = Cipher(bytes(range(32)))
CIPHERS = pytest.mark.parametrize("cipher", [None, KEY], ids=["plain", "encrypted"])


async def filled(store: Store, chunks: list[bytes], cipher: Cipher | None = None) -> tuple[Repository, list[bytes]]:
    """A repository with these chunks, and their ids."""
    repository = await Repository.open(store, FakeClock(), cipher)
    await repository.chain.take_over()
    filler, ids = Filler(repository, asyncio.get_running_loop()), list[bytes]()

    def put() -> None:
        for chunk in chunks:
            filler.put(chunk, ids)
        filler.finish()

    await asyncio.to_thread(put)
    return repository, ids


@CIPHERS
@given(st.binary(max_size=2000))
def test_a_chunk_comes_back(cipher: Cipher | None, chunk: bytes) -> None:
    """Any bytes come back from their frame, under their id alone."""
    frames = Frames(cipher)
    id = frames.id_of(chunk)
    assert frames.chunk(id, frames.frame(id, chunk), "pack") == chunk
    with pytest.raises(IntegrityError, match="pack"):
        frames.chunk(frames.id_of(chunk + b"x"), frames.frame(id, chunk), "pack")


async def test_a_pack_of_very_many_small_chunks() -> None:
    """The first pages of a hundred thousand empty indexes fit into one pack, and each is found where it lies."""
    repository = await Repository.open(MemoryStore(), FakeClock())
    ids = [number.to_bytes(32) for number in range(100_000)]
    for some in (ids[:-1], ids[-1:]):
        builder = PackBuilder()
        for id in some:
            builder.add(id, b"frame", 8192)
        repository.add_pack(builder.seal())
    first, second = repository.packs
    for number in (0, 65_535, 65_536, 99_998):
        assert repository.place(ids[number]) == (first, number)
    assert repository.place(ids[-1]) == (second, 0)


async def test_packs_are_named_by_one_thread_at_a_time(tmp_path: Path) -> None:
    """Threads that find packs durable at once do not get in each other's way in the manifest."""
    repository = await Repository.open(LocalStore(tmp_path), FakeClock())
    await repository.chain.take_over()
    filler = Filler(repository, asyncio.get_running_loop())

    def name(first: int) -> None:
        for number in range(first, first + 5):
            builder, upload = PackBuilder(), Future[Pack]()
            builder.add(number.to_bytes(32), b"frame", 8192)
            upload.set_result(builder.seal())
            with filler._lock:
                filler._uploads.append(upload)
            filler._collect(everything=False)

    await asyncio.gather(*(asyncio.to_thread(name, first) for first in (0, 5, 10)))
    again = await Repository.open(repository.store, FakeClock())
    assert all(number.to_bytes(32) in again for number in range(15))


@CIPHERS
def test_any_byte_of_a_frame(cipher: Cipher | None) -> None:
    """A frame with any byte changed, or cut anywhere, is refused, or gives its chunk all the same: no other one."""
    frames = Frames(cipher)
    chunk = b"page " * 20
    id = frames.id_of(chunk)
    frame = frames.frame(id, chunk)
    refused = 0
    for at in range(len(frame)):
        changed = bytearray(frame)
        changed[at] ^= 0x10
        for broken in (bytes(changed), frame[:at]):
            try:
                assert frames.chunk(id, broken, "pack") == chunk  # zstd has bits that mean nothing
            except IntegrityError:
                refused += 1
    assert refused >= 2 * len(frame) - 2


def test_ids_tell_nothing_where_there_is_a_key() -> None:
    """The id of a chunk is another one with a key: whoever knows a file cannot look for it."""
    assert Frames(KEY).id_of(b"known") != Frames().id_of(b"known")


@given(st.lists(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=4), max_size=3))
def test_an_index_comes_back(packs: list[list[bytes]]) -> None:
    """An index of any packs comes back; with any byte changed it is refused."""
    sealed = []
    for chunks in packs:
        builder = PackBuilder()
        for chunk in chunks:
            builder.add(Frames().id_of(chunk), chunk, len(chunk))
        sealed.append(builder.seal())
    data = encode_index(sealed)
    assert decode_index(data, "index") == sealed
    for at in range(0, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(IntegrityError, match="index"):
            decode_index(bytes(changed), "index")


@CIPHERS
def test_a_list_of_files_comes_back(cipher: Cipher | None) -> None:
    """Files, folders, links and tablespaces come back; a list of another backup does not open with a key."""
    files = [
        BackupFile("base", "directory", 0o700, 5),
        BackupFile("base/1", "file", 0o600, 6, 3, "", [os.urandom(32), os.urandom(32)]),
        BackupFile("pg_wal", "link", 0o777, 7, 0, "/wal"),
    ]
    wanted = Files(files, [Tablespace(16384, "/fast")])
    data = wanted.encode("id", cipher)
    assert Files.decode(data, "id", cipher, "list") == wanted
    if cipher:
        with pytest.raises(IntegrityError):
            Files.decode(data, "other", cipher, "list")


@CIPHERS
async def test_chunks_are_stored_once(cipher: Cipher | None, tmp_path: Path) -> None:
    """The same chunk is stored once, within a backup and in the next; another reader finds and reads them all."""
    store = LocalStore(tmp_path)
    chunks = [os.urandom(SIZE), b"a" * SIZE, b"b" * 100, b"a" * SIZE]
    repository, ids = await filled(store, chunks, cipher)
    assert ids[1] == ids[3]
    size = sum(pack.size for pack in repository.packs)
    assert SIZE < size < SIZE + 2000
    again, same = await filled(store, chunks, cipher)
    assert same == ids
    assert [pack.key for pack in again.packs] == [pack.key for pack in repository.packs]
    reader = await Repository.open(store, FakeClock(), cipher)
    [pack] = reader.packs
    assert dict([pair async for pair in frames_of(reader, pack)]) == dict(zip(ids, chunks, strict=True))


async def test_a_wrong_key(tmp_path: Path) -> None:
    """With another key the chunks do not open, and it is said why."""
    store = LocalStore(tmp_path)
    await filled(store, [b"secret"], KEY)
    reader = await Repository.open(store, FakeClock(), Cipher(bytes(32)))
    [pack] = reader.packs
    with pytest.raises(IntegrityError, match="key"):
        [pair async for pair in frames_of(reader, pack)]


async def test_a_second_writer_is_stopped() -> None:
    """Of two writers the older one cannot add anything once the newer has begun."""
    store = MemoryStore()
    older, _ = await filled(store, [b"one"])
    await filled(store, [b"two"])
    with pytest.raises(Exception, match="taken this backup over"):
        await older.commit([])


async def test_a_store_that_fails(tmp_path: Path) -> None:
    """An error of the store ends the filling with that error; what was named before stays."""

    class Failing(LocalStore):
        async def create(self, key: str, data: object) -> None:
            if key.startswith("packs/") and self.full:
                raise Unavailable("the disk is full")
            await super().create(key, data)  # type: ignore[arg-type]

        full = False

    store = Failing(tmp_path)
    await filled(store, [b"kept"])
    store.full = True
    with pytest.raises(Unavailable, match="full"):
        await filled(store, [os.urandom(SIZE) for _ in range(40)])
    reader = await Repository.open(store, FakeClock())
    assert Frames().id_of(b"kept") in reader


async def test_there_is_no_such_backup() -> None:
    """What is asked for and is not there is told with what is."""
    repository, _ = await filled(MemoryStore(), [])
    with pytest.raises(RestoreError, match="none at all"):
        repository.backup("monday")
