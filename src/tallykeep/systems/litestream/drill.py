"""Restore drills on their own schedule, each in a process of its own.

A drill that succeeds is repeated after the configured time, one that did not sooner: it may have met a passing
trouble, and after a repair the answer must change by itself. The last result and the time of the last success
outlive a restart. Drills of several targets take turns.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tallykeep.clock import Clock, SystemClock
from tallykeep.errors import StoreError
from tallykeep.runtime.state import StateDirectory
from tallykeep.systems.litestream.drill_request import DrillRequest
from tallykeep.systems.litestream.drill_result import DrillResult, Question
from tallykeep.systems.litestream.entries import entry_name
from tallykeep.systems.litestream.findings import Findings
from tallykeep.systems.litestream.restore import Progress
from tallykeep.systems.litestream.targets import Target
from tallykeep.threads import in_thread

RETRY = 900.0  # seconds until a drill that did not succeed is repeated
FIRST = 30.0  # seconds after the start at which the first drill may begin
_LONGEST_LINE = 1 << 20

_log = logging.getLogger(__name__)


async def run_drill(
    request: DrillRequest,
    timeout: float,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    clock: Clock | None = None,
) -> DrillResult:
    """Drill in a child process of low priority, and give it up after `timeout` seconds.

    The child is dead and the scratch folder empty on return, also when the caller is cancelled.
    """
    clock = clock or SystemClock()
    started, since = clock.time(), clock.monotonic()
    worker = await asyncio.create_subprocess_exec(
        *_command(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE, start_new_session=True, env=_environment(),
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout):
            result = await _follow(worker, request, on_progress)
    except TimeoutError:
        result = DrillResult("inconclusive", "process", f"the drill was given up after {timeout:.0f} s")
    finally:
        await asyncio.shield(_end(worker, request.scratch))
    if result.started:
        return result
    return replace(result, started=started, finished=clock.time(), duration=clock.monotonic() - since)


def _command() -> list[str]:
    """With the idle class of disk priority, where ionice is there to give it."""
    ionice = shutil.which("ionice")
    prefix = [ionice, "-c", "3", "-t"] if ionice else []
    return [*prefix, sys.executable, "-m", "tallykeep.systems.litestream.drill_worker"]


def _environment() -> Mapping[str, str]:
    """Ours, with the folders this program was imported from."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


async def _follow(
    worker: asyncio.subprocess.Process, request: DrillRequest, on_progress: Callable[[Progress], None]
) -> DrillResult:
    assert worker.stdin is not None
    assert worker.stdout is not None
    assert worker.stderr is not None
    complaints = asyncio.create_task(worker.stderr.read())
    with suppress(BrokenPipeError, ConnectionResetError):
        worker.stdin.write(request.dump().encode() + b"\n")
        await worker.stdin.drain()
    async for line in worker.stdout:
        said: dict[str, Any] = json.loads(line)
        if "progress" in said:
            on_progress(Progress(*said["progress"]))
        else:
            complaints.cancel()
            return DrillResult.parse(json.dumps(said["result"]))
    status, text = await worker.wait(), (await complaints).decode(errors="replace").strip()
    last = text.rpartition("\n")[2] or "it said nothing"
    return DrillResult("inconclusive", "process", f"the drill's process ended with status {status}: {last}")


async def _end(worker: asyncio.subprocess.Process, scratch: Path) -> None:
    with suppress(ProcessLookupError):
        worker.kill()
    await worker.wait()
    await in_thread(shutil.rmtree, scratch, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class DrillPlan:
    """How a target is drilled."""

    every: float  # seconds
    timeout: float  # seconds
    full: bool  # integrity_check; else quick_check
    questions: tuple[Question, ...]
    scratch: Path  # a folder of this target's own


class DrillService:
    """Drills one target for as long as the program runs. A Service."""

    def __init__(
        self,
        target: Target,
        plan: DrillPlan,
        findings: Findings,
        state: StateDirectory,
        clock: Clock,
        *,
        turn: asyncio.Lock | None = None,
        on_result: Callable[[DrillResult], None] = lambda result: None,
    ) -> None:
        """`turn` is shared by the drills that must not run at the same time; `on_result` is told of each."""
        self.name = f"litestream_drill:{target.name}"
        self._target = target
        self._plan = plan
        self._findings = findings
        self._state = state
        self._clock = clock
        self._turn = turn or asyncio.Lock()
        self._on_result = on_result
        self._entry = entry_name("drill", target.name)

    async def run(self) -> None:
        await self._load()
        await self._clock.sleep(min(FIRST, self._plan.every))
        while True:
            await self._clock.sleep(self._due() - self._clock.time())
            async with self._turn:
                await self.drill()

    async def drill(self) -> DrillResult:
        """Drill now, and let the result be known."""
        plan = self._plan
        request = DrillRequest(self._target, plan.scratch, full=plan.full, questions=plan.questions)
        result = await run_drill(request, plan.timeout, clock=self._clock)
        self._findings.drilled(result)
        self._on_result(result)
        level = logging.INFO if result.ok else logging.WARNING
        _log.log(level, "drill of %s: %s %s", self._target.name, result.result, result.message or result.txid)
        await self._keep(result)
        return result

    def _due(self) -> float:
        """Unix seconds of the next drill."""
        last = self._findings.drill
        if last is None:
            return 0.0
        return last.finished + (self._plan.every if last.ok else min(RETRY, self._plan.every))

    async def _load(self) -> None:
        """Remember what an earlier process found."""
        raw = await in_thread(self._state.read, self._entry)
        if raw is None or self._findings.drill is not None:
            return
        try:
            kept = json.loads(raw)
            self._findings.drill = DrillResult.parse(json.dumps(kept["last"]))
            self._findings.drill_success = float(kept["success"])
            self._findings.unsound = DrillResult.parse(json.dumps(kept["unsound"])) if kept["unsound"] else None
        except (ValueError, KeyError, TypeError):
            _log.warning("the last drill of %s cannot be read from the state directory", self._target.name)

    async def _keep(self, result: DrillResult) -> None:
        unsound = self._findings.unsound
        kept = {
            "last": result.as_json(),
            "success": self._findings.drill_success,
            "unsound": None if unsound is None else unsound.as_json(),
        }
        try:
            await in_thread(self._state.write, self._entry, json.dumps(kept).encode())
        except StoreError as error:
            _log.warning("the drill of %s is not remembered: %s", self._target.name, error)
