"""Restores from what is left: tier 2 alone, damage that the other tier heals, damage that none does, silence."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres import server_folder
from tests.support.postgres_majors import MajorServer
from tests.support.postgres_restore import OWNER, SETTINGS, Kept, get_wal, numbers, program, recovering
from tests.support.postgres_wal import place, wait

from tallykeep.config.model import Secret
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.errors import ConfigError, IntegrityError, RestoreError, Unreachable
from tallykeep.systems.postgres import keyfile
from tallykeep.systems.postgres.basebackup.putting import MARKER
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.settings import Tier2Settings

__all__ = ["place"]
pytestmark = pytest.mark.server
MAJOR = 17


@pytest.fixture(scope="module")
def original() -> Iterator[Kept]:
    """An encrypted archive of a primary that is gone: a backup between rows, then a few segments of WAL."""
    with server_folder() as folder:
        kept = Kept(folder, key_file=folder / "recovery.key")
        assert kept.key_file is not None
        keyfile.write(kept.key_file, keyfile.generate())
        asyncio.run(_made(kept))
        kept.key_file.chmod(0o644)
        yield kept


async def _made(kept: Kept) -> None:
    with MajorServer(MAJOR, kept.place / "primary", SETTINGS) as server, kept.receiving(server):
        kept.write(server, 5)
        await kept.back_up(server, "only")
        for _ in range(4):
            kept.write(server, 5)
            with psycopg.connect(server.dsn(), autocommit=True) as db:
                db.execute("SELECT pg_switch_wal()")
        kept.write(server, 5)
        kept.note_times(server)


@pytest.fixture
def kept(original: Kept, place: Path) -> Kept:
    """A copy, with an empty folder for tier 2."""
    return original.copy(place, Tier2Settings(url=str(place / "bucket")))


def flip(path: Path, at: float = 0.5) -> None:
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 1
    path.write_bytes(data)


def segments(kept: Kept, *, complete: bool = True) -> list[Path]:
    """Files of WAL in tier 1."""
    return sorted(path for path in (kept.place / "archive/main/wal").glob("*/*") if (path.suffix == "") == complete)


def everything(kept: Kept) -> list[int]:
    return [row.number for row in kept.rows]


def on_s3(server: SeaweedFS, bucket: str) -> Tier2Settings:
    settings = server.settings(bucket)
    return Tier2Settings(
        url=f"s3://{bucket}/deep", endpoint=server.endpoint, region="us-east-1", access_key=settings.access_key,
        secret_key=Secret(settings.secret_key),
    )  # fmt: skip


async def test_tier_2_alone_on_a_fresh_machine(
    original: Kept, place: Path, seaweedfs: SeaweedFS, bucket: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A bucket, the key, AWS's own variables and one command; without the right key it says so."""
    kept = original.copy(place, on_s3(seaweedfs, bucket))
    await kept.offload()
    shutil.rmtree(place / "archive")
    aws = {"AWS_ACCESS_KEY_ID": seaweedfs.access_key, "AWS_SECRET_ACCESS_KEY": seaweedfs.secret_key,
           "AWS_ENDPOINT_URL": seaweedfs.endpoint, "AWS_REGION": "us-east-1"}  # fmt: skip
    target, wrong = place / "again/data", place / "wrong.key"
    keyfile.write(wrong, keyfile.generate())
    argv = [sys.executable, "-m", "tallykeep", "postgres", "restore", "--cluster", "main", "--tier2", kept.tier2.url,
            "--to", str(target), "--json", "--owner", OWNER, "--program", " ".join(program(**aws))]  # fmt: skip

    def run(key: Path, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*argv, "--key-file", str(key), *more], capture_output=True, text=True, env={**os.environ, **aws},
            check=False, cwd=place,
        )  # fmt: skip

    refused = await asyncio.to_thread(run, wrong)
    assert refused.returncode == 2 and "another key" in refused.stderr
    assert kept.key_file is not None
    planned = await asyncio.to_thread(run, kept.key_file, "--dry-run")
    assert json.loads(planned.stdout)["tier"] == "2" and not target.exists(), planned.stderr
    done = await asyncio.to_thread(run, kept.key_file)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["wal_tiers"] == ["2"]
    with recovering(MAJOR, place / "again") as server:
        assert numbers(server) == everything(kept)


async def test_damage_in_tier_1_is_healed_from_tier_2(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """A changed byte and a missing pack, a changed byte of WAL, and a segment that is gone: nothing is lost by them."""
    await kept.offload()
    packs = sorted((kept.place / "archive/main/base/packs").rglob("*/*"), key=lambda path: path.stat().st_size)
    flip(packs[-1], 0.3)
    for pack in packs[:-1]:
        pack.unlink()
    flip(segments(kept)[2])
    segments(kept)[3].unlink()
    kept.hand_over()
    done = await kept.restore(kept.place / "again/data")
    assert done.plan.tier == "1" and "come from there instead" in caplog.text
    with recovering(MAJOR, kept.place / "again") as server:
        assert numbers(server) == everything(kept)
        assert "comes from tier 2 instead" in server.log.read_text() or "restored log file" in server.log.read_text()


async def test_a_tier_1_that_is_gone_or_broken_is_left_out_and_that_is_said(kept: Kept) -> None:
    """Its backups, or all of it; and with --tier the other one is not asked."""
    await kept.offload()
    manifest = next((kept.place / "archive/main/base/manifest").iterdir())
    flip(manifest)
    planned = await kept.plan(kept.place / "again")
    assert planned.tier == "2" and planned.wal_tiers == ["1", "2"]
    assert "tier 1: its base backups cannot be used" in planned.notes[0]
    shutil.rmtree(kept.place / "archive")
    planned = await kept.plan(kept.place / "again")
    assert planned.tier == "2" and planned.wal_tiers == ["2"]
    assert "tier 1: its WAL cannot be used" in planned.notes[1]
    with pytest.raises(RestoreError, match="there is no backup to restore"):
        await kept.plan(kept.place / "again", tiers=("1",))
    with pytest.raises(ConfigError, match="no tier 2"):
        await Kept(kept.place).plan(kept.place / "again", tiers=("2",))


async def test_damage_that_no_tier_heals_ends_a_restore_with_its_name(kept: Kept) -> None:
    """The pack is named; begun again once it is back, the restore keeps what was there."""
    packs = sorted((kept.place / "archive/main/base/packs").rglob("*/*"))
    saved = packs[0].read_bytes()
    flip(packs[0])
    with pytest.raises(IntegrityError, match=packs[0].name):
        await kept.restore(kept.place / "again/data")
    packs[0].write_bytes(saved)
    kept.hand_over()
    done = await kept.restore(kept.place / "again/data")
    assert any("is gone on with" in note for note in done.notes)
    with recovering(MAJOR, kept.place / "again") as server:
        assert numbers(server) == everything(kept)


async def test_a_store_that_falls_silent_ends_recovery_and_is_no_end_of_wal(
    original: Kept, place: Path, own_seaweedfs: SeaweedFS
) -> None:
    """The server does not open for writing; when the store answers again it recovers to the end."""
    own_seaweedfs.create_bucket("bucket")
    kept = original.copy(place, on_s3(own_seaweedfs, "bucket"))
    await kept.offload()
    await kept.restore(place / "again/data", tiers=("2",))
    patient, kept.tier2 = kept.tier2, replace(kept.tier2, timeout=2.0)
    kept.hand_over()
    own_seaweedfs.freeze()
    with pytest.raises(Unreachable) as caught, recovering(MAJOR, place / "again"):
        pass
    assert "FATAL:  could not restore file" in str(caught.value)
    assert "it is not the end of WAL" in (place / "again/postgres.log").read_text()
    assert (place / "again/data/recovery.signal").exists()
    own_seaweedfs.thaw()
    kept.tier2 = patient
    kept.hand_over()
    with recovering(MAJOR, place / "again") as server:
        assert numbers(server) == everything(kept)


async def test_what_get_wal_says(kept: Kept) -> None:
    """0 with a whole segment, zeros behind what is held; 1 for what is nowhere; 255 for everything else."""
    out = kept.place / "out"
    names = [path.name for path in segments(kept)]
    partial = segments(kept, complete=False)[0]
    ended: Callable[..., int] = lambda name, *options: get_wal(kept, name, out, *options).returncode  # noqa: E731
    await kept.offload()
    assert await asyncio.to_thread(ended, names[0]) == 0 and out.stat().st_size == 16 << 20
    assert await asyncio.to_thread(ended, partial.name[:24]) == 0
    data = out.read_bytes()
    assert len(data) == 16 << 20 and data[:2] != b"\0\0" and not any(data[-(1 << 20) :])
    out.unlink()
    for name in ("0000000100000000000000AA", "00000002.history", "00000002" + names[0][8:], "x.backup", "x"):
        assert await asyncio.to_thread(ended, name) == 1, name
    assert await asyncio.to_thread(ended, "00000002.history", "--absent", "99") == 99
    flip(segments(kept)[1])
    assert await asyncio.to_thread(ended, names[1], "--tier", "1") == 255
    assert await asyncio.to_thread(ended, names[1]) == 0
    out.unlink()
    (kept.place / "archive/main/identity.json").unlink()
    assert await asyncio.to_thread(ended, "0000000100000000000000AA") == 255, "tier 1 may be unmounted"
    assert await asyncio.to_thread(ended, names[0], "--cluster", "other") == 255
    assert not out.exists()


async def test_targets_beyond_what_is_held_are_refused_before_anything_is_written(kept: Kept) -> None:
    """By LSN exactly, by time as far as the last commit; the answer says what can be reached."""
    target, last = kept.place / "again", kept.rows[-1]
    planned = await kept.plan(target)
    assert planned.last_commit == pytest.approx(last.committed, abs=1e-5)
    for asked in ({"time": last.committed + 0.001}, {"lsn": LSN(planned.reach.end + 8)}):
        with pytest.raises(RestoreError, match="lies beyond"):
            await kept.plan(target, **asked)
    await kept.plan(target, time=kept.rows[-2].committed)
    await kept.plan(target, lsn=last.before)
    segments(kept)[3].unlink()
    with pytest.raises(RestoreError, match="behind a gap"):
        await kept.plan(target, lsn=last.before)
    with pytest.raises(RestoreError, match="without a gap"):
        await kept.plan(target, time=last.committed - 0.0001)
    holed = await kept.plan(target)
    assert any("behind that gap" in note and note.endswith("is NOT recovered") for note in holed.notes)
    assert not target.exists()


def test_a_restore_that_is_killed_is_gone_on_with(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at any moment PostgreSQL does not start from it; the same command ends it, and nothing is in the way.

    Settings come from variables with relative paths, of which PostgreSQL knows nothing.
    """
    target = kept.place / "again/data"
    argv = [sys.executable, "-m", "tallykeep", "postgres", "restore", "--to", str(target), "-q", "--owner", OWNER,
            "--program", " ".join(program())]  # fmt: skip
    monkeypatch.chdir(kept.place)
    monkeypatch.setenv("TALLYKEEP_POSTGRES_URL", "host=gone")
    monkeypatch.setenv("TALLYKEEP_POSTGRES_ARCHIVE", "archive")
    monkeypatch.setenv("TALLYKEEP_POSTGRES_KEY_FILE", str(kept.key_file))
    (kept.place / "archive/main").rename(kept.place / "archive/default")
    kept.hand_over()
    finished = []
    for size in (0, 1 << 20, 8 << 20):
        _kill_at(argv, target, size)
        if (target / "recovery.signal").exists():  # it had come to its end, but for the marker maybe
            finished.append(_content(target))
        else:
            assert (target / MARKER).exists()
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "is not empty" in done.stderr, done.stderr
    assert all(each == _content(target) for each in finished)
    refused = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "is not empty: restore into a new folder" in refused.stderr
    with recovering(MAJOR, kept.place / "again") as server:
        assert numbers(server) == everything(kept)


def _content(target: Path) -> dict[Path, str]:
    """Every file but the marker, and its hash."""
    return {
        path.relative_to(target): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in target.rglob("*") if path.is_file() and path.name != MARKER
    }  # fmt: skip


def _kill_at(argv: Sequence[str], target: Path, size: int) -> None:
    """Kill a restore when more than that has been written."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait(lambda: process.poll() is not None or _written(target) > size)
    process.kill()
    process.wait()


def _written(target: Path) -> int:
    try:
        return (
            sum(path.stat().st_blocks * 512 for path in target.rglob("*") if path.is_file()) if target.exists() else -1
        )
    except FileNotFoundError:
        return -1
