"""Traffic of a LiteLLM proxy, written straight into its database: history in bulk, and live.

What the database holds afterwards is what a proxy would have left: rows in batches, after their requests ended and
not in their order, some of them late; the `spend` of keys, users, teams, members, organizations and customers is
that of the running budget cycle, and is set to 0 when a cycle ends. Everything follows from the seed.

Live traffic writes rows in the order in which their batches are flushed; `account` knows a row once it is committed.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from tallykeep.demo.litellm_account import Account
from tallykeep.demo.litellm_page import GatewayPage
from tallykeep.demo.litellm_rows import PICO, Drawer, Request, Writer, columns
from tallykeep.demo.litellm_world import SMALL, Size, World, at, rows_of

SPEND_LOGS = "LiteLLM_SpendLogs"
HOUR_MS = 3_600_000
_BATCH = 1000  # lines of COPY built while the server takes in those before
_FLUSHED = 100  # rows LiteLLM writes in one statement
_SPENDERS = {  # table -> its id in SQL
    "LiteLLM_VerificationToken": "e.token",
    "LiteLLM_UserTable": "e.user_id",
    "LiteLLM_TeamTable": "e.team_id",
    "LiteLLM_TeamMembership": "e.team_id || '/' || e.user_id",
    "LiteLLM_OrganizationTable": "e.organization_id",
    "LiteLLM_EndUserTable": "e.user_id",
}
_BUDGETS = "LiteLLM_BudgetTable"
Spent = Counter[tuple[str, str]]  # (table, id) -> pico-dollars


class Mix(NamedTuple):
    """How live rows reach the log."""

    flush: float = 1.0  # seconds between two batches
    late: float = 0.05  # share of requests that come late
    latest: float = 3600.0  # seconds by which the latest of them are late
    updated: float = 0.05  # share of rows whose metadata is updated later


class Traffic:
    """The traffic of one database with LiteLLM's schema. Use it as a context manager; one thread at a time."""

    def __init__(
        self,
        dsn: str,
        *,
        seed: int = 0,
        size: Size = SMALL,
        now: float | None = None,
        bounds: Sequence[float] = (),
        padding: int = 200,
        keep_account: bool = True,
        page: GatewayPage | None = None,
    ) -> None:
        """`now` (Unix seconds) is when the world is made; `bounds` are those of the account's histogram in seconds.

        Without `keep_account` a million rows cost no memory. Every row is counted on `page` as well.
        """
        self._connection = psycopg.connect(dsn, options="-c TimeZone=UTC -c synchronous_commit=on")
        self._columns = self._read_columns()
        chosen = columns(lambda column: column in self._columns[SPEND_LOGS])
        self._writer = Writer(chosen, padding)
        self._statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(SPEND_LOGS), sql.SQL(", ").join(map(sql.Identifier, chosen))
        )
        self._rng = random.Random(f"traffic {seed}")
        self._seed = seed
        self.world = World.make(round((time.time() if now is None else now) * 1000), size, seed)
        has_organization = "organization_id" in self._columns[SPEND_LOGS]
        self.account = Account(bounds, organization_column=has_organization)
        self._keep_account = keep_account
        self._page = page
        self._live = Drawer(self.world, seed, "live")
        self._pending: list[tuple[float, int, Request]] = []  # by the moment their batch is ready, Unix seconds
        self._order = itertools.count()

    def __enter__(self) -> Traffic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def _read_columns(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
        for table, column in self._connection.execute(query):
            found.setdefault(table, set()).add(column)
        self._connection.rollback()
        return found

    # --- everybody

    def populate(self) -> None:
        """Insert the world, with the columns this schema has; nobody has spent anything yet."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            for table, rows in rows_of(self.world):
                for row in rows:
                    known = {name: value for name, value in row.items() if name in self._columns[table]}
                    cursor.execute(
                        sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                            sql.Identifier(table),
                            sql.SQL(", ").join(map(sql.Identifier, known)),
                            sql.SQL(", ").join(sql.Placeholder() * len(known)),
                        ),
                        list(known.values()),
                    )

    # --- history

    def history(self, rows: int, days: float) -> None:
        """Load `rows` requests of the `days` before the world was made, by COPY, and what they cost everybody."""
        stop, length = self.world.now, round(days * 24 * HOUR_MS)
        drawer, rng = Drawer(self.world, self._seed, "history"), self._rng
        spent: Spent = Counter()
        with self._connection.transaction():
            with self._connection.cursor() as cursor, cursor.copy(self._statement) as copy:
                for first in range(0, rows, _BATCH):
                    last = min(first + _BATCH, rows)
                    span = stop - length + length * first // rows, stop - length + length * last // rows
                    requests = drawer.draw(sorted(rng.randrange(*span) for _ in range(last - first)))
                    copy.write("".join(map(self._writer.line, requests)))
                    self._spend(spent, requests, within_cycle=True)
                    self._remember(requests)
            self._charge(spent)
        self._connection.autocommit = True
        self._connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(SPEND_LOGS)))
        self._connection.autocommit = False

    # --- live

    def step(self, since: float, now: float, rate: float, mix: Mix = Mix()) -> int:  # noqa: B008  # immutable
        """Draw the requests that began in [since, now) (Unix seconds), write those that are due; how many rows."""
        rng = self._rng
        count = int((now - since) * rate + rng.random())
        starts = [
            rng.randrange(round(since * 1000), max(round(now * 1000), round(since * 1000) + 1)) for _ in range(count)
        ]
        for place, start in enumerate(starts):
            if rng.random() < mix.late:
                starts[place] = start - rng.randrange(1000, round(mix.latest * 1000))
        for request in self._live.draw(starts):
            heapq.heappush(self._pending, (request.end / 1000 + mix.flush, next(self._order), request))
        due = []
        while self._pending and self._pending[0][0] <= now:
            due.append(heapq.heappop(self._pending)[2])
        self.write(due)
        self._update_metadata(due, mix.updated)
        return len(due)

    def run(self, rate: float, stop: threading.Event, mix: Mix = Mix()) -> int:  # noqa: B008  # immutable
        """Live traffic of `rate` requests a second until `stop` is set; then what is pending is written. How many."""
        written, since = 0, time.time()
        while not stop.wait(mix.flush):
            now = time.time()
            written += self.step(since, now, rate, mix)
            self.reset_budgets(now)
            since = now
        return written + self.drain()

    def drain(self) -> int:
        """Write what is pending, though it may not have ended yet; how many rows."""
        due = [request for _, _, request in self._pending]
        self._pending = []
        self.write(due)
        return len(due)

    def write(self, requests: Iterable[Request]) -> None:
        """Write rows in batches, not in the order of their starts, and what they cost everybody."""
        shuffled = list(requests)
        self._rng.shuffle(shuffled)
        for batch in _batches(shuffled, _FLUSHED):
            with self._connection.transaction():
                self._copy(batch)
                spent: Spent = Counter()
                self._spend(spent, batch, within_cycle=False)
                self._charge(spent)
            self._remember(batch)

    def delete_before(self, moment: float) -> int:
        """Delete the rows that began before then (Unix seconds), as retention does; how many."""
        with self._connection.transaction():
            delete = sql.SQL('DELETE FROM {} WHERE "startTime" < %s').format(sql.Identifier(SPEND_LOGS))
            count = self._connection.execute(delete, [at(round(moment * 1000))]).rowcount
        self.account.forget(round(moment * 1000))
        return count

    def reset_budgets(self, now: float) -> None:
        """Begin the next cycle of every budget whose reset has come: `spend` is 0 again."""
        moment = [at(round(now * 1000))]
        with self._connection.transaction():
            for table in _SPENDERS:
                name = sql.Identifier(table)
                if "budget_id" in self._columns[table]:
                    self._connection.execute(sql.SQL(_LINKED_CYCLE).format(name), moment)
                if "budget_reset_at" in self._columns[table]:
                    self._connection.execute(sql.SQL(_NEXT_CYCLE).format(name, sql.SQL("spend = 0,")), moment)
            self._connection.execute(sql.SQL(_NEXT_CYCLE).format(sql.Identifier(_BUDGETS), sql.SQL("")), moment)

    # --- within

    def _copy(self, requests: Iterable[Request]) -> None:
        with self._connection.cursor() as cursor, cursor.copy(self._statement) as copy:
            copy.write("".join(map(self._writer.line, requests)))

    def _remember(self, requests: Sequence[Request]) -> None:
        if self._keep_account:
            self.account.add(requests)
        if self._page is not None:
            self._page.add(requests)

    def _spend(self, spent: Spent, requests: Iterable[Request], *, within_cycle: bool) -> None:
        """Add what requests cost whom; only those since the start of the spender's cycle, if asked."""
        cycles = self.world.cycles
        for request in requests:
            if request.cost:
                for spender in self._spenders(request):
                    if not within_cycle or request.start >= cycles.get(spender, 0):
                        spent[spender] += request.cost

    def _spenders(self, request: Request) -> Iterator[tuple[str, str]]:
        who = request.who
        yield "LiteLLM_VerificationToken", who.key
        if who.user:
            yield "LiteLLM_UserTable", who.user
        if who.team:
            yield "LiteLLM_TeamTable", who.team
        if f"{who.team}/{who.user}" in self.world.members:
            yield "LiteLLM_TeamMembership", f"{who.team}/{who.user}"
        if organization := self.account.organization(request):
            yield "LiteLLM_OrganizationTable", organization
        if who.customer:
            yield "LiteLLM_EndUserTable", who.customer

    def _charge(self, spent: Spent) -> None:
        for table, id in _SPENDERS.items():
            amounts = {who: pico / PICO for (where, who), pico in spent.items() if where == table}
            if not amounts:
                continue
            more = ", total_spend = e.total_spend + u.amount" if "total_spend" in self._columns[table] else ""
            statement = sql.SQL(
                f"UPDATE {{}} e SET spend = e.spend + u.amount{more} "  # noqa: S608  # constants of this module
                f"FROM unnest(%s::text[], %s::float8[]) AS u(id, amount) WHERE {id} = u.id"
            ).format(sql.Identifier(table))
            self._connection.execute(statement, [list(amounts), list(amounts.values())])

    def _update_metadata(self, written: Sequence[Request], share: float) -> None:
        """Some rows are touched again after they were written, as the auto-router does."""
        chosen: list[Any] = [request.id for request in written if self._rng.random() < share]
        if chosen:
            with self._connection.transaction():
                touched = sql.SQL(
                    "UPDATE {} SET metadata = metadata || '{{\"routed\": true}}' WHERE request_id = ANY(%s)"
                )
                self._connection.execute(touched.format(sql.Identifier(SPEND_LOGS)), [chosen])


_LINKED_CYCLE = (
    'UPDATE {} e SET spend = 0 FROM "LiteLLM_BudgetTable" b WHERE b.budget_id = e.budget_id AND b.budget_reset_at <= %s'
)
_NEXT_CYCLE = (
    "UPDATE {} SET {} budget_reset_at = budget_reset_at + budget_duration::interval "
    "WHERE budget_reset_at <= %s AND budget_duration IS NOT NULL"
)


def _batches(requests: Sequence[Request], size: int) -> Iterator[Sequence[Request]]:
    for first in range(0, len(requests), size):
        yield requests[first : first + size]
