"""`report`: what a month cost, and by whom, exactly and straight from the rows.

Every day of the month is one statement over an index range, so that none is long. A row belongs to the day and
month in which its request began, in the time zone of who asks. Money is summed in PostgreSQL's numeric, without
the rounding of floats, and cut to nano-dollars once, in the lines: the total is their sum to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from tallykeep.systems.litellm import statements
from tallykeep.systems.litellm.entities import NONE, ORGANIZATION, TEAM, USER, Entities
from tallykeep.systems.litellm.months import Month
from tallykeep.systems.litellm.rows import UNKNOWN_MODEL, tags_of
from tallykeep.systems.litellm.schema import SPEND_LOGS, Schema

if TYPE_CHECKING:
    from tallykeep.systems.litellm.database import Database

Row = tuple[Any, ...]
Names = tuple[str, ...]
OTHERS = "others"
_NANO = Decimal("1e-9")


class Amounts(NamedTuple):
    """What the rows of one line add up to."""

    spend: Decimal = Decimal(0)  # dollars
    requests: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0

    def plus(self, other: Amounts) -> Amounts:
        a, b, c, d, e, f = self
        i, j, k, m, n, o = other
        return Amounts(a + i, b + j, c + k, d + m, e + n, f + o)


class Line(NamedTuple):
    """One line of a report."""

    names: Names
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Dimension:
    """What a report is grouped by."""

    columns: tuple[str, ...]  # headings of a line's names
    expressions: Callable[[Schema], tuple[str, ...]]  # SQL that rows are grouped by
    ids: Callable[[Row, Entities], Iterable[str]]  # of a row's values -> what it counts under
    names: Callable[[str, Entities], Names]  # of an id -> the names of its line


def _plain(expression: str, missing: str = NONE) -> dict[str, Any]:
    return {
        "expressions": lambda schema: (expression,),
        "ids": lambda row, everybody: (row[0] or missing,),
    }


def _aliased(kind: str) -> Callable[[str, Entities], Names]:
    return lambda id, everybody: (id, everybody.alias(kind, id))


def _key_names(id: str, everybody: Entities) -> Names:
    key = everybody.keys.get(id)
    return (id, key.name, key.alias) if key else (id, NONE, NONE)


def _whose_organization(schema: Schema) -> tuple[str, ...]:
    own = "COALESCE(l.organization_id, '')" if schema.has(SPEND_LOGS, "organization_id") else "''::text"
    return own, "COALESCE(l.team_id, '')", "l.api_key"


DIMENSIONS = {
    "team": Dimension(("team_id", "team_alias"), **_plain("COALESCE(l.team_id, '')"), names=_aliased(TEAM)),
    "user": Dimension(("user_id", "user_alias"), **_plain("COALESCE(l.\"user\", '')"), names=_aliased(USER)),
    "key": Dimension(("key_hash", "key_name", "key_alias"), **_plain("l.api_key"), names=_key_names),
    "model": Dimension(("model",), **_plain("l.model", UNKNOWN_MODEL), names=lambda id, everybody: (id,)),
    "tag": Dimension(
        ("tag",),
        lambda schema: ("l.request_tags",),
        lambda row, everybody: tags_of(row[0]) or (NONE,),
        lambda id, everybody: (id,),
    ),
    "organization": Dimension(
        ("organization_id", "organization_alias"),
        _whose_organization,
        lambda row, everybody: (everybody.organization_of(*row) or NONE,),
        _aliased(ORGANIZATION),
    ),
}
OVERLAPPING = frozenset({"tag"})  # dimensions under which one request may count several times


def statement(schema: Schema, dimension: Dimension) -> str:
    """One day's rows, grouped: the dimension's expressions, then the amounts. Parameters: start, stop."""
    expressions = dimension.expressions(schema)
    places = ", ".join(str(place) for place in range(1, len(expressions) + 1))
    failed = f"({statements.status(schema)}) = 'failure'"
    return f"""
SELECT {", ".join(expressions)}, COALESCE(sum(l.spend::numeric), 0), count(*), count(*) FILTER (WHERE {failed}),
       COALESCE(sum(l.prompt_tokens), 0)::bigint, COALESCE(sum(l.completion_tokens), 0)::bigint,
       COALESCE(sum(l.total_tokens), 0)::bigint
FROM "{SPEND_LOGS}" l WHERE l."startTime" >= %(start)s AND l."startTime" < %(stop)s
GROUP BY {places}"""  # noqa: S608  # put together from constants of this program


@dataclass(slots=True)
class Report:
    """A month by one dimension. `add` what each day brought; then read it."""

    month: Month
    by: str
    until: float  # Unix seconds: rows that began before this are in it
    oldest: float | None = None  # Unix seconds of the log's oldest row; None for an empty log
    _found: dict[str, Amounts] = field(default_factory=dict)
    _all: Amounts = field(default_factory=Amounts)  # every row once

    @property
    def dimension(self) -> Dimension:
        """What it is grouped by."""
        return DIMENSIONS[self.by]

    def add(self, rows: Iterable[Row], everybody: Entities) -> None:
        """Take up the rows of a day."""
        width = len(Amounts())
        for row in rows:
            amounts = Amounts(*row[-width:])
            self._all = self._all.plus(amounts)
            for id in self.dimension.ids(row[:-width], everybody):
                self._found[id] = self._found.get(id, Amounts()).plus(amounts)

    def lines(self, everybody: Entities, top: int | None = None) -> list[Line]:
        """Dearest first; with `top` those beyond it as one line, so that the sum stays."""
        dear = sorted(self._found.items(), key=lambda item: (-item[1].spend, item[0]))
        lines = [Line(self.dimension.names(id, everybody), _cut(amounts)) for id, amounts in dear]
        if top is None or len(lines) <= top:
            return lines
        rest = Amounts()
        for line in lines[top:]:
            rest = rest.plus(line.amounts)
        names = (f"{OTHERS} ({len(lines) - top})", *("" for _ in self.dimension.columns[1:]))
        return [*lines[:top], Line(names, rest)]

    def total(self, lines: Iterable[Line]) -> Amounts:
        """The sum of the lines; where a request may count in several, every request once."""
        if self.by in OVERLAPPING:
            return _cut(self._all)
        total = Amounts()
        for line in lines:
            total = total.plus(line.amounts)
        return total

    def notes(self) -> Iterator[str]:
        """What somebody who pays by it has to know."""
        if self.oldest is None:
            yield "the spend log is empty"
        elif not self.reaches_back:
            yield (
                f"the log's oldest row is of {self._local(self.oldest)}: what was before it, if LiteLLM has deleted "
                "any of this month, is not counted"
            )
        if self.running:
            yield f"the month is not over: rows until {self._local(self.until)}"
        if self.by in OVERLAPPING:
            yield "a request counts under each of its tags, and once in the total"

    @property
    def reaches_back(self) -> bool:
        """Whether the log has rows from before the month: nothing of it can have been deleted as too old."""
        return self.oldest is not None and self.oldest <= self.month.start

    @property
    def running(self) -> bool:
        """Whether rows of this month are still to come."""
        return self.until < self.month.stop

    def _local(self, unix: float) -> str:
        return f"{datetime.fromtimestamp(unix, self.month.zone):%Y-%m-%d %H:%M} {self.month.zone.key}"


def _stored(unix: float) -> datetime:
    """A moment as LiteLLM stores it: UTC, without a zone."""
    return datetime.fromtimestamp(unix, UTC).replace(tzinfo=None)


def _cut(amounts: Amounts) -> Amounts:
    return amounts._replace(spend=amounts.spend.quantize(_NANO, ROUND_HALF_EVEN))


async def read_report(
    database: Database, schema: Schema, month: Month, by: str, now: float, everybody: Entities,
    advance: Callable[[int], None],
) -> Report:  # fmt: skip
    """Read a month, day by day; `advance` is told of each. Raises: the errors of Database.session."""
    report = Report(month, by, min(month.stop, now))
    asked = statement(schema, report.dimension)
    async with database.session() as session:
        for (oldest,) in await session.rows(f'SELECT min("startTime") FROM "{SPEND_LOGS}"'):  # noqa: S608
            report.oldest = None if oldest is None else oldest.replace(tzinfo=UTC).timestamp()
    for start, stop in month.days(now):
        async with database.session() as session:
            rows = await session.rows(asked, {"start": _stored(start), "stop": _stored(min(stop, report.until))})
        report.add(rows, everybody)
        advance(1)
    return report
