"""The collector of one LiteLLM database: schema, everybody, the present, the tally, in this order.

Nothing is shown until everything was read: a figure that waits for its first reading is absent, and one whose
reading failed is withdrawn, since a sum over half the rows would be a lie. What was sealed before a failure
stays in the ledger, so a long first reading that is cut goes on where it was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tallykeep.clock import Clock
from tallykeep.errors import Corrupt, Malformed, Refused, SourceError, Unavailable
from tallykeep.metrics import Book, Family, Sample
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.litellm import families as f
from tallykeep.systems.litellm import keeping, present, statements
from tallykeep.systems.litellm.database import Database, Outdated, Session, Ungranted
from tallykeep.systems.litellm.entities import Entities
from tallykeep.systems.litellm.everybody import Everybody
from tallykeep.systems.litellm.figures import AXES, Figures
from tallykeep.systems.litellm.ledger import Ledger
from tallykeep.systems.litellm.reading import Reader, Reading, moment
from tallykeep.systems.litellm.reconciling import Reconciling
from tallykeep.systems.litellm.rows import check_of, checks_by_hour
from tallykeep.systems.litellm.schema import REFUSED, Schema
from tallykeep.systems.litellm.tally import HOUR, MINUTE, Tally, window_start

NAME = "litellm"
PROBE_EVERY = 60.0  # seconds: a migration that adds a column breaks nothing, and would go unnoticed

_IDENTITY = "SELECT current_database() || '/' || d.oid || '/' || to_regclass('\"LiteLLM_SpendLogs\"')::oid " \
            "FROM pg_catalog.pg_database d WHERE d.datname = current_database()"  # fmt: skip


@dataclass(slots=True)
class _Work:
    """What lives from one collection to the next, and rests on the ledger."""

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
        self._schema: Schema | None = None
        self._probed = 0.0  # on the monotonic clock
        self._everybody = Everybody()
        self._present = _Present()
        self._reconciling = Reconciling(database)
        self._ledger: Ledger | None = None
        self._work: _Work | None = None
        self._rounds = self._repaired = 0

    def verdicts(self) -> Sequence[Sample]:
        """It has none: figures are there or absent."""
        return ()

    def close(self) -> None:
        """Let the ledger's file go."""
        if self._ledger is not None:
            self._ledger.close()

    async def collect(self) -> AsyncIterator[Sample]:
        """Everything the database says now. Raises: SourceError, StoreError."""
        try:
            found = await self._collected()
        except (Outdated, Ungranted):  # a migration ran, or a grant was revoked: look again, once
            self._schema = None
            found = await self._collected()
        for sample in found:
            yield sample

    async def _collected(self) -> list[Sample]:
        now = self._clock.time()
        schema = await self._probe()
        async with self._database.session() as session:
            everybody = await self._everybody.read(session, schema)
            extra = [*await self._present.read(session, schema, everybody, now), *await _newest(session)]
        with self._whole_or_dropped():
            work = self._work = self._work or await self._begin(now)
            await work.reading.refresh(schema, everybody.organization_of, now)
            figures = await in_thread(_figures, work, everybody, now)
        self._count(work.reading)
        extra += await self._reconciling.step(schema, everybody, now)
        extra += [f.SCHEMA_MISSING(1, what=gap.what, reason=gap.reason) for gap in schema.gaps()]
        extra.append(f.CHECKED(work.reading.checked_until))
        return self._labelled([*figures, *extra])

    async def _probe(self) -> Schema:
        """What this database has and lets us read. Raises: Outdated, Ungranted where figures would be wrong."""
        now = self._clock.monotonic()
        if self._schema is None or now - self._probed >= PROBE_EVERY:
            self._schema, self._probed = await self._database.schema(), now
        lacking = self._schema.lacking()
        if not lacking:
            return self._schema
        self._schema = None
        where = f"database {self._database.name} ({self._database.address})"
        said = "; ".join(gap.says for gap in lacking)
        if all(gap.reason == REFUSED for gap in lacking):
            raise Refused(f"{where}: {said}")
        raise _NotLitellm(f"{where}: {said}; check the name of the database, its schema, and the grants")

    @contextmanager
    def _whole_or_dropped(self) -> Iterator[None]:
        """After an error of the database, or of a disk that could not be written, the tally is whole and goes on;
        after anything else it is built anew from the ledger."""
        try:
            yield
        except (SourceError, Unavailable):
            raise
        except Corrupt:
            self.close()
            self._ledger = self._work = None
            raise
        except BaseException:
            self._work = None
            raise

    async def _begin(self, now: float) -> _Work:
        self._rounds = self._repaired = 0
        tally = await self._tally(now)
        identity = await self._identity()
        known = self._of_ledger().get(keeping.IDENTITY)
        if known not in (None, identity) and not await self._same_rows(tally):
            self._set_aside("other", f"the ledger of {self.target} is that of another database ({known})")
            tally = await self._tally(now)
        await in_thread(tally.commit, {keeping.IDENTITY: identity})
        reading = Reading(Reader(self._database), tally, self._pace.overlap, self._database)
        return _Work(tally, reading, Figures(tally))

    async def _tally(self, now: float) -> Tally:
        try:
            return await in_thread(Tally, await self._open(), self._pace.windows, now, AXES)
        except Corrupt as error:
            self._set_aside("corrupt", str(error))
            return await in_thread(Tally, await self._open(), self._pace.windows, now, AXES)

    async def _open(self) -> Ledger:
        if self._ledger is None:
            self._ledger = await in_thread(keeping.opened, self._state, self._database.name)
        return self._ledger

    def _of_ledger(self) -> Ledger:
        assert self._ledger is not None, "not open"
        return self._ledger

    def _set_aside(self, why: str, message: str) -> None:
        path = self._of_ledger().path
        self.close()
        self._ledger = None
        if path is not None:
            keeping.set_aside(path, why, message)

    async def _identity(self) -> str:
        async with self._database.session() as session:
            [(identity,)] = await session.rows(_IDENTITY)
            return str(identity)

    async def _same_rows(self, tally: Tally) -> bool:
        """Whether one of the newest hours of the ledger stands in this database as it was; none at all is no sign."""
        hours = keeping.newest_hours(tally)
        async with self._database.session() as session:
            for hour, known in hours.items():
                bounds = {"start": moment(hour), "stop": moment(hour + HOUR)}
                found = checks_by_hour(await session.rows(statements.checks(), bounds))
                if found.get(hour, check_of({})).agrees(known):
                    return True
        return not hours

    def _count(self, reading: Reading) -> None:
        label = {"database": self.target} if self._label else {}
        for family, now, before in (
            (f.CHECK_ROUNDS, reading.rounds, self._rounds),
            (f.REPAIRED, reading.repaired, self._repaired),
        ):
            self._book.add(with_database(family) if self._label else family, now - before, **label)
        self._rounds, self._repaired = reading.rounds, reading.repaired

    def _labelled(self, samples: list[Sample]) -> list[Sample]:
        if not self._label:
            return samples
        name = (self.target,)
        return [Sample(with_database(s.family), s.labels + name, s.value) for s in samples]


class _NotLitellm(Malformed):
    """What everything rests on is not there."""

    code = "schema"


class _Present:
    """The figures of the last minutes; what runs is asked once for each minute."""

    def __init__(self) -> None:
        self._running: tuple[int, list[present.Row]] | None = None  # end of the minute, rows

    async def read(self, session: Session, schema: Schema, everybody: Entities, now: float) -> list[Sample]:
        """The last whole minute, and the one that ended ten minutes ago."""
        stop = window_start(now, 0)
        last = {"start": moment(stop - MINUTE), "stop": moment(stop)}
        rows = await session.rows(statements.minute(schema), last)
        ended = stop - present.SETTLED
        if self._running is None or self._running[0] != ended:
            start = moment(ended - MINUTE - present.LONGEST)
            bounds = {"start": start, "stop": moment(ended), "moment": moment(ended - MINUTE)}
            self._running = ended, await session.rows(statements.running(schema), bounds)
        return [
            *present.minute(rows, everybody),
            *present.parallel(self._running[1], everybody, ended - MINUTE, ended),
        ]


async def _newest(session: Session) -> list[Sample]:
    return [f.NEWEST_ROW(_unix(ended)) for _, ended in await session.rows(statements.newest())]


def _figures(work: _Work, everybody: Entities, now: float) -> list[Sample]:
    work.figures.update(everybody)
    return work.figures.samples(now)


_WITH_DATABASE: dict[Family, Family] = {}  # one family for all databases, so that they stand together on a page


def with_database(family: Family) -> Family:
    """The family with the label that tells several databases apart."""
    return _WITH_DATABASE.get(family) or _WITH_DATABASE.setdefault(
        family, replace(family, labels=(*family.labels, "database"))
    )


def _unix(stored: Any) -> float:
    assert isinstance(stored, datetime)
    return stored.replace(tzinfo=UTC).timestamp()
