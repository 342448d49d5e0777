"""WAL for a server that recovers, over two archives of small segments: what counts as not there, and the spool."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tallykeep.clock import SystemClock
from tallykeep.errors import IntegrityError, Malformed, NotFound, Unavailable
from tallykeep.systems.postgres.archive import Archive, Identity
from tallykeep.systems.postgres.archiver import Archiver
from tallykeep.systems.postgres.blocks import Encoder, Header
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.restoring.asking import Asking
from tallykeep.systems.postgres.restoring.getwal import ASIDE, Planned, get_wal, place
from tallykeep.systems.postgres.restoring.spool import Feeder, Spool
from tallykeep.systems.postgres.restoring.tiered_wal import TieredWal
from tallykeep.systems.postgres.wal_source import LocalWal

SIZE = 1 << 20
ALL = [Segment(1, LSN(number * SIZE), SIZE) for number in range(1, 8)]


def archive(folder: Path, segments: Sequence[Segment], *, held: int = SIZE) -> LocalWal:
    """An archive of complete segments, or of the beginnings of them."""
    folder.mkdir()
    (folder / "identity.json").write_text(json.dumps({"system_id": "7", "segment_size": SIZE}))
    for segment in segments:
        encoder = Encoder(Header(False, segment, segment.start, 7, b"x" * 16), None)
        data = encoder.header + encoder.block(segment.start, content(segment)[:held])
        path = folder / "wal" / segment.name[:16] / segment.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if held == SIZE:
            path.write_bytes(data + encoder.end(segment.end))
        else:
            path.with_name(f"{segment.name}.0001.part").write_bytes(data)
    return LocalWal(Archive(folder))


def content(segment: Segment) -> bytes:
    return segment.name.encode() * (SIZE // 24 + 1)


async def test_a_segment_comes_from_the_first_tier_that_has_it_whole(tmp_path: Path) -> None:
    """A beginning counts only where no tier has more."""
    first = archive(tmp_path / "a", ALL[:2], held=1000)
    second = archive(tmp_path / "b", ALL[:1])
    wal = TieredWal([first, second])
    assert await wal.read(ALL[0]) == content(ALL[0])[:SIZE]
    assert await wal.read(ALL[1]) == content(ALL[1])[:1000]
    with pytest.raises(NotFound):
        await wal.read(ALL[2])
    held = await wal.segments()
    assert [(each.segment, each.complete) for each in held] == [(ALL[0], True), (ALL[1], False)]


async def test_only_what_every_tier_has_answered_for_is_not_there(tmp_path: Path) -> None:
    """Damage that the other tier does not heal, and a tier that has vanished, are errors."""
    first, second = archive(tmp_path / "a", ALL[:2]), archive(tmp_path / "b", ALL[:1])
    wal = TieredWal([first, second])
    for segment in ALL[:2]:
        path = tmp_path / "a/wal" / segment.name[:16] / segment.name
        path.write_bytes(path.read_bytes()[:-30])
    assert await wal.read(ALL[0]) == content(ALL[0])[:SIZE], "healed"
    out = tmp_path / "out"
    with pytest.raises(IntegrityError, match=ALL[1].name):
        await get_wal(wal, ALL[1].name, out)
    assert await get_wal(wal, ALL[2].name, out) is None
    (tmp_path / "b/identity.json").unlink()
    with pytest.raises(Unavailable, match="is it mounted"):
        await get_wal(wal, ALL[2].name, out)
    assert not out.exists()


async def test_a_beginning_is_filled_up_with_zeros(tmp_path: Path) -> None:
    """To a server they are the end of WAL; nothing is to be fetched ahead behind them."""
    wal, out = TieredWal([archive(tmp_path / "a", ALL[:1], held=1000)]), tmp_path / "out"
    given = await get_wal(wal, ALL[0].name, out)
    assert given is not None and given.following is None
    assert out.read_bytes() == content(ALL[0])[:1000].ljust(SIZE, b"\0")


async def test_the_feeder_keeps_ahead_follows_and_ends(tmp_path: Path) -> None:
    """Only complete segments; as many as it is told; on another course when one is asked for; gone with its spool."""
    source = archive(tmp_path / "a", ALL[:6])
    spool = _told_to_begin(tmp_path)
    names = [segment.name for segment in ALL]
    with spool.feeding() as mine, spool.feeding() as other:
        assert mine and not other, "one feeds at a time"
    feeding = asyncio.create_task(Feeder(TieredWal([source]), spool, SystemClock(), 2).run())
    await _until(spool, names[:2])
    assert (spool.folder / names[0]).read_bytes() == content(ALL[0])[:SIZE]
    (spool.folder / names[0]).unlink()
    await _until(spool, names[1:3])
    spool.go_on(ALL[4])
    await _until(spool, names[4:6])
    (spool.folder / names[4]).unlink()
    await asyncio.wait_for(feeding, 60)
    assert spool.names() == names[5:6], "WAL has ended, and what was fetched stays"
    feeding = asyncio.create_task(Feeder(TieredWal([source]), spool, SystemClock(), 1).run())
    await _until(spool, names[4:5])
    shutil.rmtree(spool.folder)
    await asyncio.wait_for(feeding, 60)


async def test_the_feeder_fetches_nothing_twice(tmp_path: Path) -> None:
    """A server that has overtaken it, and had a segment from get-wal, finds those behind it where they were put."""
    source = archive(tmp_path / "a", ALL[:5])
    spool = _told_to_begin(tmp_path)
    names = [segment.name for segment in ALL]
    feeding = asyncio.create_task(Feeder(TieredWal([source]), spool, SystemClock(), 4).run())
    await _until(spool, names[:4])
    there = (spool.folder / names[2]).stat().st_ino
    spool.go_on(ALL[2])
    await _until(spool, names[2:5])
    assert (spool.folder / names[2]).stat().st_ino == there
    await asyncio.wait_for(feeding, 60)


def _told_to_begin(folder: Path) -> Spool:
    """A spool whose feeder is to begin at the first segment."""
    spool = Spool(folder / "spool")
    spool.make()
    spool.go_on(ALL[0])
    return spool


async def _until(spool: Spool, names: list[str]) -> None:
    async with asyncio.timeout(60):
        while spool.names() != names:  # noqa: ASYNC110 - another process would not say so either
            await asyncio.sleep(0.01)


async def test_the_feeder_removes_what_one_that_was_killed_was_writing(tmp_path: Path) -> None:
    """Segments that were half written; what get-wal writes there is left to it."""
    spool = Spool(tmp_path / "spool")
    spool.make()
    left, others = spool.folder / f"{ALL[0].name}.0{ASIDE}", spool.folder / f"following.0{ASIDE}"
    left.touch()
    others.touch()
    await Feeder(TieredWal([archive(tmp_path / "a", ALL[:1])]), spool, SystemClock()).run()
    assert list(spool.folder.iterdir()) == [others]


async def test_what_a_dead_server_had_asked_for_is_not_put_in_the_way_of_the_next(tmp_path: Path) -> None:
    """Killed while WAL is read, and perhaps started again: it may be reading another segment under that name.

    A server that cannot be seen from the first on, from within a container say, is served while it is the same.
    """
    told, out = tmp_path / "postmaster.pid", tmp_path / "RECOVERYXLOG"
    out.write_bytes(b"of the new one")

    class Killed(LocalWal):
        async def read(self, segment: Segment) -> bytes:
            if server.poll() is None:
                server.kill()
                server.wait()
            else:
                told.write_text(f"{os.getpid()}\n")
            return await super().read(segment)

    source = archive(tmp_path / "a", ALL[:1])
    with _sleeping() as server:
        for _ in ("killed", "and started again"):
            told.write_text(f"{server.pid}\n/data\n")
            with pytest.raises(Unavailable, match="the server that asked for it has ended"):
                await get_wal(TieredWal([Killed(source.archive)]), ALL[0].name, out, asking=Asking(tmp_path))
    assert out.read_bytes() == b"of the new one" and not _aside(tmp_path)
    for text in (f"{os.getpid()}\n", f"-{os.getpid()}\n", f"{server.pid}\n", "", "x"):
        told.write_text(text)
        assert await get_wal(TieredWal([source]), ALL[0].name, out, asking=Asking(tmp_path)) is not None
    assert out.read_bytes() == content(ALL[0])[:SIZE]


def _aside(folder: Path) -> list[Path]:
    return list(folder.glob(f"*{ASIDE}"))


def _sleeping() -> subprocess.Popen[bytes]:
    """A process that stands for a server."""
    return subprocess.Popen(["sleep", "600"])


def test_two_that_write_the_same_file_do_not_mix(tmp_path: Path) -> None:
    """A get-wal whose server was killed goes on beside that of the next one: each file is the one's or the other's."""
    out, wholes = tmp_path / "out", [bytes([number]) * SIZE for number in (1, 2)]
    for _ in range(20):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda data: place(data, out), wholes))
        assert out.read_bytes() in wholes
    assert list(tmp_path.iterdir()) == [out]


def test_a_file_that_cannot_be_written_is_said_to_be_so(tmp_path: Path) -> None:
    """Nothing is left under its name."""
    with pytest.raises(Unavailable, match="cannot be written"):
        place(b"x", tmp_path / "nowhere/file")


async def test_what_was_held_when_a_restore_was_planned_is_due(tmp_path: Path) -> None:
    """A file that is gone since, or shorter, is an error: to a server it would be the end of WAL."""
    source = archive(tmp_path / "a", [*ALL[:2], *ALL[3:4]])
    wal, out = TieredWal([source, archive(tmp_path / "b", ALL[4:5], held=1000)]), tmp_path / "out"
    planned = Planned(1, LSN(ALL[4].start + 1000))
    assert Planned.parse(str(planned)) == planned
    with pytest.raises(Unavailable, match=f"up to {planned.end} was held when the restore was planned"):
        await get_wal(wal, ALL[2].name, out, planned)
    for segment in (ALL[0], ALL[3], ALL[4]):
        assert await get_wal(wal, segment.name, out, planned) is not None
    with pytest.raises(Unavailable, match=f"behind {planned.end} is held now"):
        await get_wal(wal, ALL[4].name, out, Planned(1, LSN(planned.end + 1)))
    assert await get_wal(wal, ALL[5].name, out, planned) is None
    assert await get_wal(wal, ALL[2].name, out, Planned(1, ALL[2].start)) is None
    for text in ("0/1", "x@0/1", "1@", "1@x"):
        with pytest.raises(Malformed):
            Planned.parse(text)


async def test_what_is_due_follows_the_line_of_timelines(tmp_path: Path) -> None:
    """A server asks for each file of the newest timeline first; of each only what lies on the line is due."""
    fork = LSN(ALL[2].start + SIZE // 2)
    source = archive(tmp_path / "a", [])
    (tmp_path / "a" / "wal").mkdir()
    (tmp_path / "a" / "wal" / "00000002.history").write_text(f"1\t{fork}\tno recovery target specified\n")
    wal, planned = TieredWal([source]), Planned(2, ALL[4].start)
    absent = [ALL[1]._replace(timeline=2), ALL[3], ALL[4]._replace(timeline=2), ALL[2]._replace(timeline=3)]
    due = [ALL[1], ALL[2], ALL[2]._replace(timeline=2), ALL[3]._replace(timeline=2)]
    for segment in absent:
        assert await get_wal(wal, segment.name, tmp_path / "out", planned) is None, segment
    for segment in due:
        with pytest.raises(Unavailable, match="was held when the restore was planned"):
            await get_wal(wal, segment.name, tmp_path / "out", planned)


async def test_a_history_in_another_encoding_is_given_back_as_it_is(tmp_path: Path) -> None:
    """Its reason holds the name of a restore point, in the encoding of the database that it was made in."""
    raw = b'1\t0/5000\tat restore point "vor\x0b \xe4\xf6"\n\n2\t0/6000\tno recovery target specified\n'
    for cipher in (None, Cipher.from_key(bytes(32))):
        archiver = Archiver(folder := tmp_path / str(cipher is None), cipher)
        archiver.claim(Identity(7, SIZE))
        archiver.put_history(3, raw.decode(errors="surrogateescape"))
        archiver.close()
        source = LocalWal(Archive(folder, cipher))
        assert await get_wal(TieredWal([source]), "00000003.history", tmp_path / "out") is not None
        assert (tmp_path / "out").read_bytes() == raw
        assert [fork.timeline for fork in source.archive.history(3).forks] == [1, 2]
