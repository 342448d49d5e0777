"""The commands of `tallykeep litestream`, as a user calls them, on real and on damaged replicas."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.damage import DAMAGES, damaged
from tests.support.litestream_cli import Cli, Expected
from tests.support.replicas import CASES, FIXTURES, LOCAL_DB, LOCAL_LTX, dry_run, in_folder_layout, replica
from tests.support.servers import need

from tallykeep.demo.litestream import run_litestream
from tallykeep.systems.litestream.rpo import BUDGET
from tallykeep.systems.litestream.verdict import NEWER_V3

FINE: Expected = (0, "restorable", [], 0x3B)
L3_CORRUPT: Expected = (1, "unrestorable", ["corrupt"], 0x20)
BESIDE_PLAN: Expected = (1, "restorable", ["corrupt"], 0x3B)

LISTING: dict[str, Expected] = {
    "gap-tail": (1, "unrestorable", ["gap"], 0x39),
    "gap-middle": (1, "unrestorable", ["gap"], 0x26),
    "zero-byte": (1, "unrestorable", ["corrupt"], 0x3A),
    "no-base": (1, "unrestorable", ["no_base"], None),
    "empty": (1, "unrestorable", ["empty"], None),
    "renamed": (0, "restorable", [], 0x3C),
    "stale": (0, "restorable", [], 0x30),
    "db-replaced": (0, "restorable", [], 0xC),
    "v3-only": (3, "unknown", [], None),
}
CHECKSUMS: dict[str, Expected] = LISTING | {
    **dict.fromkeys(["truncated", "flip-page", "flip-reserved", "flip-timestamp", "flip-index"], L3_CORRUPT),
    **dict.fromkeys(["flip-unused", "overlap"], BESIDE_PLAN),
    "flip-snapshot": (1, "unrestorable", ["corrupt"], None),
    "renamed": (1, "unrestorable", ["corrupt"], 0x3B),
    "page-size": (1, "unrestorable", ["corrupt"], 0x3A),
    "missing-pages": (1, "unrestorable", ["missing_pages"], 0x3A),
}
DRILL: dict[str, Expected] = CHECKSUMS | {"db-replaced": (1, "unrestorable", ["malformed_database"], None)}
EVERY = [*CASES, *DAMAGES]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.mark.parametrize("case", EVERY)
def test_listing(case: str, cli: Cli, tmp_path: Path) -> None:
    """By names and sizes alone every case gets the verdict that these can carry."""
    assert cli.check(damaged(case, tmp_path / case)) == LISTING.get(case, FINE)


@pytest.mark.parametrize("case", EVERY)
def test_deep(case: str, cli: Cli, tmp_path: Path) -> None:
    """With every file read, every damage of a file is found, in the plan or beside it."""
    assert cli.check(damaged(case, tmp_path / case), "--deep") == CHECKSUMS.get(case, FINE)


@pytest.mark.parametrize("case", EVERY)
def test_drill(case: str, cli: Cli, tmp_path: Path) -> None:
    """With the database restored as well, the one that only SQLite finds malformed is found."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert cli.check(damaged(case, tmp_path / case), "--drill", "--scratch", scratch) == DRILL.get(case, FINE)
    assert not list(scratch.iterdir())


@pytest.mark.parametrize(
    ("case", "options", "expected", "lag", "commits"),
    [
        ("healthy", [], FINE, 0, 7),
        ("healthy", ["--drill"], FINE, 0, 7),
        ("gap-covered", ["--deep"], FINE, 0, 7),
        ("stale", [], (1, "restorable", ["stale"], 0x30), 11, 27),
        ("stale", ["--deep"], (1, "restorable", ["stale"], 0x30), 11, 27),
        ("stale", ["--drill"], (1, "restorable", ["stale"], 0x30), 11, 27),
        ("gap-tail", [], (1, "unrestorable", ["gap"], 0x39), 2, 9),
        ("zero-byte", [], (1, "unrestorable", ["corrupt"], 0x3A), 1, 7),
    ],
)
def test_with_the_local_side(
    case: str, options: list[str], expected: Expected, lag: int, commits: int, cli: Cli, tmp_path: Path
) -> None:
    """With --local the report says how many TXIDs and commits a restore would lack, and stale is a reason."""
    root = damaged(case, tmp_path / case)
    _, told = cli.json("check", root, "--local", FIXTURES / "local", *options)
    assert (told["lag_txids"], told["rpo_commits"]) == (lag, commits)
    assert cli.check(root, "--local", LOCAL_LTX, *options) == expected


def test_a_lower_bound_instead_of_commits(cli: Cli) -> None:
    """Where the WAL does not tell how many commits are missing, `rpo_at_least` and a reason stand, and no number."""
    _, told = cli.json("check", replica("no-base"), "--local", LOCAL_DB)
    assert "rpo_commits" not in told
    assert told["rpo_at_least"] > 0
    assert told["rpo_reason"]


@pytest.mark.parametrize("local", [FIXTURES / "local", LOCAL_DB, LOCAL_LTX, LOCAL_LTX.parent])
def test_forms_of_local(local: Path, cli: Cli) -> None:
    """--local takes the folder around it, the database, the LTX folder, or Litestream's own folder."""
    _, told = cli.json("check", replica("healthy"), "--local", local)
    assert (told["lag_txids"], told["rpo_commits"]) == (0, 7)


def test_a_lost_database(cli: Cli, tmp_path: Path) -> None:
    """The database that --local names may be gone: what Litestream keeps beside it still tells how far it was."""
    shutil.copytree(FIXTURES / "local", tmp_path / "data")
    for name in ("omni.db", "omni.db-wal"):
        (tmp_path / "data" / name).unlink()
    status, told = cli.json("check", replica("stale"), "--local", tmp_path / "data" / "omni.db")
    assert (status, told["reasons"], told["lag_txids"]) == (1, ["stale"], 11)
    assert told["rpo_reason"] == "database_missing"


def test_a_huge_wal_is_read_to_its_end(cli: Cli, tmp_path: Path) -> None:
    """A command has no later look in which it could go on: what is at risk is counted at once, however much it is."""
    shutil.copytree(FIXTURES / "local", tmp_path / "busy")
    with closing(sqlite3.connect(tmp_path / "busy" / "omni.db", isolation_level=None)) as database:
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("CREATE TABLE large AS SELECT zeroblob(70000000) AS content")
        shutil.copytree(tmp_path / "busy", tmp_path / "data", ignore=shutil.ignore_patterns("*-shm"))
    assert (tmp_path / "data" / "omni.db-wal").stat().st_size > BUDGET
    _, told = cli.json("check", replica("healthy"), "--local", tmp_path / "data" / "omni.db")
    assert told["rpo_commits"] == 7 + 1


def test_local_must_be_one(cli: Cli, tmp_path: Path) -> None:
    """A --local that names nothing, or two databases, is wrong usage."""
    for name in ("a.db", "b.db"):
        (tmp_path / f".{name}-litestream" / "ltx").mkdir(parents=True)
    for local in (tmp_path, tmp_path / "nothing"):
        status, out, err = cli("check", replica("healthy"), "--local", local)
        assert (status, out) == (2, "")
        assert "tallykeep:" in err


def test_json_fields(cli: Cli) -> None:
    """The published fields are there, with the types that scripts rely on."""
    _, told = cli.json("check", replica("truncated"), "--deep", "--local", FIXTURES / "local")
    assert told["proof"] == "checksums"
    assert (told["plan_files"], isinstance(told["plan_bytes"], int)) == (7, True)
    (file,) = told["corrupt_files"]
    assert file["reason"] == "truncated"
    assert file["in_plan"] is True


def test_unreachable(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder that is not there, a port that refuses, a kind that cannot be read: unknown, with status 3."""
    monkeypatch.setattr("tallykeep.systems.litestream.commands._PATIENCE", 0.0)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        refused = f"s3://bucket/app?endpoint=http://127.0.0.1:{free.getsockname()[1]}"
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")
        for target in (tmp_path / "nothing", refused, "gs://bucket/app"):
            assert cli.check(target) == (3, "unknown", ["unreachable"], None)
            assert cli("explain", target)[0] == 3


def test_unreachable_with_a_local_side(cli: Cli, tmp_path: Path) -> None:
    """While the replica is not known, the lag is not, and the commits that never left the WAL are a lower bound."""
    status, told = cli.json("check", tmp_path / "nothing", "--local", FIXTURES / "local")
    assert (status, told["lag_txids"], told["rpo_at_least"]) == (3, None, 7)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_denied(cli: Cli, tmp_path: Path) -> None:
    """A replica that may not be read is unknown."""
    root = damaged("healthy", tmp_path / "r")
    (root / "0000").chmod(0)
    assert cli.check(root)[:3] == (3, "unknown", ["unreachable"])


@pytest.mark.parametrize("args", [["check"], ["check", "x", "--what"], ["restore", "x"], ["restore", "x", "-o", "y",
    "--txid", "xyz"], ["drill", "x", "--timeout", "soon"]])  # fmt: skip
def test_wrong_usage(args: list[str], cli: Cli) -> None:
    """Wrong usage ends with 2 and says so on standard error only."""
    status, out, err = cli(*args)
    assert (status, out) == (2, "")
    assert err


def test_human_output(cli: Cli) -> None:
    """The verdict stands first, then a line for each reason, without colours where there is no terminal."""
    _, out, _ = cli("check", replica("gap-tail"), "--local", FIXTURES / "local")
    lines = out.splitlines()
    assert lines[0].startswith("unrestorable: ")
    assert lines[1].startswith("  gap: ")
    assert "\x1b" not in out


@pytest.mark.parametrize("case", EVERY)
def test_explain(case: str, cli: Cli, tmp_path: Path) -> None:
    """Every case can be explained, and the JSON has the plan file by file."""
    root = damaged(case, tmp_path / case)
    status, out, _ = cli("explain", root)
    assert out
    again, told = cli.json("explain", root)
    assert again == status == LISTING.get(case, FINE)[0]
    assert len(told.get("plan", [])) == told["plan_files"]


def test_drill_questions(cli: Cli) -> None:
    """An assertion that holds is fine; one that does not fails the drill and is named."""
    assert cli("drill", replica("healthy"), "--assert", "SELECT count(*) > 0 FROM sqlite_schema")[0] == 0
    status, told = cli.json("drill", replica("healthy"), "--assert", "SELECT 0", "--quick")
    assert (status, told["result"], told["stage"]) == (1, "failed", "assertions")
    assert "SELECT 0" in told["message"]


def test_drill_against_the_live_database(cli: Cli) -> None:
    """The restored image is compared with the live database of --local."""
    status, told = cli.json("drill", replica("healthy"), "--local", FIXTURES / "local")
    assert (status, told["live"]["match"]) == (0, "matches")


def test_configured_target(cli: Cli, tmp_path: Path) -> None:
    """A name in tallykeep.yaml is a target, with its local side; an unknown name is wrong usage."""
    config = tmp_path / "tallykeep.yaml"
    config.write_text(
        f"litestream:\n  targets:\n    - name: app\n      replica: {replica('stale')}\n      local: {LOCAL_LTX}\n"
    )
    assert cli.check("app", "--config", config) == (1, "restorable", ["stale"], 0x30)
    status, _, err = cli("check", "apq", "--config", config)
    assert status == 2
    assert "app" in err


def test_restore(cli: Cli, tmp_path: Path) -> None:
    """A restored database opens and is sound; an existing file is refused and left as it is."""
    output = tmp_path / "restored.db"
    status, told = cli.json("restore", replica("healthy"), "-o", output)
    assert (status, told["txid"]) == (0, f"{0x3B:016x}")
    with closing(sqlite3.connect(f"file:{output}?immutable=1", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    before = output.read_bytes()
    assert cli("restore", replica("healthy"), "-o", output)[0] == 1
    assert output.read_bytes() == before


def test_restore_refuses_as_litestream_does(cli: Cli, tmp_path: Path) -> None:
    """A gap, a corrupt file and an unreachable TXID fail with 1 and leave nothing behind."""
    output = tmp_path / "out" / "restored.db"
    output.parent.mkdir()
    for args in (["gap-tail"], ["truncated"], ["empty"], ["healthy", "--txid", "99"]):
        root = damaged(args[0], tmp_path / args[0])
        status, _, err = cli("restore", root, "-o", output, *args[1:])
        assert (status, bool(err)) == (1, True)
        assert not list(output.parent.iterdir())
    assert cli("restore", tmp_path / "nothing", "-o", output)[0] == 3


@pytest.mark.server
@pytest.mark.parametrize("options", [[], ["-txid", f"{0x2F:016x}"], ["-timestamp", "2026-11-21T01:29:30Z"]])
@pytest.mark.parametrize("layout", ["s3", "folder"])
def test_restored_bytes(options: list[str], layout: str, cli: Cli, tmp_path: Path) -> None:
    """Byte for byte what `litestream restore` gives: newest, to a TXID, to a moment; from both layouts."""
    need("litestream", "pip install 'tallykeep[demo]'")
    folder = in_folder_layout("healthy", tmp_path / "folder")
    theirs, ours = tmp_path / "theirs.db", tmp_path / "ours.db"
    if "-timestamp" in options:
        _date(folder)
    done = run_litestream("restore", *options, "-o", theirs, f"file://{folder}")
    assert done.returncode == 0, done.stderr
    root = folder if layout == "folder" else replica("healthy")
    assert cli("restore", root, "-o", ours, *(option.replace("-t", "--t") for option in options))[0] == 0
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.server
@pytest.mark.parametrize("case", ["gap-tail", "gap-middle", "truncated", "flip-page", "zero-byte", "renamed"])
def test_restorable_txid_is_litestreams(case: str, cli: Cli, tmp_path: Path) -> None:
    """Litestream restores to the TXID called restorable, and to no newer one."""
    need("litestream", "pip install 'tallykeep[demo]'")
    root = tmp_path / "folder"
    for level in damaged(case, tmp_path / "s3").iterdir():
        shutil.copytree(level, root / "ltx" / str(int(level.name, 16)))
    _, _, _, txid = cli.check(root, "--deep")
    assert txid is not None
    names = {int(path.name[17:33], 16) for path in root.rglob("*.ltx")}
    worked = {}
    for tip in sorted(name for name in names if name >= txid):
        output = tmp_path / f"{tip:x}.db"
        done = run_litestream("restore", "-txid", f"{tip:016x}", "-o", output, f"file://{root}")
        worked[tip] = done.returncode == 0
    assert worked == {tip: tip == txid for tip in worked}


def _date(folder: Path) -> None:
    """Give each file of a file replica the mtime that Litestream gives it: the time in its header."""
    for path in folder.rglob("*.ltx"):
        moment = int.from_bytes(path.read_bytes()[32:40], "big") / 1000
        os.utime(path, (moment, moment))


def test_dry_run(cli: Cli, tmp_path: Path) -> None:
    """--dry-run prints the plan, Litestream's own where it is there to be asked, and writes nothing."""
    output = tmp_path / "restored.db"
    status, told = cli.json("restore", replica("healthy"), "-o", output, "--dry-run")
    assert (status, told["files"], output.exists()) == (0, 7, False)
    if shutil.which("litestream"):
        theirs, _ = dry_run(in_folder_layout("healthy", tmp_path / "folder"))
        assert [Path(key).name for key in told["plan"]] == [name for _, name in theirs]


@pytest.mark.server
def test_a_malformed_database_is_not_restored(cli: Cli, tmp_path: Path) -> None:
    """What SQLite calls malformed gets no name, unless it is asked for: then it is what Litestream restores."""
    need("litestream", "pip install 'tallykeep[demo]'")
    root, output = replica("db-replaced"), tmp_path / "out" / "restored.db"
    output.parent.mkdir()
    for options in ([], ["--integrity-check", "full"]):
        status, _, err = cli("restore", root, "-o", output, *options)
        assert (status, "--integrity-check none" in err) == (1, True)
        assert not list(output.parent.iterdir())
    status, told = cli.json("restore", root, "-o", output, "--integrity-check", "none")
    assert (status, told["integrity"]) == (0, "none")
    done = run_litestream(
        "restore", "-o", tmp_path / "theirs.db", f"file://{in_folder_layout('db-replaced', tmp_path / 'folder')}"
    )
    assert done.returncode == 0
    assert output.read_bytes() == (tmp_path / "theirs.db").read_bytes()


@pytest.mark.server
def test_a_newer_replica_of_litestream_03(cli: Cli, tmp_path: Path) -> None:
    """Litestream restores what 0.3 has written where that is newer, the LTX files only by TXID: which is said."""
    need("litestream", "pip install 'tallykeep[demo]'")
    root, output = in_folder_layout("healthy", tmp_path / "r"), tmp_path / "restored.db"
    old = root / "generations" / "0123456789abcdef" / "snapshots" / "00000000.snapshot.lz4"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"x" * 300)
    os.utime(old, (1_000_000_000, 1_000_000_000))
    assert cli.check(root, "--drill") == (0, "restorable", [], 0x3B)
    os.utime(old, (4_000_000_000, 4_000_000_000))
    assert run_litestream("restore", "-o", output, f"file://{root}").returncode != 0
    assert run_litestream("restore", "-o", output, "-txid", f"{0x3B:016x}", f"file://{root}").returncode == 0
    status, told = cli.json("check", root, "--drill")
    assert (status, told["verdict"], NEWER_V3 in told["notes"]) == (0, "restorable", True)
    status, told = cli.json("restore", root, "-o", tmp_path / "ours.db")
    assert (status, told["notes"]) == (0, [NEWER_V3])
    assert (tmp_path / "ours.db").read_bytes() == output.read_bytes()
