"""LiteLLM watched as `tallykeep run` watches it, in this process; and rows for its tables, written by hand."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from tests.support.watching import Watch, _end

from tallykeep.clock import Clock, SystemClock
from tallykeep.config.model import Secret
from tallykeep.metrics import Book, Catalogue
from tallykeep.runtime import families as runtime_families
from tallykeep.runtime.board import Board
from tallykeep.runtime.health import Health
from tallykeep.runtime.runner import Runner
from tallykeep.runtime.state import StateDirectory
from tallykeep.systems.litellm.families import FAMILIES
from tallykeep.systems.litellm.opening import open_litellm
from tallykeep.systems.litellm.settings import DatabaseSettings, LitellmSettings
from tallykeep.systems.system import Tools
from tallykeep.web.app import MetricsApp
from tallykeep.web.listener import Listener


def reading(*urls: str, interval: float = 0.3, **more: Any) -> LitellmSettings:
    """Settings for databases, in a hurry; with time for what is slow, where a test does not wait for it."""
    names = ["default", "second", "third"]
    databases = tuple(DatabaseSettings(name=name, url=Secret(url)) for name, url in zip(names, urls, strict=False))
    values = {"timeout": 60.0, "connect_timeout": 2.0, "lock_timeout": 0.3, "statement_timeout": 30.0} | more
    return LitellmSettings(interval=interval, databases=databases, **values)


class MinuteClock(SystemClock):
    """The machine's clock, set back to the beginning of its minute: it is a minute until the next one begins."""

    def __init__(self) -> None:
        self._behind = time.time() % 60

    def time(self) -> float:
        return time.time() - self._behind


class LitellmWatch(Watch):
    """An async context manager: reads from entering to leaving."""

    def __init__(self, settings: LitellmSettings, state: Path | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.book = Book()
        self.health = Health()
        self.catalogue = Catalogue((*runtime_families.FAMILIES, *FAMILIES))
        self.board = Board(self.catalogue, self.book, self.clock)
        self._asked = settings
        self._state = state
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        state = StateDirectory.open(self._state) if self._state else StateDirectory.in_memory()
        self._stack.callback(state.close)
        tools = Tools(self.clock, self.book, state)
        parts = await self._stack.enter_async_context(open_litellm(self._asked, tools))
        runner = Runner(self.board, self.book, self.clock, self.health)
        runner.add(parts.collectors)
        task = asyncio.create_task(runner.run())
        self._stack.push_async_callback(_end, task)
        return self

    @property
    def up(self) -> bool:
        """Whether the last collection of the database named default succeeded."""
        return self.value("tallykeep_collector_up", target="default") == 1

    def failures(self, code: str) -> float:
        """Failed collections with that code."""
        return self.value("tallykeep_collector_errors_total", target="default", code=code) or 0.0

    async def fails(self, code: str) -> None:
        """Return once a collection has failed with that code (again), and everything is withdrawn."""
        before = self.failures(code)
        await self.until(lambda: self.failures(code) > before and not self.up, f"a failure {code}")
        assert not [name for name in self.names() if name.startswith("litellm_") and not name.endswith(BOOKED)]

    async def works(self) -> None:
        """Return once a collection that began now has succeeded."""
        before = self.value("tallykeep_collector_last_success_timestamp_seconds", target="default") or 0.0

        def again() -> bool:
            last = self.value("tallykeep_collector_last_success_timestamp_seconds", target="default") or 0.0
            return self.up and last > before

        for _ in range(2):  # the first may have begun before
            await self.until(again, "a collection that succeeds")
            before = self.value("tallykeep_collector_last_success_timestamp_seconds", target="default") or 0.0

    def names(self) -> set[str]:
        """Names of the families that have samples on the page."""
        lines = self.page().decode().splitlines()
        return {line.split()[2] for line in lines if line.startswith("# TYPE ")}


@asynccontextmanager
async def serving(watch: LitellmWatch) -> AsyncIterator[int]:
    """The port on 127.0.0.1 at which its page is served."""
    app = MetricsApp(watch.board, watch.book, watch.clock, watch.health)
    listener = Listener(app, "127.0.0.1", 0, setting="METRICS_PORT")
    await listener.start()
    try:
        yield listener.port
    finally:
        await listener.stop()


BOOKED = ("check_rounds_total", "repaired_blocks_total")  # counted by the program itself: they stay


class Tables:
    """Writes rows by hand: what is not given has the value LiteLLM would write."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self._columns: dict[str, set[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def run(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Any statement."""
        cursor = self.connection.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []

    def insert(self, table: str, **values: object) -> None:
        """One row; columns this schema lacks are left out."""
        if table not in self._columns:
            found = self.run("SELECT column_name FROM information_schema.columns WHERE table_name = %s", table)
            self._columns[table] = {name for (name,) in found}
        kept = {name: value for name, value in values.items() if name in self._columns[table]}
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, kept)),
            sql.SQL(", ").join(sql.Placeholder() * len(kept)),
        )
        self.connection.execute(statement, [_adapted(value) for value in kept.values()])

    def request(self, at: float, **values: Any) -> None:
        """A row of the spend log that began at `at` (Unix seconds) and took a second."""
        row = {
            "request_id": uuid.uuid4().hex, "call_type": "acompletion", "api_key": "", "spend": 0.5,
            "total_tokens": 30, "prompt_tokens": 20, "completion_tokens": 10, "startTime": utc(at),
            "endTime": utc(at + values.pop("seconds", 1.0)), "model": "gpt-4o", "custom_llm_provider": "openai",
            "user": "", "team_id": "", "organization_id": "", "end_user": "", "cache_hit": "False",
            "metadata": {}, "request_tags": tags(), "status": "success",
        }  # fmt: skip
        self.insert("LiteLLM_SpendLogs", **(row | values))

    def key(self, token: str, **values: Any) -> None:
        """A key."""
        self.insert("LiteLLM_VerificationToken", **({"token": token, "key_name": "sk-...abcd", "models": []} | values))

    def user(self, user_id: str, **values: Any) -> None:
        """An internal user."""
        self.insert("LiteLLM_UserTable", **({"user_id": user_id, "models": []} | values))

    def team(self, team_id: str, **values: Any) -> None:
        """A team."""
        row = {"team_id": team_id, "models": [], "admins": [], "members": [], "members_with_roles": {}}
        self.insert("LiteLLM_TeamTable", **(row | values))

    def budget(self, budget_id: str, **values: Any) -> None:
        """A budget row."""
        self.insert("LiteLLM_BudgetTable", **({"budget_id": budget_id, "created_by": "t", "updated_by": "t"} | values))

    def organization(self, organization_id: str, budget_id: str, **values: Any) -> None:
        """An organization, with a budget row that is there."""
        row = {
            "organization_id": organization_id, "organization_alias": organization_id, "budget_id": budget_id,
            "models": [], "created_by": "t", "updated_by": "t",
        }  # fmt: skip
        self.insert("LiteLLM_OrganizationTable", **(row | values))


def utc(unix: float) -> datetime:
    """As LiteLLM stores it."""
    return datetime.fromtimestamp(unix, UTC).replace(tzinfo=None)


def _adapted(value: object) -> object:
    if isinstance(value, Mapping):
        return Jsonb(value)
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return Jsonb(value)
    return value


def tags(*names: str) -> Jsonb:
    """An array of tags."""
    return Jsonb(list(names), dumps=json.dumps)
