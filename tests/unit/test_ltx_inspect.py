"""The command `ltx`: what it prints, and with which exit status it ends."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from tests.support import ltx_encoder as ltx
from tests.support.replicas import replica

from tallykeep.systems.litestream.inspect import add_ltx, inspect


def run(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    add_ltx(parser.add_subparsers())
    args = parser.parse_args(["ltx", *map(str, words)])
    status: int = args.run(args)
    return status


def test_sound_files(capsys: pytest.CaptureFixture[str]) -> None:
    """All files sound: one line each with what they hold, exit status 0."""
    files = sorted(replica("healthy").glob("*/*.ltx"))
    assert run(*files) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == f"{len(files)} files, 0 not sound"
    assert all(line.startswith("sound ") and str(path) in line for line, path in zip(out, files, strict=False))
    assert "0000000000000006 to 0000000000000023, 2026-11-21T01:29:17.317Z, 6 of 8 pages of 1024 bytes, 4.1 KiB" in str(
        out
    )


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("flip-page", "checksum"),
        ("truncated", "truncated"),
        ("zero-byte", "too_small"),
        ("renamed", "header_name_mismatch"),
    ],
)
def test_damage(case: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One damaged file among sound ones: exit status 1, and the line of that file says why."""
    files = sorted(replica(case).glob("*/*.ltx"))
    assert run("--json", *files) == 1
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["reason"] for line in told if not line["sound"]] == [reason]
    assert len(told) == len(files)


def test_json_holds_the_header(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json every field of the header stands in the object of the file."""
    assert run("--json", replica("healthy") / "0003/0000000000000006-0000000000000023.ltx") == 0
    told = json.loads(capsys.readouterr().out)
    assert told | {"file": ""} == {
        "file": "", "sound": True, "reason": None, "message": None, "size": 4249, "pages": 6, "missing_pages": 0,
        "min_txid": "0000000000000006", "max_txid": "0000000000000023", "timestamp": "2026-11-21T01:29:17.317Z",
        "page_size": 1024, "commit": 8, "wal_offset": 0, "wal_size": 0, "wal_salts": ["00000000", "00000000"],
    }  # fmt: skip


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is wrong usage: nothing is read, exit status 2."""
    assert run(tmp_path / "none.ltx", tmp_path) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("no such file") == 2


def test_incomplete_snapshot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file from the first transaction on that lacks pages is not sound: missing_pages."""
    path = tmp_path / "any-name"
    path.write_bytes(ltx.encode([ltx.block(number, ltx.page(number)) for number in (1, 2, 5)], commit=6))
    finding = inspect(path)
    assert (finding.reason, list(finding.missing)) == ("missing_pages", [3, 4, 6])
    assert run(path) == 1
    assert "lacks 3-4, 6" in capsys.readouterr().out


@pytest.mark.parametrize("timestamp", [-(2**63), 2**63 - 1, -1, 0])
def test_any_timestamp(timestamp: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A timestamp that no calendar has is printed all the same."""
    path = tmp_path / "0000000000000001-0000000000000001.ltx"
    path.write_bytes(ltx.encode([ltx.block(1, ltx.page(1))], timestamp_ms=timestamp))
    assert run(path) == 0
    assert capsys.readouterr().out.startswith("sound")
