"""Litestream at work: targets from the settings, and the collectors that watch them.

A target that cannot be read does not stop the others: what is wrong with it shows where its figures would stand.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from tallykeep.errors import ConfigError, StoreError
from tallykeep.metrics import Book
from tallykeep.runtime.work import Collector, Derived, Parts, Service
from tallykeep.storage.local import LocalStore
from tallykeep.storage.metered import MeteredStore
from tallykeep.storage.retry import RetryStore
from tallykeep.storage.store import Store
from tallykeep.systems.litestream import families
from tallykeep.systems.litestream.collector import RpoCollector, VerdictCollector
from tallykeep.systems.litestream.drill import DrillPlan, DrillService
from tallykeep.systems.litestream.drill_result import Question
from tallykeep.systems.litestream.entries import entry_name
from tallykeep.systems.litestream.figures import (
    DrillFigures,
    SweepFigures,
    count_drills,
    count_requests,
    count_verified,
)
from tallykeep.systems.litestream.inventory import Inventory
from tallykeep.systems.litestream.levels import RAW
from tallykeep.systems.litestream.listing import (
    LOCAL_COLLECTOR,
    REMOTE_COLLECTOR,
    LocalListing,
    RemoteListing,
    Sight,
)
from tallykeep.systems.litestream.rpo import Meter
from tallykeep.systems.litestream.settings import DrillSettings, LitestreamSettings
from tallykeep.systems.litestream.sources import LOCAL, REMOTE, Ledger, Source
from tallykeep.systems.litestream.sweep import Sweep
from tallykeep.systems.litestream.targets import Target, from_settings
from tallykeep.systems.litestream.totals import total
from tallykeep.systems.litestream.yml import read_targets
from tallykeep.systems.system import Tools

T = TypeVar("T")

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_litestream(settings: LitestreamSettings, tools: Tools) -> AsyncIterator[Parts]:
    """The work that watches every target.

    Raises: ConfigError where there is no target, two have one name, or one has settings that cannot be used.
    """
    targets = all_targets(settings, os.environ)
    ledger = Ledger(tools.book)
    drills = asyncio.Lock()
    async with AsyncExitStack() as stack:
        watches = _for_each(targets, lambda target: _Watch(target, settings, tools, ledger, drills))
        for watch in watches:
            stack.push_async_callback(watch.close)
        yield Parts(
            collectors=tuple(collector for watch in watches for collector in watch.collectors()),
            services=tuple(service for watch in watches for service in watch.services()),
            derived=tuple(_totals(targets, tools.book)),
        )


def check_litestream(settings: LitestreamSettings) -> None:
    """Read what the settings name, and make every client: nothing is sent. Raises: ConfigError with every mistake."""
    readable = [target for target in all_targets(settings, os.environ) if target.replica is not None]
    _for_each([target for target in readable if not target.problem], Target.open)


def _for_each(targets: Sequence[Target], make: Callable[[Target], T]) -> list[T]:
    """What `make` gives for each target. Raises: ConfigError with the problems of all."""
    made: list[T] = []
    problems: list[str] = []
    for target in targets:
        try:
            made.append(make(target))
        except ConfigError as error:
            problems += [f"litestream: target {target.name}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(*problems)
    return made


def all_targets(settings: LitestreamSettings, environ: Mapping[str, str]) -> tuple[Target, ...]:
    """The targets of the settings and of a litestream.yml, in this order.

    Raises: ConfigError.
    """
    found = [from_settings(target, environ) for target in settings.targets]
    if settings.config is not None:
        found += read_targets(settings.config, environ)
    names = [target.name for target in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(*(f"litestream: two targets are named {name}: rename one" for name in twice))
    if not found:
        raise ConfigError(
            "litestream: there is nothing to watch: set LOCAL_LTX_DIR or S3_BUCKET, or name targets in tallykeep.yaml"
        )
    return tuple(found)


def _totals(targets: tuple[Target, ...], book: Book) -> Iterator[Derived]:
    """Sums over what there is: a folder that two targets share is counted once."""
    local = {target.local: target.name for target in reversed(targets) if target.local is not None}
    remote = {target.replica: target.name for target in reversed(targets) if target.replica is not None}
    yield from total(LOCAL, LOCAL_COLLECTOR, sorted(local.values()), book)
    yield from total(REMOTE, REMOTE_COLLECTOR, sorted(remote.values()), book)


class _Watch:
    """One target and what is put to work on it."""

    def __init__(
        self, target: Target, settings: LitestreamSettings, tools: Tools, ledger: Ledger, drills: asyncio.Lock
    ) -> None:
        self._target = target
        self._settings = settings
        self._tools = tools
        self._drills = drills
        self._sight = Sight(target)
        self._remote: Store | None = None
        if target.local is not None:
            self._sight.local = self._source(ledger, LOCAL)
        if target.replica is not None:
            self._sight.remote = self._source(ledger, REMOTE)
            self._sight.report = Source(tools.clock, settings.interval, settings.timeout)
            self._remote = None if target.problem else self._opened()
        tools.book.set(
            families.TARGET_INFO, 1, target=target.name, database=target.database or "", local=target.local or "",
            replica=target.place, kind=target.replica.kind if target.replica else "",
        )  # fmt: skip

    def collectors(self) -> Iterator[Collector]:
        """Those that list before those that judge: they are begun in this order."""
        sight, every = self._sight, self._settings.interval
        if sight.local is not None and self._target.local is not None:
            yield LocalListing(sight, sight.local, LocalStore(self._target.local, timeout=sight.local.timeout), every)
        if sight.remote is None:
            return
        remote = RemoteListing(sight, sight.remote, self._remote, every)
        yield remote
        yield VerdictCollector(sight, remote, self._tools.clock, self._settings.stale_after)
        if self._target.database is not None and self._target.local is not None:
            meter = Meter(self._target.database, self._target.local / str(RAW))
            yield RpoCollector(sight, remote, meter, self._tools.clock)
        if self._settings.sweep.bytes:
            yield SweepFigures(sight, sight.remote, every)
        if self._settings.drill.every:
            yield DrillFigures(sight, every, self._settings.timeout)

    def services(self) -> Iterator[Service]:
        """Sweep and drill, where there is a replica that can be read."""
        if self._remote is None:
            return
        name, tools, settings = self._target.name, self._tools, self._settings
        if settings.sweep.bytes:
            yield Sweep(
                name, self._remote, self._sight.findings, tools.state, tools.clock, budget=settings.sweep.bytes,
                interval=settings.interval, again=settings.sweep.again, on_checked=count_verified(tools.book, name),
            )  # fmt: skip
        if settings.drill.every:
            yield DrillService(
                self._target, self._drill_plan(settings.drill), self._sight.findings, tools.state, tools.clock,
                turn=self._drills, on_result=count_drills(tools.book, name),
            )  # fmt: skip

    async def close(self) -> None:
        """Let connections go."""
        if self._remote is not None:
            await self._remote.close()

    def _opened(self) -> Store:
        """The replica, patient for half the time a listing may take, each request counted."""
        timeout = self._settings.timeout
        counted = MeteredStore(
            self._target.open(timeout), count_requests(self._tools.book, self._target.name), clock=self._tools.clock
        )
        return RetryStore(counted, clock=self._tools.clock, deadline=timeout / 2)

    def _drill_plan(self, drill: DrillSettings) -> DrillPlan:
        folder = entry_name("drill", self._target.name)
        return DrillPlan(
            every=drill.every,
            timeout=drill.timeout,
            full=drill.integrity == "full",
            questions=tuple(Question(each.name, each.sql, each.expected) for each in drill.assertions),
            scratch=self._scratch(folder) if drill.scratch is None else drill.scratch / folder,
        )

    def _scratch(self, folder: str) -> Path:
        """Where nothing at all can be written, a place that each drill will name as the reason it did not happen."""
        try:
            return self._tools.state.scratch(folder)
        except StoreError as error:
            _log.warning("%s cannot be drilled: %s", self._target.name, error)
            return Path.cwd() / folder

    def _source(self, ledger: Ledger, kind: str) -> Source[Inventory]:
        return Source(self._tools.clock, self._settings.interval, self._settings.timeout, ledger.entry(kind))
