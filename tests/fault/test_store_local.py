"""Folders under stress: killed writers, full disks, links, rights, hung disks. Readers never see half an object."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.workshop import keys_of

from tallykeep.errors import Denied, NotFound, Unavailable
from tallykeep.storage import local
from tallykeep.storage.local import LocalStore
from tallykeep.storage.walk import ASIDE

_SIZE = 300_000
_WRITER = f"""
import asyncio, itertools, sys
from pathlib import Path
from tallykeep.storage.local import LocalStore
async def write(start):
    store = LocalStore(Path(sys.argv[1]))
    for turn in itertools.count(start):
        await store.replace("folder/replaced", bytes([turn % 256]) * {_SIZE})
        await store.create(f"folder/created-{{turn}}", bytes([turn % 256]) * {_SIZE})
        print(turn, flush=True)
asyncio.run(write(int(sys.argv[2])))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty root folder."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.mark.chaos
async def test_a_killed_writer_leaves_whole_objects(root: Path) -> None:
    """ "An object is seen whole or not at all": kill -9 at random moments, while others read and afterwards."""
    store, chance, turn = LocalStore(root, timeout=120), random.Random(1), 0
    for _ in range(6):
        with _writer(root, turn) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()  # it is under way
            end = time.monotonic() + chance.uniform(0.0, 0.06)
            while time.monotonic() < end:
                _assert_whole(await store.read("folder/replaced"))
            writer.kill()
            done = [int(line) for line in writer.stdout]
        turn = max(done, default=turn) + 10
        for key in await keys_of(store):
            _assert_whole(await store.read(key))


def _writer(root: Path, turn: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _WRITER, str(root), str(turn)], stdout=subprocess.PIPE)


def _assert_whole(content: bytes) -> None:
    assert len(content) == _SIZE
    assert content == content[:1] * _SIZE


async def test_what_a_killed_writer_left_is_not_listed(root: Path) -> None:
    """Files that were being written are under no key, whether one lists everything or asks for them."""
    (root / "folder").mkdir()
    for folder in (root, root / "folder"):
        (folder / f"{ASIDE}0123").write_bytes(b"half")
    store = LocalStore(root)
    await store.create("folder/key", b"whole")
    assert await keys_of(store) == ["folder/key"]
    assert await keys_of(store, ASIDE) == []


@contextmanager
def _no_room_on_tmpfs(root: Path) -> Iterator[None]:
    """A disk of 128 KiB below `root`."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(root)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a tmpfs takes root; the limit on file sizes is tried instead")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=True)


@contextmanager
def _no_file_over_128_kib(_: Path) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (128 << 10, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("full", [_no_room_on_tmpfs, _no_file_over_128_kib])
async def test_a_full_disk_leaves_the_old_object(root: Path, full: object) -> None:
    """ "A put that fails leaves the old object, or none", nothing under a final name and nothing aside."""
    assert callable(full)
    with full(root):
        store = LocalStore(root)
        await store.replace("folder/old", b"old")
        for put in (store.replace, store.create):
            for key in ("folder/old", "folder/new", "other/new"):
                with pytest.raises(Unavailable, match="Make room there") as failure:
                    await put(key, bytes(200 << 10))
                assert failure.value.retry == 60
        assert await store.read("folder/old") == b"old"
        assert await keys_of(store) == ["folder/old"]
        assert _files(root) == ["old"]


def _files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("most", [1, 5, 7, 64])
async def test_writes_that_take_less_than_they_are_given(
    root: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """A write that is cut short, by a signal or by its size, goes on where it ended: in the midst of a buffer too."""
    writev = os.writev

    def short(descriptor: int, buffers: list[memoryview]) -> int:
        return writev(descriptor, [b"".join(buffers)[:most]])

    monkeypatch.setattr(os, "writev", short)
    await LocalStore(root).create("key", [b"0123", b"4", b"", b"5678901", b"23456789"])
    assert (root / "key").read_bytes() == b"01234567890123456789"


async def test_links_lead_nowhere(root: Path, tmp_path: Path) -> None:
    """Symbolic links below the root are neither listed nor followed, whether to read, to write or to delete."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    store = LocalStore(root)
    assert await keys_of(store) == []
    assert await keys_of(store, "folder/") == []
    for key in ("folder/secret", "file"):
        with pytest.raises(NotFound):
            await store.read(key)
        with pytest.raises(NotFound):
            await store.head(key)
    with pytest.raises(Denied):
        await store.replace("folder/secret", b"changed")
    with pytest.raises(Denied):
        await store.create("folder/new", b"")
    await store.delete("folder/secret")
    await store.replace("file", b"a file of its own")
    assert [path.read_bytes() for path in outside.iterdir()] == [b"secret"]
    assert await store.read("file") == b"a file of its own"


async def test_no_prefix_leads_out_of_the_root(root: Path, tmp_path: Path) -> None:
    """A prefix is a string that keys begin with, never a path."""
    (tmp_path / "outside").write_bytes(b"")
    (root / "file").write_bytes(b"")
    for prefix in ("../", "../out", "a/../", "./", "/", f"{tmp_path}/", "//"):
        assert await keys_of(LocalStore(root), prefix) == []


async def test_a_root_that_is_a_link_is_a_root(root: Path, tmp_path: Path) -> None:
    """Links above what is named as the root are the machine's business."""
    (tmp_path / "link").symlink_to(root)
    store = LocalStore(tmp_path / "link")
    await store.create("folder/key", b"content")
    assert await keys_of(store) == ["folder/key"]


async def test_only_files_are_listed(root: Path) -> None:
    """Pipes, sockets and empty folders are no objects, and reading a pipe does not wait for its writer."""
    os.mkfifo(root / "pipe")
    (root / "empty").mkdir()
    (root / "file").write_bytes(b"")
    (root / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"")
    store = LocalStore(root)
    assert await keys_of(store) == ["file"]
    with pytest.raises(NotFound, match="not a regular file"):
        await store.read("pipe")


async def test_an_unreadable_folder_fails_the_listing(root: Path) -> None:
    """ "A listing that fails in the middle raises: it never just ends." """
    store = LocalStore(root)
    for key in ("a/1", "b/1", "c/1"):
        await store.create(key, b"")
    with _without_rights(root / "b"):
        with pytest.raises(Denied, match="Check who owns it"):
            await keys_of(store)
        with pytest.raises(Denied):
            await store.read("b/1")
        with pytest.raises(Denied):
            await store.replace("b/1", b"")
        with pytest.raises(Denied):
            await store.delete("b/1")


@contextmanager
def _without_rights(folder: Path) -> Iterator[None]:
    """Nobody may use `folder`, and who is root is not any more."""
    opened = [parent for parent in folder.parents if parent.stat().st_uid == os.geteuid() and parent != Path("/")]
    modes = [(parent, parent.stat().st_mode) for parent in opened]
    for parent in opened:
        parent.chmod(0o755)
    folder.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        for parent, mode in modes:
            parent.chmod(mode)


async def test_files_that_vanish_while_listed_are_left_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes while a listing runs may be missing in it; the listing itself succeeds."""
    store = LocalStore(root)
    for number in range(20):
        await store.create(f"{number:02}/key", b"")
    found: list[str] = []
    monkeypatch.setattr("tallykeep.storage.walk.PAGE", 1)
    async for page in store.list():
        found += [info.key for info in page]
        for number in range(10, 20):
            await store.delete(f"{number:02}/key")
    assert found == [f"{number:02}/key" for number in range(10)]


async def test_a_root_that_vanishes_is_not_found(root: Path) -> None:
    """An unmounted folder is not an empty one, and neither is a file."""
    with pytest.raises(NotFound, match="no such folder; make it, or mount what belongs there"):
        await keys_of(LocalStore(root / "missing"))
    store = LocalStore(root)
    await store.create("file", b"")
    with pytest.raises(NotFound, match="no such folder"):
        await keys_of(LocalStore(root / "file"))
    with pytest.raises(NotFound, match="no such folder"):
        await LocalStore(root / "file").create("key", b"")


async def test_a_hung_disk_is_unavailable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "No call waits for ever": a disk that does not answer costs a thread, and the caller goes on."""
    gate = threading.Event()

    def hang(*_: object) -> Iterator[list[object]]:
        gate.wait(90)
        yield []

    monkeypatch.setattr(local, "pages", hang)
    try:
        with pytest.raises(Unavailable, match=r"longer than 0\.1 s"):
            await asyncio.wait_for(keys_of(LocalStore(root, timeout=0.1)), 60)
    finally:
        gate.set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes what others cannot use")
def test_what_root_makes_is_the_folders_owners(root: Path) -> None:
    """A command under sudo in a server's folder: that server can write beside it, and remove it."""
    os.chown(root, 61_234, 61_235)
    asyncio.run(LocalStore(root).create("a/b/object", b"x"))
    assert {(path.stat().st_uid, path.stat().st_gid) for path in root.rglob("*")} == {(61_234, 61_235)}
