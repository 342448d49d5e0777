"""Litestream at work: targets from the settings, and the collectors that watch them.

A target that cannot be read does not stop the others: what is wrong with it shows where its figures would stand.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from tallykeep.errors import ConfigError
from tallykeep.metrics import Book
from tallykeep.runtime.work import Collector, Derived, Parts
from tallykeep.storage.local import LocalStore
from tallykeep.systems.litestream import families
from tallykeep.systems.litestream.collector import RpoCollector, VerdictCollector
from tallykeep.systems.litestream.inventory import Inventory
from tallykeep.systems.litestream.levels import RAW
from tallykeep.systems.litestream.listing import (
    LOCAL_COLLECTOR,
    REMOTE_COLLECTOR,
    LocalListing,
    RemoteListing,
    Sight,
)  # fmt: skip
from tallykeep.systems.litestream.rpo import Meter
from tallykeep.systems.litestream.settings import LitestreamSettings
from tallykeep.systems.litestream.sources import LOCAL, REMOTE, Ledger, Source
from tallykeep.systems.litestream.targets import Target, from_settings
from tallykeep.systems.litestream.totals import total
from tallykeep.systems.litestream.yml import read_targets
from tallykeep.systems.system import Tools


@asynccontextmanager
async def open_litestream(settings: LitestreamSettings, tools: Tools) -> AsyncIterator[Parts]:
    """The work that watches every target.

    Raises: ConfigError where there is no target, or two have one name.
    """
    targets = all_targets(settings, os.environ)
    ledger = Ledger(tools.book)
    async with AsyncExitStack() as stack:
        watches = [_Watch(target, settings, tools, ledger, stack) for target in targets]
        yield Parts(
            collectors=tuple(collector for watch in watches for collector in watch.collectors()),
            derived=tuple(_totals(targets, tools.book)),
        )


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
    remote = {target.place: target.name for target in reversed(targets) if target.replica is not None}
    yield from total(LOCAL, LOCAL_COLLECTOR, sorted(local.values()), book)
    yield from total(REMOTE, REMOTE_COLLECTOR, sorted(remote.values()), book)


class _Watch:
    """One target and what is put to work on it."""

    def __init__(
        self, target: Target, settings: LitestreamSettings, tools: Tools, ledger: Ledger, stack: AsyncExitStack
    ) -> None:
        self._target = target
        self._settings = settings
        self._tools = tools
        self._stack = stack
        self._sight = Sight(target)
        if target.local is not None:
            self._sight.local = self._source(ledger, LOCAL)
        if target.replica is not None:
            self._sight.remote = self._source(ledger, REMOTE)
            self._sight.report = Source(tools.clock, settings.interval, settings.timeout)
        tools.book.set(
            families.TARGET_INFO, 1, target=target.name, database=target.database or "", local=target.local or "",
            replica=target.place, kind=target.replica.kind if target.replica else "",
        )  # fmt: skip

    def collectors(self) -> Iterator[Collector]:
        """Those that list before those that judge: they are begun in this order."""
        sight, every = self._sight, self._settings.interval
        if sight.local is not None and self._target.local is not None:
            yield LocalListing(sight, sight.local, partial(_folder, self._target.local, sight.local.timeout), every)
        if sight.remote is None:
            return
        remote = RemoteListing(sight, sight.remote, partial(self._target.open, sight.remote.timeout), every)
        self._stack.push_async_callback(remote.close)
        yield remote
        yield VerdictCollector(sight, remote, self._tools.clock, self._settings.stale_after)
        if self._target.database is not None and self._target.local is not None:
            meter = Meter(self._target.database, self._target.local / str(RAW))
            yield RpoCollector(sight, remote, meter, self._tools.clock)

    def _source(self, ledger: Ledger, kind: str) -> Source[Inventory]:
        return Source(self._tools.clock, self._settings.interval, self._settings.timeout, ledger.entry(kind))


def _folder(path: Path, timeout: float) -> LocalStore:
    return LocalStore(path, timeout=timeout)
