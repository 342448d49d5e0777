"""One round: every target is scraped at once, what came is digested and kept, and the figures go to the page.

A target that fails keeps its last values and the others count; the round fails where all do. From the digest on a
round cannot be cut: what the deltas have taken note of has to reach the history, or it would never be counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

from tallykeep.clock import Clock
from tallykeep.errors import Malformed, SourceError
from tallykeep.exposition.parse import Parsed, Parser
from tallykeep.history.rounds import Round, Total
from tallykeep.history.service import History
from tallykeep.metrics import Book, Sample
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.pulse import families as f
from tallykeep.systems.pulse.desk import Desk
from tallykeep.systems.pulse.digest import Digest, Follower
from tallykeep.systems.pulse.scrape import Client
from tallykeep.systems.pulse.settings import TargetSettings
from tallykeep.systems.pulse.tracked import GAUGES, NAMES

_SLACK = 60.0  # seconds for parsing, digesting and writing, beyond a scrape's own timeout

_log = logging.getLogger(__name__)


class PulseCollector:
    """All targets of pulse."""

    name = "pulse"
    target = "all"

    def __init__(
        self, targets: Sequence[TargetSettings], followers: Sequence[Follower], client: Client, desk: Desk,
        *, interval: float, timeout: float, clock: Clock, book: Book,
    ) -> None:  # fmt: skip
        self.interval = interval
        self.timeout = timeout + _SLACK
        self._targets = targets
        self._followers = {follower.target: follower for follower in followers}
        self._parsers = {target.name: Parser() for target in targets}
        self._client = client
        self._desk = desk
        self._history: History = desk.history
        self._clock = clock
        self._book = book
        self._kept: asyncio.Task[None] | None = None  # the last round on its way into the history
        self._said: dict[str, str] = {}  # target -> the failure that was logged
        self._in_flight: float | None = None
        for target in targets:
            for family in (f.SCRAPES, f.RESETS, f.AMBIGUOUS):
                book.add(family, 0, target=target.name)
        self._tell_history()

    def verdicts(self) -> Sequence[Sample]:
        return ()

    async def settled(self) -> None:
        """Return once a round that was begun to be kept is kept."""
        if self._kept is not None:
            await asyncio.wait((self._kept,))

    async def collect(self) -> AsyncIterator[Sample]:
        """One round. Raises: SourceError where no target could be scraped."""
        await self.settled()
        results = await asyncio.gather(*map(self._scraped, self._targets), return_exceptions=True)
        pages, failures = self._sorted(results)
        self._desk.failed("; ".join(f"{name}: {error}" if len(self._targets) > 1 else str(error)
                                    for name, error in failures.items()))  # fmt: skip
        if not pages:
            self._tell_history()
            raise _together(failures)
        self._kept = asyncio.create_task(self._keep(pages), name="pulse-keep")
        await asyncio.shield(self._kept)
        for sample in self._samples():
            yield sample

    async def _scraped(self, target: TargetSettings) -> Parsed:
        began = self._clock.monotonic()
        self._book.add(f.SCRAPES, target=target.name)
        try:
            page = await self._client.fetch(target)
            parser = self._parsers[target.name]
            parsed = await in_thread(parser.parse, page.data, openmetrics=page.openmetrics)
            if not parsed.samples:
                raise Malformed(f"{target.shown} has no samples on its page")
        finally:
            self._book.set(f.DURATION, self._clock.monotonic() - began, target=target.name)
        self._book.set(f.PAGE_BYTES, len(page.data), target=target.name)
        self._book.set(f.PAGE_SERIES, len(parsed.samples), target=target.name)
        return parsed

    def _sorted(self, results: Sequence[Parsed | BaseException]) -> tuple[dict[str, Parsed], dict[str, SourceError]]:
        pages: dict[str, Parsed] = {}
        failures: dict[str, SourceError] = {}
        for target, result in zip(self._targets, results, strict=True):
            if isinstance(result, SourceError):
                failures[target.name] = result
            elif isinstance(result, BaseException):
                raise result
            else:
                pages[target.name] = result
            self._note(target.name, failures.get(target.name))
        return pages, failures

    def _note(self, target: str, error: SourceError | None) -> None:
        self._book.set(f.TARGET_UP, float(error is None), target=target)
        if error is None:
            self._book.set(f.LAST_SCRAPE, self._clock.time(), target=target)
            if self._said.pop(target, ""):
                _log.info("the page of %s can be scraped again", target, extra={"target": target})
            return
        self._book.add(f.FAILURES, target=target, code=error.code)
        if self._said.get(target) != str(error) and len(self._targets) > 1:  # of one the runner says it
            _log.warning("the page of %s cannot be scraped: %s", target, error, extra={"target": target})
        self._said[target] = str(error)

    async def _keep(self, pages: Mapping[str, Parsed]) -> None:
        now = self._clock.time()
        digests: dict[str, Digest] = {}
        for target, page in pages.items():
            digests[target] = await in_thread(self._followers[target].take, page, now)
            self._book.add(f.RESETS, digests[target].resets, target=target)
            self._book.add(f.AMBIGUOUS, digests[target].ambiguous, target=target)
        self._desk.took(digests, now)
        await self._history.append(self._round(digests, now))
        self._tell_history()

    def _round(self, digests: Mapping[str, Digest], now: float) -> Round:
        values = self._desk.values()
        rises = {name: sum(one.rises.get(name, 0.0) for one in digests.values()) for name in NAMES}
        for name in GAUGES:
            rises[name] = 0.0 if self._in_flight is None else values[name] - self._in_flight
            self._in_flight = values[name]
        since = {target: follower.since for target, follower in self._followers.items()}
        return Round(
            moment=now,
            totals={name: Total(values[name], rises[name], name in GAUGES) for name in NAMES},
            is_reset=any(one.resets for one in digests.values()),
            source=self._desk.source,
            points=[point for one in digests.values() for point in one.points],
            memories={target: one.memories for target, one in digests.items()},
            since={target: first for target, first in since.items() if first is not None},
        )

    def _tell_history(self) -> None:
        self._book.set(f.HISTORY, self._history.source)
        self._book.set(f.HISTORY_WRITABLE, float(not self._history.error))
        self._book.set(f.HISTORY_SET_ASIDE, float(self._history.aside is not None))

    def _samples(self) -> Iterator[Sample]:
        for name, value in self._desk.values().items():
            yield f.PAGE_VALUE(value, name=name)
        for period, window in self._desk.windows().items():
            for name, value in window.items():
                yield f.WINDOW_VALUE(value, name=name, window=period.value)
        for name, value in self._desk.lifetimes().items():
            yield f.LIFETIME(value, name=name)


def _together(failures: Mapping[str, SourceError]) -> SourceError:
    errors = list(failures.values())
    if len(errors) == 1:
        return errors[0]
    return type(errors[0])("; ".join(f"{name}: {error}" for name, error in failures.items()))
