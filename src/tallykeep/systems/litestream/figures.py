"""The collectors that tell what sweep and drill have found.

Sweep and drill are services with a pace of their own; these look at their findings at each interval. What the
sweep has found holds for the files listed last, so it is unknown while the replica is. What a drill has found is
a fact about the past and stays, with its date.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from tallykeep.metrics import UNKNOWN, Book, Sample
from tallykeep.storage.metered import Request
from tallykeep.systems.litestream import families
from tallykeep.systems.litestream.collector import WAITING
from tallykeep.systems.litestream.drill_result import DrillResult
from tallykeep.systems.litestream.inventory import Inventory
from tallykeep.systems.litestream.known import Known
from tallykeep.systems.litestream.listing import Sight
from tallykeep.systems.litestream.sources import Source
from tallykeep.systems.litestream.verifying import Checked
from tallykeep.threads import in_thread

SWEEP_COLLECTOR = "litestream_sweep"
DRILL_COLLECTOR = "litestream_drill"

READING = 10.0  # seconds at most in which the sweep reads what is new in the plan; else the result is unknown

_RESULTS = ("ok", "failed", "inconclusive")


class SweepFigures:
    """What reading the files of a replica has shown."""

    name = SWEEP_COLLECTOR

    def __init__(self, sight: Sight, remote: Source[Inventory], interval: float) -> None:
        self.target = sight.target.name
        self.interval = interval
        self.timeout = remote.timeout + WAITING + READING
        self._findings = sight.findings
        self._remote = remote

    def verdicts(self) -> Sequence[Sample]:
        return (families.SWEEP_RESULT(UNKNOWN, target=self.target),)

    async def collect(self) -> AsyncIterator[Sample]:
        findings, target = self._findings, self.target
        if await self._remote.settled() is None:
            yield families.SWEEP_RESULT(UNKNOWN, target=target)
            return
        await findings.read_up(min(READING, self.interval / 2))
        known = findings.known()
        assert known is not None
        for sample in await in_thread(lambda: tuple(_swept(target, known))):
            yield sample


def _swept(target: str, known: Known) -> Iterator[Sample]:
    yield families.SWEEP_RESULT(known.sweep_result, target=target)
    yield families.UNVERIFIED_FILES(known.unverified_files, target=target)
    for level, reason, files in known.corrupt_counts():
        yield families.CORRUPT_FILES(files, target=target, level=level, reason=reason)
    if (cover := known.cover()) is not None:
        yield families.MISSING_PAGES(len(cover.missing), target=target)


class DrillFigures:
    """How the last drill ended, and when one last succeeded."""

    name = DRILL_COLLECTOR

    def __init__(self, sight: Sight, interval: float, timeout: float) -> None:
        self.target = sight.target.name
        self.interval = interval
        self.timeout = timeout
        self._findings = sight.findings
        self._compares = sight.target.database is not None

    def verdicts(self) -> Sequence[Sample]:
        match = (families.DRILL_MATCH(UNKNOWN, target=self.target),) if self._compares else ()
        return (families.DRILL_RESULT(UNKNOWN, target=self.target), *match)

    async def collect(self) -> AsyncIterator[Sample]:
        target, result = self.target, self._findings.drill
        yield families.DRILL_LAST_SUCCESS(self._findings.drill_success, target=target)
        yield families.DRILL_RESULT(UNKNOWN if result is None else result.result, target=target)
        live = None if result is None else result.live
        if self._compares:
            yield families.DRILL_MATCH(UNKNOWN if live is None else live.match, target=target)
        if live is not None and live.match != UNKNOWN:
            yield families.DRILL_MISMATCHED(live.mismatched, target=target)
        if result is None:
            return
        yield families.DRILL_DURATION(result.duration, target=target)
        if result.txid is not None:
            yield families.DRILL_TXID(result.txid, target=target)


def count_drills(book: Book, target: str) -> Callable[[DrillResult], None]:
    """Count each drill in the book, every result from 0 on."""
    for result in _RESULTS:
        book.add(families.DRILL_RUNS, 0, target=target, result=result)
    return lambda drill: book.add(families.DRILL_RUNS, 1, target=target, result=drill.result)


def count_verified(book: Book, target: str) -> Callable[[Checked], None]:
    """Count what the sweep has read, sound or not, in the book."""

    def add(files: int, size: int) -> None:
        book.add(families.VERIFIED_FILES, files, target=target)
        book.add(families.VERIFIED_BYTES, size, target=target)

    add(0, 0)
    return lambda checked: None if checked.vanished else add(1, checked.file.size)


def count_requests(book: Book, target: str) -> Callable[[Request], None]:
    """Count the requests to a replica in the book."""

    def add(request: Request) -> None:
        result = request.error or "ok"
        book.add(families.STORE_REQUESTS, 1, target=target, operation=request.operation, result=result)
        book.add(families.STORE_BYTES, request.received, target=target)

    return add
