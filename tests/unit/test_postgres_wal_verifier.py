"""What the verifier of an archive remembers. Records of real WAL: integration/test_postgres_verifier.py."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tallykeep.clock import SystemClock
from tallykeep.systems.postgres.archive import Archive, Identity, Stored
from tallykeep.systems.postgres.archiver import Archiver
from tallykeep.systems.postgres.verifier import Verifier

MIB = 1 << 20
SYSTEM = 7_000_000_000_000_000_001


def empty(start: int, size: int) -> bytes:
    """WAL without a record: pages that follow one another."""
    out = bytearray(size)
    for at in range(0, size, 8192):
        struct.pack_into("<HHIQ", out, at, 0xD118, 0 if at % MIB else 2, 1, start + at)
        if at % MIB == 0:
            struct.pack_into("<QII", out, at + 24, SYSTEM, MIB, 8192)
    return bytes(out)


def proved(folder: Path) -> Verifier:
    """A verifier as a process begins it, once it has proved what there is."""
    verifier = Verifier("main", Archive(folder), SystemClock())
    verifier.resume()
    while (segment := verifier.following()) is not None:
        verifier.prove(segment)
    return verifier


def damage_one(folder: Path) -> tuple[Stored, Path, bytes]:
    """Three segments, one of them damaged: that, its file, and what should be in it."""
    archiver = Archiver(folder)
    archiver.claim(Identity(SYSTEM, MIB))
    archiver.begin(1, MIB)
    archiver.append(MIB, empty(MIB, 3 * MIB))
    archiver.close()
    (_, damaged, _) = Archive(folder).segments()
    (path,) = damaged.paths
    sound = path.read_bytes()
    path.write_bytes(sound[:100] + bytes([sound[100] ^ 1]) + sound[101:])
    return damaged, path, sound


def test_damage_is_not_forgotten_over_a_restart_until_it_is_mended(tmp_path: Path) -> None:
    """A restart does not make an archive sound; a segment that was brought back does."""
    damaged, path, sound = damage_one(tmp_path)
    assert list(proved(tmp_path).damage) == [damaged.segment]
    assert list(proved(tmp_path).damage) == [damaged.segment]
    path.write_bytes(sound)
    assert not proved(tmp_path).damage


@pytest.mark.parametrize("mended", [True, False])
def test_damage_that_is_no_more_needs_no_restart(tmp_path: Path, mended: bool) -> None:
    """A segment that was brought back, or that retention let go of, is damaged no longer, here and after a restart."""
    damaged, path, sound = damage_one(tmp_path)
    verifier = proved(tmp_path)
    verifier.look_again()
    assert list(verifier.damage) == [damaged.segment]
    if mended:
        (path.parent / "new").write_bytes(sound)
        (path.parent / "new").replace(path)
    else:
        path.unlink()
    verifier.look_again()
    assert not verifier.damage and not proved(tmp_path).damage
