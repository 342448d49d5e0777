"""Pulse at work in this process, round by round: the system as `tallykeep run` opens it, its API without a socket."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self, cast

import httpx2
from tests.support.clock import FakeClock

from tallykeep.clock import Clock
from tallykeep.config.load import load
from tallykeep.config.model import Secret
from tallykeep.errors import SourceError
from tallykeep.metrics import Book, Sample
from tallykeep.runtime.state import StateDirectory
from tallykeep.systems.pulse.api import router
from tallykeep.systems.pulse.collector import PulseCollector
from tallykeep.systems.pulse.desk import Desk
from tallykeep.systems.pulse.opening import open_pulse
from tallykeep.systems.pulse.settings import PulseSettings, TargetSettings
from tallykeep.systems.system import Tools
from tallykeep.web.api import api
from tallykeep.web.asgi import App


def settings_of(**environ: str) -> PulseSettings:
    """The settings that variables make, their LITELLM_PULSE_ left out."""
    variables = {f"LITELLM_PULSE_{name}": value for name, value in environ.items()}
    settings: PulseSettings = load({"pulse": PulseSettings}, variables).section("pulse")
    return settings


def scraping(*urls: str, key: str = "", **others: Any) -> PulseSettings:
    """Settings for these pages, named a, b, c where there are several."""
    names = ["default"] if len(urls) == 1 else list("abcdefgh")
    targets = [TargetSettings(name, url, Secret(key)) for name, url in zip(names, urls, strict=False)]
    return PulseSettings(targets=tuple(targets), **others)


class Pulse:
    """An async context manager. `state` keeps what a restart is to find again."""

    def __init__(self, settings: PulseSettings, state: Path | None = None, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or FakeClock()
        self.book = Book()
        self._settings = settings
        self._state = state
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        state = StateDirectory.in_memory() if self._state is None else StateDirectory.open(self._state)
        self._stack.callback(state.close)
        tools = Tools(self.clock, self.book, state)
        parts = await self._stack.enter_async_context(open_pulse(self._settings, tools))
        self.collector = cast("PulseCollector", parts.collectors[0])
        self.desk = cast("Desk", parts.desk)
        self.app: App = self.served()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def served(self, **options: Any) -> App:
        """The API's application."""
        return api([router(self.desk)], [self.desk], [("pulse", self.desk)], **options)

    async def round(self) -> SourceError | None:
        """One round of scrapes. What it failed with."""
        self.samples: list[Sample] = []
        try:
            async for sample in self.collector.collect():
                self.samples.append(sample)
        except SourceError as error:
            return error
        return None

    async def ask(self, path: str, method: str = "GET", app: App | None = None, **headers: str) -> httpx2.Response:
        """The API's reply."""
        transport = httpx2.ASGITransport(cast("Any", app or self.app))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx2.AsyncClient(transport=transport, base_url="http://tallykeep") as client:
            return await client.request(method, path, headers=named)

    async def told(self, path: str = "/api/v1/metrics") -> Any:
        """The JSON of a reply with status 200."""
        reply = await self.ask(path)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def booked(self, family: str, **labels: str) -> float | str | None:
        """What stands in the Book under that family and these labels."""
        for sample in self.book.read():
            own = dict(zip(sample.family.labels, sample.labels, strict=True))
            if sample.family.name == family and labels.items() <= own.items():
                assert isinstance(sample.value, float | str)
                return sample.value
        return None
