"""The demo's LLM gateway: a real PostgreSQL with LiteLLM's real schema, a proxy's traffic in it, its metrics page.

The traffic is made: rows as a LiteLLM proxy writes them, some late, some failed, some from the cache, with budgets and
spend columns beside them. It keeps an account of its own, which owes nothing to what tallykeep reads; when it pauses,
the two must be equal. tallykeep logs in with the role that deploy/litellm/role.sql makes.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Self

import psycopg

from tallykeep.demo import litellm_schema
from tallykeep.demo.bill import Bill
from tallykeep.demo.litellm_page import GatewayPage, PageServer
from tallykeep.demo.litellm_traffic import Mix, Traffic
from tallykeep.demo.postgres import PostgresServer
from tallykeep.errors import Unreachable
from tallykeep.systems.litellm.role import role_sql

DATABASE, ROLE = "litellm", "tallykeep"
HISTORY = 4000  # requests of the days before
DAYS = 3
RATE = 20  # requests a second
BUSY = 4.0  # seconds of live traffic before it pauses
_MIX = Mix(flush=0.5, latest=120.0)


class Gateway:
    """A context manager: entered, the server is up and the rest comes about in a thread; left, nothing remains."""

    def __init__(self, folder: Path) -> None:
        self._server = PostgresServer(folder, fast=True)
        self._page = GatewayPage()
        self._metrics = PageServer(self._page)
        self._thread = threading.Thread(target=self._live, name="litellm-traffic")
        self._ready, self._stop, self._resume = threading.Event(), threading.Event(), threading.Event()
        self.bill: Bill | None = None  # once the traffic pauses: what tallykeep has to show
        self.trouble = ""  # why there is no traffic any more

    @property
    def url(self) -> str:
        """What tallykeep connects to."""
        return self._server.dsn(ROLE, DATABASE)

    @property
    def metrics(self) -> str:
        """Its metrics page: the same requests, as counters."""
        return self._metrics.url

    @property
    def address(self) -> str:
        """For people."""
        return f"127.0.0.1:{self._server.port}/{DATABASE}"

    @property
    def alive(self) -> bool:
        """Whether server and traffic are still there."""
        return self._server.alive and not self.trouble

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return once there are tables, history and the role. Raises: Unreachable."""
        if not self._ready.wait(timeout) or self.trouble:
            raise Unreachable(f"the LLM gateway's database did not come about: {self.trouble or 'it takes too long'}")

    def go_on(self) -> None:
        """End the pause."""
        self._resume.set()

    def __enter__(self) -> Self:
        self._server.start()
        self._metrics.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._resume.set()
        self._metrics.stop()
        self._server.kill()  # its data goes with the folder
        self._thread.join()

    def _live(self) -> None:
        try:
            self._traffic()
        except (psycopg.Error, OSError) as error:
            if not self._stop.is_set():
                self.trouble = str(error)
                self._ready.set()

    def _traffic(self) -> None:
        dsn = self._server.create_database(DATABASE)
        litellm_schema.migrate(dsn)
        with Traffic(dsn, page=self._page) as traffic:
            traffic.populate()
            traffic.history(HISTORY, DAYS)
            with psycopg.connect(dsn, autocommit=True) as connection:  # a proxy does not write the past: not before it
                connection.execute(role_sql().encode())
            self._ready.set()
            self._run(traffic, BUSY)
            self.bill = Bill.of(traffic.account.totals())
            self._resume.wait()
            self._run(traffic, float("inf"))

    def _run(self, traffic: Traffic, seconds: float) -> None:
        """Live traffic for a while, or until the end."""
        begun = since = time.time()
        while since - begun < seconds and not self._stop.wait(_MIX.flush):
            now = time.time()
            traffic.step(since, now, RATE, _MIX)
            traffic.reset_budgets(now)
            since = now
