"""`reconcile`: do the rows of the spend log add up to what LiteLLM itself holds against everybody?

LiteLLM keeps two accounts: a row for each request, and a `spend` column with each key, user, team, organization,
member and customer, which is set to 0 when a budget cycle ends. An entity is compared where its running cycle, or
else its whole life, lies within the log; where rows of it may have been deleted nothing is claimed.

The log is read once, a day a statement, grouped by whose a request is and by the stretch between two beginnings of
cycles. The last day and the `spend` columns are read in one transaction, so that live traffic does not come between.
LiteLLM itself writes the two accounts some seconds apart, and a request across a reset counts here for the cycle in
which it began.
Source: litellm, proxy/common_utils/reset_budget_job.py.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from tallykeep.systems.litellm.durations import cycle_start
from tallykeep.systems.litellm.entities import KINDS, MEMBER, NONE, WHOLE_PROXY, Entities, Kind
from tallykeep.systems.litellm.present import whose
from tallykeep.systems.litellm.schema import SPEND_LOGS, Schema

if TYPE_CHECKING:
    from tallykeep.systems.litellm.database import Session

CENT = Decimal("0.01")
_DAY = timedelta(days=1)
_BUDGET = "LiteLLM_BudgetTable"
Who = tuple[str, str]  # (kind, id)


class Standing(NamedTuple):
    """One entity and what LiteLLM says it spent in the running cycle."""

    kind: str
    id: str
    alias: str
    spend: Decimal
    cycle: datetime | None  # when it began, UTC without a zone; None: never reset
    created: datetime | None

    def lies_after(self, oldest: datetime) -> bool:
        """Whether the log holds every row of the running cycle, given its oldest row."""
        begun = max((moment for moment in (self.cycle, self.created) if moment is not None), default=None)
        return begun is not None and begun >= oldest


class Line(NamedTuple):
    """One entity's two accounts, in dollars."""

    kind: str
    id: str
    alias: str
    rows: Decimal
    spend: Decimal

    @property
    def difference(self) -> Decimal:
        """What the spend column has beyond the rows."""
        return self.spend - self.rows

    @property
    def equal(self) -> bool:
        """Within a cent."""
        return abs(self.difference) <= CENT


class Result(NamedTuple):
    """Everybody that could be compared, largest difference first, and how many of each kind could not."""

    lines: list[Line]
    left_out: Mapping[str, int]

    @property
    def differences(self) -> list[Line]:
        """Those beyond a cent."""
        return [line for line in self.lines if not line.equal]

    def by_kind(self) -> Iterator[tuple[str, int, Decimal]]:
        """(kind, entities compared, dollars of difference without their signs)."""
        for kind in dict.fromkeys(line.kind for line in self.lines):
            found = [line for line in self.lines if line.kind == kind]
            yield kind, len(found), sum((abs(line.difference) for line in found), Decimal(0))


class Reconciliation:
    """One pass over the log. `begin`, then `read` until it returns False, then `finish`, as often as one likes."""

    def __init__(self, schema: Schema, everybody: Entities) -> None:
        self._schema = schema
        self._everybody = everybody
        self._oldest: datetime | None = None
        self._next = self._last = datetime(1970, 1, 1)  # noqa: DTZ001  # midnight of the day that `finish` reads
        self._begins: list[datetime] = []
        self._from: dict[Who, int] = {}  # number of the stretch an entity's cycle begins with
        self._sums: dict[Who, Decimal] = {}

    async def begin(self, session: Session) -> int:
        """Learn how far the log and the cycles go back; the number of days to read."""
        for oldest, now in await session.rows(
            f'SELECT min(l."startTime"), CURRENT_TIMESTAMP::timestamp FROM "{SPEND_LOGS}" l'  # noqa: S608
        ):
            self._oldest = oldest
            self._last = datetime(now.year, now.month, now.day)  # noqa: DTZ001  # UTC, as the log has it
        standings = await self._standings(session)
        self._begins = sorted({s.cycle for s in standings if s.cycle is not None})
        stretches = {begin: number for number, begin in enumerate(self._begins, 1)}
        self._from = {(s.kind, s.id): stretches[s.cycle] if s.cycle else 0 for s in standings}
        self._next = self._last
        if self._oldest is not None:
            self._next = datetime(self._oldest.year, self._oldest.month, self._oldest.day)  # noqa: DTZ001
        return max(0, (self._last - self._next).days)

    async def read(self, session: Session) -> bool:
        """Read one day; False when there is none left but the last."""
        if self._next >= self._last:
            return False
        self._add(self._sums, self._next, await self._rows(session, self._next, self._next + _DAY))
        self._next += _DAY
        return self._next < self._last

    async def finish(self, session: Session) -> Result:
        """Read the last day and the `spend` columns of the same moment, and compare."""
        sums = dict(self._sums)
        self._add(sums, self._last, await self._rows(session, self._last, None))
        lines, left_out = [], dict[str, int]()
        for s in await self._standings(session):
            begin = self._from.get((s.kind, s.id))
            known = begin is not None and begin == (bisect_right(self._begins, s.cycle) if s.cycle else 0)
            if self._oldest is None or not known or not s.lies_after(self._oldest):
                left_out[s.kind] = left_out.get(s.kind, 0) + 1
            else:
                lines.append(Line(s.kind, s.id, s.alias, sums.get((s.kind, s.id), Decimal(0)), s.spend))
        lines.sort(key=lambda line: (-abs(line.difference), line.kind, line.id))
        return Result(lines, left_out)

    # --- within

    async def _rows(self, session: Session, start: datetime, stop: datetime | None) -> list[tuple[Any, ...]]:
        within = [begin for begin in self._begins if begin > start and (stop is None or begin < stop)]
        parameters = {"start": start, "stop": stop, "begins": within}
        return await session.rows(rows_statement(self._schema), parameters)

    def _add(self, sums: dict[Who, Decimal], start: datetime, rows: Iterable[tuple[Any, ...]]) -> None:
        before = bisect_right(self._begins, start)
        for place, *owner, spend in rows:
            stretch = before + place
            for who in self._counted(tuple(owner)):
                begin = self._from.get(who)
                if begin is not None and stretch >= begin:
                    sums[who] = sums.get(who, Decimal(0)) + spend

    def _counted(self, owner: tuple[Any, ...]) -> Iterator[Who]:
        yield from whose(owner, self._everybody)
        user, team = owner[:2]
        if user and team:
            yield MEMBER, f"{team}/{user}"

    async def _standings(self, session: Session) -> list[Standing]:
        found = []
        for kind in KINDS:
            if "spend" in kind.has and self._schema.has(kind.table, "spend"):
                rows = await session.rows(standings_statement(self._schema, kind))
                found += [_standing(kind, row) for row in rows if row[0] != WHOLE_PROXY]
        return found


def _standing(kind: Kind, row: tuple[Any, ...]) -> Standing:
    id, alias, spend, duration, reset, created = row
    cycle = None
    if duration and reset is not None:
        try:
            cycle = cycle_start(duration, reset)
        except ValueError:  # LiteLLM does not read it either, and never resets
            cycle = None
    return Standing(kind.kind, id, alias or NONE, spend or Decimal(0), cycle, created)


def rows_statement(schema: Schema) -> str:
    """Spend by stretch and by whose it is. Parameters: start, stop (NULL: no end), begins within, ascending."""
    organization = "COALESCE(l.organization_id, '')" if schema.has(SPEND_LOGS, "organization_id") else "''::text"
    return f"""
SELECT width_bucket(l."startTime", %(begins)s::timestamp[]), COALESCE(l."user", ''), COALESCE(l.team_id, ''),
       {organization}, l.api_key, COALESCE(l.end_user, ''), sum(l.spend::numeric)
FROM "{SPEND_LOGS}" l
WHERE l."startTime" >= %(start)s AND (%(stop)s::timestamp IS NULL OR l."startTime" < %(stop)s) AND l.spend <> 0
GROUP BY 1, 2, 3, 4, 5, 6"""  # noqa: S608  # put together from constants of this program


def standings_statement(schema: Schema, kind: Kind) -> str:
    """One kind's entities: id, alias, spend, duration and next reset of the cycle, creation (NULL: not known)."""
    linked = schema.has(kind.table, "budget_id") and schema.has(_BUDGET)
    own = schema.has(kind.table, "budget_duration") and schema.has(kind.table, "budget_reset_at")
    duration, reset = "NULL::text", "NULL::timestamp"
    if linked:
        duration, reset = "b.budget_duration", "b.budget_reset_at"
    if own:  # its own cycle wins, with its own reset
        reset = f"CASE WHEN e.budget_duration IS NOT NULL THEN e.budget_reset_at ELSE {reset} END"
        duration = f"COALESCE(e.budget_duration, {duration})"
    created = "e.created_at" if schema.has(kind.table, "created_at") else "NULL::timestamp"
    join = f'LEFT JOIN "{_BUDGET}" b ON b.budget_id = e.budget_id' if linked else ""
    return (
        f"SELECT {kind.id}, {kind.alias}, e.spend::numeric, {duration}, {reset}, {created} "  # noqa: S608
        f'FROM "{kind.table}" e {join}'
    )


async def differences(session: Session, schema: Schema, everybody: Entities) -> Result:
    """A whole pass at once, within one transaction."""
    pass_ = Reconciliation(schema, everybody)
    await pass_.begin(session)
    while await pass_.read(session):
        pass
    return await pass_.finish(session)


def smaller(first: Result, second: Result) -> Result:
    """Of two passes, each entity's smaller difference: what stands in one of them alone was on its way."""
    before = {(line.kind, line.id): line for line in first.lines}
    lines = [
        min(line, before.get((line.kind, line.id), line), key=lambda looked: abs(looked.difference))
        for line in second.lines
    ]
    lines.sort(key=lambda line: (-abs(line.difference), line.kind, line.id))
    return Result(lines, second.left_out)
