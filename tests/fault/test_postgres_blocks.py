"""Block files that were cut, flipped, moved and mixed up: what was acknowledged is kept, what is wrong is told."""

from __future__ import annotations

import os
import random
import shutil
import struct
from pathlib import Path

import pytest

from tallykeep.errors import Conflict, IntegrityError, Malformed, Refused, Unavailable
from tallykeep.systems.postgres.archive import Archive, Identity
from tallykeep.systems.postgres.archiver import Archiver
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.part import ROOM

_MIB = 1 << 20
_IDENTITY = Identity(7_000_000_000_000_000_001, _MIB)
_START = 3 * _MIB
CIPHERS = pytest.mark.parametrize("cipher", [None, Cipher.from_key(bytes(range(32)))], ids=["plain", "encrypted"])


def wal(start: int, size: int, timeline: int = 1) -> bytes:
    """WAL with true page headers, and noise that compresses by half."""
    noise = random.Random(start)
    out = bytearray(size)
    for at in range(0, size, 8192):
        lsn = start + at
        page = bytearray(noise.randbytes(4096) + bytes(4096))
        struct.pack_into("<HHIQ", page, 0, 0xD118, 0 if lsn % _MIB else 2, timeline, lsn)
        page[16:24] = bytes(8)
        if lsn % _MIB == 0:
            struct.pack_into("<QII", page, 24, _IDENTITY.system_id, _MIB, 8192)
        out[at : at + 8192] = page[: size - at]
    return bytes(out)


def written(folder: Path, cipher: Cipher | None, sizes: list[int]) -> bytes:
    """An archive of flushes of these sizes, from the start of a segment; the WAL in it."""
    data = wal(_START, sum(sizes))
    archiver = Archiver(folder, cipher)
    archiver.claim(_IDENTITY)
    archiver.begin(1, _START)
    at = 0
    for size in sizes:
        archiver.append(_START + at, data[at : at + size])
        assert archiver.flush() == _START + at + size
        at += size
    archiver.close()
    return data


def only(folder: Path) -> Path:
    """The one block file of an archive."""
    (path,) = (path for path in (folder / "wal").glob("*/*"))
    return path


@CIPHERS
def test_a_file_cut_at_every_byte_gives_every_whole_block_and_goes_on_from_there(
    tmp_path: Path, cipher: Cipher | None
) -> None:
    """Whatever is cut off, the blocks before the cut count, and the archive goes on behind them without cutting."""
    sizes = [100, 30, 500, 1]
    data = written(tmp_path / "a", cipher, sizes)
    path = only(tmp_path / "a")
    whole = path.read_bytes()
    ends, at = {0}, 0
    for size in sizes:
        at += size
        ends.add(at)
    seen = set()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        archiver = Archiver(tmp_path / "a", cipher)
        archiver.claim(_IDENTITY)
        seen.add(archiver.durable - _START)
        assert archiver.archive.read(Segment(1, LSN(_START), _MIB)) == data[: archiver.durable - _START]
        archiver.close()
        assert path.read_bytes() == whole[:cut]
    assert seen == ends - {sum(sizes)}


@CIPHERS
def test_every_flipped_byte_is_found_and_nothing_wrong_is_given_out(tmp_path: Path, cipher: Cipher | None) -> None:
    """Of a partial segment what stands before the flip is read; of a complete one nothing is, and the file is named."""
    data = written(tmp_path / "a", cipher, [60, 40])
    path, segment = only(tmp_path / "a"), Segment(1, LSN(_START), _MIB)
    whole = bytearray(path.read_bytes())
    archive = Archive(tmp_path / "a", cipher)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes((whole[at] ^ 0x41,)) + whole[at + 1 :])
        got = archive.read(segment)
        assert got in (b"", data[:60]), at
    path.write_bytes(whole)
    complete = path.with_name(segment.name)
    path.rename(complete)
    with pytest.raises(IntegrityError, match=str(complete)):
        archive.read(segment)


@CIPHERS
def test_a_complete_segment_with_any_byte_flipped_or_cut_is_an_error(tmp_path: Path, cipher: Cipher | None) -> None:
    """Also at the border of a block: the end block alone makes a segment complete."""
    data = wal(_START, _MIB)
    written(tmp_path / "a", cipher, [8192, _MIB - 8192])
    path, segment = only(tmp_path / "a"), Segment(1, LSN(_START), _MIB)
    archive, whole = Archive(tmp_path / "a", cipher), path.read_bytes()
    assert path.name == segment.name and archive.read(segment) == data
    for at in [*range(200), *range(200, len(whole), 4999), *range(len(whole) - 120, len(whole))]:
        for wrong in (whole[:at], whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :]):
            path.write_bytes(wrong)
            with pytest.raises(IntegrityError):
                archive.read(segment)


def torn_from(folder: Path, to: Path) -> Path:
    """An archive as it would be after a crash now: its files, copied while they are written."""
    shutil.copytree(folder, to)
    return to


def test_room_is_neither_wal_nor_damage_and_goes_when_the_file_is_let_go(tmp_path: Path) -> None:
    """Behind small blocks there are zeros while a file is written; killed there, its archive goes on without a word."""
    data, archiver = wal(_START, 3000), Archiver(tmp_path / "a")
    archiver.claim(_IDENTITY)
    archiver.begin(1, _START)
    for at in (0, 1000, 2000):
        archiver.append(_START + at, data[at : at + 1000])
        archiver.flush()
    killed = Archiver(torn_from(tmp_path / "a", tmp_path / "b"))
    assert only(tmp_path / "b").stat().st_size > ROOM
    assert killed.damage() == [] and killed.durable == _START + 3000
    assert killed.archive.read(Segment(1, LSN(_START), _MIB)) == data
    killed.claim(_IDENTITY)
    killed.append(killed.position, wal(_START, _MIB)[3000:])
    assert killed.archive.read(Segment(1, LSN(_START), _MIB)) == wal(_START, _MIB)
    assert only(tmp_path / "b").read_bytes()[-52:] != bytes(52)
    killed.close()
    archiver.close()
    assert only(tmp_path / "a").stat().st_size < 4000


@CIPHERS
def test_a_block_torn_inside_room_does_not_count_and_those_before_it_do(tmp_path: Path, cipher: Cipher | None) -> None:
    """Wherever a write into room ends, and wherever a page of it never reached the disk."""
    data = written(tmp_path / "a", cipher, [100, 30, 500])
    path, segment = only(tmp_path / "a"), Segment(1, LSN(_START), _MIB)
    whole = path.read_bytes()
    archive, seen = Archive(tmp_path / "a", cipher), set()
    for cut in range(64, len(whole)):
        path.write_bytes(whole[:cut].ljust(len(whole) + 4096, b"\0"))
        got = archive.read(segment)
        assert data.startswith(got)
        seen.add(len(got))
        path.write_bytes(whole[:64].ljust(cut, b"\0") + whole[cut:])
        assert archive.read(segment) == (data if cut == 64 else b"")
    assert seen >= {0, 100, 130}


def test_on_a_disk_without_place_for_room_blocks_are_durable_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room saves time, and nothing depends on it."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        data = written(tmp_path / "a", None, [100, 30, 500])
    assert Archive(tmp_path / "a").read(Segment(1, LSN(_START), _MIB)) == data


def test_damage_inside_what_was_acknowledged_is_streamed_again_and_nothing_is_cut(tmp_path: Path) -> None:
    """Blocks behind a damaged one are kept until the segment is complete without them."""
    data = wal(_START, _MIB)
    written(tmp_path / "a", None, [8192, 8192, 8192])
    path = only(tmp_path / "a")
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    archiver = Archiver(tmp_path / "a")
    archiver.claim(_IDENTITY)
    assert archiver.durable == _START + 8192 and len(archiver.damage()) == 1
    archiver.begin(1, archiver.position)
    archiver.append(archiver.position, data[8192:100_000])
    archiver.flush()
    assert path.read_bytes() == whole and archiver.archive.read(Segment(1, LSN(_START), _MIB)) == data[:100_000]
    archiver.append(archiver.position, data[100_000:])
    assert only(tmp_path / "a").name == Segment(1, LSN(_START), _MIB).name
    assert archiver.archive.read(Segment(1, LSN(_START), _MIB)) == data
    archiver.close()


def test_blocks_of_another_file_or_place_do_not_count(tmp_path: Path) -> None:
    """A block is bound to its file and position, with and without a key."""
    for name, cipher in (("plain", None), ("sealed", Cipher.from_key(bytes(32)))):
        written(tmp_path / name, cipher, [100])
        written(tmp_path / f"{name}2", cipher, [100])
        one, other = only(tmp_path / name), only(tmp_path / f"{name}2")
        one.write_bytes(one.read_bytes()[:64] + other.read_bytes()[64:])
        assert Archive(tmp_path / name, cipher).read(Segment(1, LSN(_START), _MIB)) == b""


def test_a_wrong_key_is_told_and_so_is_a_missing_one(tmp_path: Path) -> None:
    """The message names the file and what to do."""
    written(tmp_path / "a", Cipher.from_key(bytes(32)), [100])
    for wrong in (Cipher.from_key(bytes(range(32))), None):
        with pytest.raises(IntegrityError, match="key"):
            Archive(tmp_path / "a", wrong).read(Segment(1, LSN(_START), _MIB))


def test_one_archive_has_one_writer_and_one_cluster(tmp_path: Path) -> None:
    """A second writer and another system's WAL are refused."""
    written(tmp_path / "a", None, [100])
    archiver = Archiver(tmp_path / "a")
    with pytest.raises(Conflict):
        Archiver(tmp_path / "a")
    with pytest.raises(Refused, match="another cluster"):
        archiver.claim(_IDENTITY._replace(system_id=1))
    archiver.close()


@pytest.mark.parametrize(
    ("at", "value", "told"),
    [(0, b"\x00\x01", "magic"), (8, b"\xff", "says that it is"), (4, b"\x09", "timeline 9"), (24, b"\xff", "system")],
)
def test_pages_that_do_not_belong_here_are_never_acknowledged(tmp_path: Path, at: int, value: bytes, told: str) -> None:
    """Magic, address, timeline and system identifier are checked before a byte is stored."""
    data = bytearray(wal(_START, 8192))
    data[at : at + len(value)] = value
    archiver = Archiver(tmp_path / "a")
    archiver.claim(_IDENTITY, 180000)
    archiver.begin(1, _START)
    archiver.append(_START, bytes(data[:10]))
    archiver.append(_START + 10, bytes(data[10:]))
    with pytest.raises(Malformed, match=told):
        archiver.flush()
    assert archiver.durable == _START and not list((tmp_path / "a" / "wal").glob("*/*"))
    archiver.close()


def test_a_failed_sync_acknowledges_nothing_and_the_rest_is_streamed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed fsync nobody trusts what the page cache shows."""
    data = wal(_START, 3 * 8192)
    archiver = Archiver(tmp_path / "a")
    archiver.claim(_IDENTITY)
    archiver.begin(1, _START)
    archiver.append(_START, data[:8192])
    archiver.flush()

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        archiver.append(archiver.position, data[8192:16384])
        with pytest.raises(Unavailable, match="Nothing that was acknowledged is lost"):
            archiver.flush()
    assert archiver.durable == _START + 8192
    archiver.abandon()
    assert archiver.position == archiver.durable == _START + 8192
    archiver.begin(1, archiver.position)
    archiver.append(archiver.position, data[8192:])
    archiver.flush()
    assert archiver.archive.read(Segment(1, LSN(_START), _MIB)) == data
    archiver.close()
