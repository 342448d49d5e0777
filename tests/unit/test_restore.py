"""Restoring a plan: what comes out, what is refused, and what is left behind when it fails."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import resource
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import ltx_encoder as ltx

from tallykeep.errors import NotFound, RestoreError
from tallykeep.systems.litestream.image import PARTIAL, CannotWrite, Image
from tallykeep.systems.litestream.ltx import LtxName, Txid, header
from tallykeep.systems.litestream.restore import CorruptFile, MissingPages, PlannedFile, Progress, RestoredImage, apply

Pages = Mapping[int, bytes]


class File(NamedTuple):
    name: LtxName
    key: str
    size: int
    data: bytes


def file(pages: Pages, first: int, last: int, *, commit: int, page_size: int = 512, **more: int) -> File:
    frames = [ltx.block(number, pages[number]) for number in sorted(pages)]
    data = ltx.encode(
        frames, min_txid=first, max_txid=last, commit=commit, page_size=page_size, timestamp_ms=more.get("at", 1000)
    )
    return named(data, first, last)


def named(data: bytes, first: int, last: int) -> File:
    name = LtxName(Txid(first), Txid(last))
    return File(name, str(name), len(data), data)


async def chunks(each: PlannedFile) -> AsyncIterator[bytes]:
    assert isinstance(each, File)
    for at in range(0, len(each.data), 1000):
        await asyncio.sleep(0)
        yield each.data[at : at + 1000]


def some(*numbers: int, seed: int = 0, page_size: int = 512) -> dict[int, bytes]:
    return {number: ltx.page(seed + number, page_size) for number in numbers}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def plan() -> list[File]:
    return [
        file(some(*range(1, 7)), 1, 4, commit=6),
        file(some(2, 5, seed=100), 5, 5, commit=6),
        file(some(1, 2, 7, seed=200), 6, 8, commit=7, at=1_700_000_000_500),
    ]


def expected() -> bytes:
    pages = some(*range(1, 7)) | some(2, 5, seed=100) | some(1, 2, 7, seed=200)
    return b"".join(pages[number] for number in range(1, 8))


async def test_newest_page_wins(tmp_path: Path) -> None:
    """Each page is that of the newest file that holds it."""
    target = tmp_path / "app.db"
    restored = await apply(plan(), chunks, target)
    assert target.read_bytes() == expected()
    fetched = sum(each.size for each in plan())
    assert restored == RestoredImage(Txid(8), 512, 7, 1_700_000_000.5, 3, fetched)
    assert restored.bytes == 7 * 512
    assert names(tmp_path) == ["app.db"]


async def test_shrunken_database(tmp_path: Path) -> None:
    """Pages beyond the end of the final database are not restored."""
    files = [*plan(), file(some(1, seed=300), 9, 9, commit=3)]
    await apply(files, chunks, tmp_path / "app.db")
    assert (tmp_path / "app.db").read_bytes() == ltx.page(301) + expected()[512 : 3 * 512]


@given(st.lists(st.tuples(st.sets(st.integers(1, 12)), st.integers(1, 12)), max_size=5), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_any_history(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[set[int], int]], first: int) -> None:
    """Any chain of files restores to what applying them one by one gives, or tells which pages are missing."""
    state = some(*range(1, first + 1))
    files = [file(state, 1, 1, commit=first)]
    for txid, (numbers, commit) in enumerate(steps, 2):
        pages = some(*(number for number in numbers if number <= commit), seed=txid * 100)
        files.append(file(pages, txid, txid, commit=commit))
        state = state | pages
    commit = steps[-1][1] if steps else first
    target = tmp_path_factory.mktemp("restore") / "app.db"
    missing = [number for number in range(1, commit + 1) if number not in state]
    try:
        asyncio.run(apply(files, chunks, target, durable=False))
    except MissingPages as error:
        assert list(error.pages) == missing != []
        assert not target.exists()
    else:
        assert target.read_bytes() == b"".join(state[number] for number in range(1, commit + 1))


async def test_lock_page_is_left_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite locks there is a page of zeros, and all pages around it: here with the lock at byte 2048."""
    monkeypatch.setattr(header, "LOCK_BYTE", 2048)
    base = file(some(1, 2, 3, 4, 6), 1, 1, commit=6)
    newer = file(some(4, 6, 7, seed=50), 2, 2, commit=7)
    await apply([base, newer], chunks, tmp_path / "app.db")
    pages = some(1, 2, 3) | some(4, seed=50) | {5: bytes(512)} | some(6, 7, seed=50)
    assert (tmp_path / "app.db").read_bytes() == b"".join(pages.values())


def test_lock_page_number() -> None:
    """The lock lies at 1 GiB, whatever the page size."""
    assert [header.lock_page(512 << power) for power in range(8)] == [(1 << 30) // (512 << n) + 1 for n in range(8)]


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
async def test_existing_target(suffix: str, tmp_path: Path) -> None:
    """A target that is there, or a WAL that SQLite would apply to it, is refused and left as it was, unless told."""
    target, old = tmp_path / "app.db", tmp_path / f"app.db{suffix}"
    old.write_bytes(b"old")
    with pytest.raises(CannotWrite, match="is there already"):
        await apply(plan(), chunks, target)
    assert (names(tmp_path), old.read_bytes()) == ([old.name], b"old")
    await apply(plan(), chunks, target, overwrite=True)
    assert target.read_bytes() == expected()
    assert names(tmp_path) == ["app.db"]


async def test_no_room(tmp_path: Path) -> None:
    """A database larger than the free space is refused before anything is written."""
    huge = file(some(1, page_size=65536), 1, 1, commit=2**32 - 1, page_size=65536)
    with pytest.raises(CannotWrite, match=r"only .* are free"):
        await apply([huge], chunks, tmp_path / "app.db")
    assert names(tmp_path) == []


async def test_corruption_is_told_before_lack_of_room(tmp_path: Path) -> None:
    """A size that is absurd only because the header was damaged is corruption, not a full disk."""
    sound = file(some(1, page_size=65536), 1, 1, commit=1, page_size=65536)
    damaged = sound._replace(data=sound.data[:12] + b"\xff" + sound.data[13:])
    with pytest.raises(CorruptFile) as caught:
        await apply([damaged], chunks, tmp_path / "app.db")
    assert (caught.value.key, caught.value.error.reason) == (sound.key, "checksum")


@pytest.mark.parametrize("which", [0, 1, 2])
async def test_corrupt_file(which: int, tmp_path: Path) -> None:
    """One file of the plan damaged: nothing gets the final name, nothing stays behind, and the file is named."""
    files: list[File] = plan()
    bad = files[which]
    files[which] = bad._replace(data=bad.data[:-30] + b"\xee" + bad.data[-29:])
    with pytest.raises(CorruptFile, match=bad.key) as caught:
        await apply(files, chunks, tmp_path / "app.db")
    assert caught.value.error.reason == "checksum"
    assert names(tmp_path) == []


async def test_missing_pages(tmp_path: Path) -> None:
    """Sound files that together lack a page are told from corrupt ones."""
    files = [file(some(1, 2, 4), 1, 4, commit=4), file(some(2), 5, 5, commit=6)]
    with pytest.raises(MissingPages, match="holds page 3, 5-6 of 6") as caught:
        await apply(files, chunks, tmp_path / "app.db")
    assert caught.value.code == "missing_pages"
    assert names(tmp_path) == []


async def test_incomplete_snapshot_filled_later(tmp_path: Path) -> None:
    """A snapshot that lacks a page restores if a later file brings it, as with Litestream."""
    files = [file(some(1, 3), 1, 4, commit=3), file(some(2), 5, 5, commit=3)]
    await apply(files, chunks, tmp_path / "app.db")
    assert (tmp_path / "app.db").read_bytes() == b"".join(some(1, 2, 3).values())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "nothing to restore"),
        (plan()[1:], "no base"),
        ([plan()[0], plan()[2]], "does not follow"),
        ([plan()[0], file(some(1, page_size=1024), 5, 5, commit=6, page_size=1024)], "do not belong together"),
    ],
)
async def test_no_plan(files: list[File], message: str, tmp_path: Path) -> None:
    """Files that are no chain from the first transaction on, or of different databases, are refused."""
    with pytest.raises(RestoreError, match=message):
        await apply(files, chunks, tmp_path / "app.db")
    assert names(tmp_path) == []


async def test_store_errors_pass(tmp_path: Path) -> None:
    """What the store raises reaches the caller as it is, and all other reads are ended."""
    opened: list[str] = []
    closed: list[str] = []

    async def failing(each: PlannedFile) -> AsyncIterator[bytes]:
        opened.append(each.key)
        try:
            if each.name.min == 5:
                raise NotFound(each.key)
            async for chunk in chunks(each):
                yield chunk
                await asyncio.sleep(0)
        finally:
            closed.append(each.key)

    with pytest.raises(NotFound):
        await apply(plan(), failing, tmp_path / "app.db")
    assert sorted(opened) == sorted(closed)
    assert names(tmp_path) == []


async def test_cancelled(tmp_path: Path) -> None:
    """A restore that is cancelled leaves nothing."""

    async def hanging(each: PlannedFile) -> AsyncIterator[bytes]:
        async for chunk in chunks(each):
            yield chunk[:200]
            await asyncio.sleep(3600)

    task = asyncio.create_task(apply(plan(), hanging, tmp_path / "app.db"))
    while not names(tmp_path):  # noqa: ASYNC110 - a file's coming sets no event
        await asyncio.sleep(0.001)
    assert names(tmp_path) == [f"app.db{PARTIAL}"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names(tmp_path) == []


async def test_two_at_once(tmp_path: Path) -> None:
    """Of two restores to one target the second is refused and does the first no harm."""
    target = tmp_path / "app.db"
    first = Image(target)
    with pytest.raises(CannotWrite, match="another restore writes it"):
        await apply(plan(), chunks, target)
    first.prepare(512, 1)
    first.write([(1, ltx.page(1))])
    first.publish()
    assert target.read_bytes() == ltx.page(1)


async def test_left_over_by_a_crash(tmp_path: Path) -> None:
    """What a killed restore left behind is used again, none of its bytes among the new ones."""
    (tmp_path / f"app.db{PARTIAL}").write_bytes(b"\xff" * 100_000)
    await apply(plan(), chunks, tmp_path / "app.db")
    assert (tmp_path / "app.db").read_bytes() == expected()
    assert names(tmp_path) == ["app.db"]


async def test_file_size_limit(tmp_path: Path) -> None:
    """What the system refuses is told with the path, and nothing stays behind."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(CannotWrite, match=r"cannot write .*app\.db.*File too large"):
            await apply(plan(), chunks, tmp_path / "app.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []


async def test_no_folder(tmp_path: Path) -> None:
    """A folder that is not there is told, not made."""
    with pytest.raises(CannotWrite, match="No such file or directory"):
        await apply(plan(), chunks, tmp_path / "none" / "app.db")


async def test_progress(tmp_path: Path) -> None:
    """Progress only grows, and ends with all files and bytes."""
    told: list[Progress] = []
    await apply(plan(), chunks, tmp_path / "app.db", told.append)
    assert told == sorted(told)
    assert told[-1] == (3, sum(each.size for each in plan()))


async def test_long_chain_is_opened_ahead(tmp_path: Path) -> None:
    """Of many small files a few are on their way at once: 60 files of 20 ms do not take 1.2 s in turn."""
    running = most = 0

    async def slow(each: PlannedFile) -> AsyncIterator[bytes]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1
        async for chunk in chunks(each):
            yield chunk

    files = [plan()[0], *(file(some(1, seed=n), n, n, commit=6) for n in range(5, 40))]
    await apply(files, slow, tmp_path / "app.db")
    assert 4 <= most <= 9
    assert hashlib.sha256((tmp_path / "app.db").read_bytes()[:512]).digest() == hashlib.sha256(ltx.page(40)).digest()


def test_lock_is_given_back(tmp_path: Path) -> None:
    """After publishing, the new database is locked by nobody."""
    image = Image(tmp_path / "app.db")
    image.prepare(512, 1)
    image.write([(1, ltx.page(1))])
    image.publish(durable=False)
    with (tmp_path / "app.db").open("rb") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
