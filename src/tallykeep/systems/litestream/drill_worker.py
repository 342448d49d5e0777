"""The process in which a drill runs: python -m tallykeep.systems.litestream.drill_worker.

Apart from the daemon, so that its memory goes back when it is done, that it can be killed at any moment, and that
no SQLite connection ever lives beside plain reads of a live database. The request comes as one line on standard
input; standard output gives lines of JSON: progress, then the result. Standard input stays open as long as the
parent lives: when it closes, the worker clears its scratch folder and is gone, whatever it was doing.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

from tallykeep.errors import TallykeepError
from tallykeep.storage.retry import RetryStore
from tallykeep.systems.litestream.drill_request import DrillRequest
from tallykeep.systems.litestream.drill_result import DrillResult
from tallykeep.systems.litestream.drilling import perform
from tallykeep.systems.litestream.restore import Progress

_NICENESS = 10
_PATIENCE = 60.0  # seconds in which a request is made again
_EVERY = 0.2  # seconds between two lines of progress


def main() -> int:
    """Run the drill that standard input asks for. The exit status is 0 whenever a result was written."""
    line = sys.stdin.readline()
    if not line:  # the parent died before it could ask
        return 1
    request = DrillRequest.parse(line)
    Thread(target=_follow_parent, args=(request.scratch,), name="parent", daemon=True).start()
    with suppress(OSError):
        os.nice(_NICENESS)
    result = asyncio.run(_run(request))
    _say({"result": result.as_json()})
    return 0


async def _run(request: DrillRequest) -> DrillResult:
    try:
        store = RetryStore(request.target.open(), deadline=_PATIENCE)
    except TallykeepError as error:
        return DrillResult("inconclusive", "fetch", str(error))
    try:
        return await perform(store, request, _Reporter())
    finally:
        await store.close()


class _Reporter:
    """Passes progress on, now and then."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY
            _say({"progress": progress})


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _follow_parent(scratch: Path) -> None:
    """Wait for the end of standard input, which is the end of the parent. Unbuffered: it holds no lock at exit."""
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
