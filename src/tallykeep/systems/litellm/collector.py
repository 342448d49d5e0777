"""The collector of one LiteLLM database: schema, everybody, the tally, the present, in this order.

Nothing is shown until everything was read: a figure that waits for its first reading is absent, and one whose
reading failed is withdrawn, since a sum over half the rows would be a lie. What was sealed before a failure
stays in the ledger, so a long first reading that is cut goes on where it was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tallykeep.clock import Clock
from tallykeep.errors import Malformed
from tallykeep.metrics import Book, Family, Sample
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.litellm import entities, present, statements
from tallykeep.systems.litellm import families as f
from tallykeep.systems.litellm.database import Database, Outdated, Session
from tallykeep.systems.litellm.entities import Entities
from tallykeep.systems.litellm.figures import Figures, key_counts
from tallykeep.systems.litellm.keeping import opened
from tallykeep.systems.litellm.reading import Reader, Reading, moment
from tallykeep.systems.litellm.schema import SPEND_LOGS, Schema
from tallykeep.systems.litellm.tally import MINUTE, Tally, window_start

NAME = "litellm"


@dataclass(slots=True)
class _Work:
    """What lives from one collection to the next."""

    tally: Tally
    reading: Reading
    figures: Figures


@dataclass(frozen=True, slots=True)
class Pace:
    """How often, over which windows, with what patience."""

    interval: float  # seconds
    timeout: float  # seconds
    overlap: float  # seconds
    windows: dict[str, int]  # seconds


class DatabaseCollector:
    """Reads one database. `label`: name it in every sample, because there are others."""

    name = NAME

    def __init__(
        self, database: Database, pace: Pace, state: Path | None, clock: Clock, book: Book, *, label: bool
    ) -> None:
        self.target = database.name
        self.interval = pace.interval
        self.timeout = pace.timeout
        self._database = database
        self._pace = pace
        self._state = state
        self._clock = clock
        self._book = book
        self._label = label
        self._families: dict[Family, Family] = {}
        self._schema: Schema | None = None
        self._work: _Work | None = None
        self._rounds = self._repaired = 0

    def verdicts(self) -> Sequence[Sample]:
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        """Everything the database says now. Raises: SourceError, StoreError."""
        try:
            found = await self._collected()
        except Outdated:  # a migration ran: look again, once
            self._schema = None
            found = await self._collected()
        for sample in found:
            yield sample

    async def _collected(self) -> list[Sample]:
        now = self._clock.time()
        schema = self._schema = self._schema or await self._database.schema()
        if not schema.has(SPEND_LOGS):
            self._schema = None
            raise Malformed(
                f'database {self._database.name} ({self._database.address}): no table "{SPEND_LOGS}" that this role '
                "may read; check the name of the database, its schema, and the grants"
            )
        async with self._database.session() as session:
            everybody = await read_everybody(session, schema)
            extra = [*await self._present(session, schema, everybody, now), *await self._newest(session)]
        work = self._work = self._work or await self._begin(now)
        await work.reading.refresh(schema, everybody.organization_of, now)
        self._count(work.reading)
        figures = await in_thread(self._figures, work, everybody, now)
        extra += [f.SCHEMA_MISSING(1, what=what) for what in schema.missing()]
        extra.append(f.CHECKED(work.reading.checked_until))
        return self._labelled([*figures, *extra])

    async def _begin(self, now: float) -> _Work:
        ledger = await in_thread(opened, self._state, self._database.name)
        tally = await in_thread(Tally, ledger, self._pace.windows, now)
        reading = Reading(Reader(self._database), tally, self._pace.overlap, self._database)
        return _Work(tally, reading, Figures(tally))

    def _figures(self, work: _Work, everybody: Entities, now: float) -> list[Sample]:
        work.figures.update(everybody)
        return [*work.figures.samples(), *key_counts(everybody, now)]

    async def _present(self, session: Session, schema: Schema, everybody: Entities, now: float) -> list[Sample]:
        stop = window_start(now, 0)
        last = {"start": moment(stop - MINUTE), "stop": moment(stop)}
        rows = await session.rows(statements.minute(schema), last)
        ended = stop - present.SETTLED
        bounds = {
            "start": moment(ended - MINUTE - present.LONGEST), "stop": moment(ended), "moment": moment(ended - MINUTE),
        }  # fmt: skip
        running = await session.rows(statements.running(schema), bounds)
        return [
            *present.minute(rows, everybody),
            *present.parallel(running, everybody, ended - MINUTE, ended),
        ]

    async def _newest(self, session: Session) -> list[Sample]:
        rows = await session.rows(statements.newest())
        return [f.NEWEST_ROW(_unix(ended)) for _, ended in rows]

    def _count(self, reading: Reading) -> None:
        label = {"database": self.target} if self._label else {}
        for family, now, before in (
            (f.CHECK_ROUNDS, reading.rounds, self._rounds),
            (f.REPAIRED, reading.repaired, self._repaired),
        ):
            self._book.add(self._named(family), now - before, **label)
        self._rounds, self._repaired = reading.rounds, reading.repaired

    def _labelled(self, samples: list[Sample]) -> list[Sample]:
        if not self._label:
            return samples
        name = (self.target,)
        return [Sample(self._named(s.family), s.labels + name, s.value) for s in samples]

    def _named(self, family: Family) -> Family:
        if not self._label:
            return family
        return self._families.get(family) or self._families.setdefault(family, with_database(family))


_WITH_DATABASE: dict[Family, Family] = {}  # one family for all databases, so that they stand together on a page


def with_database(family: Family) -> Family:
    """The family with the label that tells several databases apart."""
    return _WITH_DATABASE.get(family) or _WITH_DATABASE.setdefault(
        family, replace(family, labels=(*family.labels, "database"))
    )


async def read_everybody(session: Session, schema: Schema) -> Entities:
    """All entities of one moment."""
    found = {kind: await session.rows(statement) for kind, statement in entities.statements(schema).items()}
    models = entities.models_statement(schema)
    return entities.gather(found, await session.rows(models) if models else ())


def _unix(stored: Any) -> float:
    assert isinstance(stored, datetime)
    return stored.replace(tzinfo=UTC).timestamp()
