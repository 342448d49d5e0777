"""Litestream watched as `tallykeep run` watches it, in this process: the system, the Runner, the Board, the page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from tallykeep.clock import Clock, SystemClock
from tallykeep.config.load import load
from tallykeep.exposition.page import Format, Renderer
from tallykeep.metrics import Book, Catalogue
from tallykeep.runtime import families as runtime_families
from tallykeep.runtime.board import Board
from tallykeep.runtime.health import Health
from tallykeep.runtime.runner import Runner
from tallykeep.runtime.state import StateDirectory
from tallykeep.runtime.supervisor import Supervisor
from tallykeep.storage.local import LocalStore
from tallykeep.storage.store import Store
from tallykeep.systems.litestream.families import FAMILIES
from tallykeep.systems.litestream.opening import open_litestream
from tallykeep.systems.litestream.settings import DrillSettings, LitestreamSettings, SweepSettings, TargetSettings
from tallykeep.systems.litestream.urls import file_replica
from tallykeep.systems.system import Tools

_LINE = re.compile(r"([^#{ ]+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = frozenset[tuple[str, str]]


def from_environment(**environ: str) -> LitestreamSettings:
    """The settings that published variables make."""
    settings: LitestreamSettings = load({"litestream": LitestreamSettings}, environ).section("litestream")
    return settings


def watching(
    *targets: TargetSettings, interval: float = 0.3, timeout: float = 30.0, stale_after: float = 60.0
) -> LitestreamSettings:
    """Settings without sweep and drill, in a hurry; with time for what is slow, where a test does not wait for it."""
    return LitestreamSettings(
        interval=interval, timeout=timeout, stale_after=stale_after, targets=targets,
        sweep=SweepSettings(bytes=0), drill=DrillSettings(every=0),
    )  # fmt: skip


class Watch:
    """An async context manager: watches from entering to leaving."""

    def __init__(self, settings: LitestreamSettings, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.book = Book()
        self.health = Health()
        self.catalogue = Catalogue((*runtime_families.FAMILIES, *FAMILIES))
        self.board = Board(self.catalogue, self.book, self.clock)
        self._settings = settings
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        tools = Tools(self.clock, self.book, StateDirectory.in_memory())
        self._stack.callback(tools.state.close)
        parts = await self._stack.enter_async_context(open_litestream(self._settings, tools))
        runner, supervisor = Runner(self.board, self.book, self.clock, self.health), Supervisor(self.book, self.clock)
        runner.add(parts.collectors)
        for work in parts.derived:
            self.board.derive(work)
        self._stack.push_async_callback(supervisor.stop)
        supervisor.start(parts.services)
        task = asyncio.create_task(runner.run())
        self._stack.push_async_callback(_end, task)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def first_look(self) -> None:
        """Return when every collector has looked once, well or not."""
        await self.until(lambda: self.health.ready, "the first look of every collector")

    async def until(self, check: Callable[[], object], what: str, timeout: float = 60.0) -> None:
        """Return once `check()` is true; an AssertionError with the page when it does not get so."""
        end = asyncio.get_running_loop().time() + timeout
        while not check():
            if asyncio.get_running_loop().time() > end:
                raise AssertionError(f"{what}: not so after {timeout:g} s\n{self.page().decode()}")
            await asyncio.sleep(0.02)

    def page(self) -> bytes:
        """The text page, the Book as it stands included."""
        self.board._book_read = float("-inf")
        view = self.board.view()
        return Renderer(self.catalogue).render(view.snapshots, Format.TEXT, self.clock.time()).data

    def series(self, family: str) -> Mapping[Labels, float]:
        """The series of one family on the page, by their labels."""
        found: dict[Labels, float] = {}
        for line in self.page().decode().splitlines():
            match = _LINE.fullmatch(line)
            if match is not None and match[1] == family:
                found[frozenset(_LABEL.findall(match[2] or ""))] = float(match[3])
        return found

    def value(self, family: str, **labels: str) -> float | None:
        """The value of the one series that has these labels among its own; None where there is none."""
        found = [value for own, value in self.series(family).items() if own >= labels.items()]
        assert len(found) <= 1, f"{family} with {labels} is not one series but {len(found)}"
        return found[0] if found else None

    def state(self, family: str, target: str = "default") -> str | None:
        """The state a state set is in; None where it is absent."""
        states = [dict(own)[family] for own, value in self.series(family).items()
                  if value == 1 and ("target", target) in own]  # fmt: skip
        assert len(states) <= 1
        return states[0] if states else None

    def verdict(self, target: str = "default") -> str | None:
        """The verdict on a target's replica."""
        return self.state("ops_litestream_replica_verdict", target)

    def reasons(self, target: str = "default") -> set[str]:
        """The reasons that hold against it."""
        series = self.series("ops_litestream_replica_reason").items()
        return {dict(own)["reason"] for own, value in series if value == 1 and ("target", target) in own}

    def errors(self, source: str) -> float:
        """Scrape errors of a source."""
        value = self.value("ops_litestream_scrape_errors", source=source)
        assert value is not None
        return value


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def file_target(replica: Path | None = None, local: Path | None = None, name: str = "default") -> TargetSettings:
    """A target whose replica is a folder."""
    return TargetSettings(name=name, local=local, replica=None if replica is None else file_replica(replica))


async def upload(store: Store, folder: Path) -> None:
    """Put every file of `folder` into `store`, under its path."""
    source = LocalStore(folder)
    async for page in source.list():
        for info in page:
            await store.replace(info.key, await source.read(info.key))
