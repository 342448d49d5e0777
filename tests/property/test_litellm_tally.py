"""The tally against a model that simply adds up the rows: whatever comes, goes, and however often it is restarted.

The real Reading drives the real Tally and Ledger; only the spend log is a list. Time passes in leaps of seconds to
days, rows come on time or late, vanish one by one or by retention, and the process starts again from its ledger.
"""

from __future__ import annotations

import asyncio
import atexit
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallykeep.systems.litellm import reading
from tallykeep.systems.litellm.cells import NANO, ZERO, Axis, Cells, Check, Series, Sums, add
from tallykeep.systems.litellm.database import Database
from tallykeep.systems.litellm.ledger import Block, Ledger
from tallykeep.systems.litellm.reading import Reader, Reading
from tallykeep.systems.litellm.rows import check_of
from tallykeep.systems.litellm.schema import Schema
from tallykeep.systems.litellm.tally import DAY, HOUR, MINUTE, Tally

WINDOWS = {"spend": 3 * DAY, "request": DAY, "error": HOUR, "short": 7 * MINUTE}
OVERLAP = 15 * MINUTE
START = 20_000 * DAY + 17 * HOUR + 23 * MINUTE + 11  # a moment like any other


class Row(NamedTuple):
    start: int  # Unix seconds
    model: str
    user: str
    nano: int

    def series(self) -> tuple[Series, Series]:
        return (
            Series(Axis.MODEL, (self.model, "provider", "success", "")),
            Series(Axis.USER, (self.user, self.model)),
        )

    def sums(self) -> Sums:
        return Sums(1, self.nano, 3, 4, 7)


@dataclass
class Log:
    """A spend log, read as the database is."""

    rows: list[Row] = field(default_factory=list)

    async def blocks(
        self, schema: Schema, organizations: object, start: int, stop: int | None, step: int, *, details: bool = False
    ) -> dict[int, Block]:
        found: dict[int, Cells] = {}
        for row in self.rows:
            if start <= row.start and (stop is None or row.start < stop):
                for series in row.series():
                    add(found.setdefault(row.start // step * step, {}), series, row.sums())
        return {at: self._block(at, at + step, cells) for at, cells in found.items()}

    def _block(self, start: int, stop: int, cells: Cells) -> Block:
        hours = range(start, stop, HOUR) if stop - start >= HOUR else ()
        return Block(start, stop, cells, cells, [self._check(hour) for hour in hours])

    def _check(self, hour: int) -> Check:
        cells: Cells = {}
        for row in self.rows:
            if hour <= row.start < hour + HOUR:
                add(cells, row.series()[0], row.sums())
        return check_of(cells)

    async def sealed(self, schema: Schema, organizations: object, start: int, stop: int, step: int) -> list[Block]:
        found = await self.blocks(schema, organizations, start, stop, step)
        return [found.get(at) or self._block(at, at + step, {}) for at in range(start, stop, step)]

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Log]:
        yield self

    async def rows_of(self, start: datetime, stop: datetime) -> list[tuple[int, int, float, int]]:
        hour = int(start.replace(tzinfo=UTC).timestamp())
        check = self._check(hour)
        return [(hour, check.rows, check.spend / NANO, check.tokens)] if check.rows else []


class _Session:
    def __init__(self, log: Log) -> None:
        self._log = log

    async def rows(self, statement: str, bounds: dict[str, datetime]) -> list[tuple[int, int, float, int]]:
        return await self._log.rows_of(bounds["start"], bounds["stop"])


class _Database:
    def __init__(self, log: Log) -> None:
        self._log = log

    @asynccontextmanager
    async def session(self) -> AsyncIterator[_Session]:
        yield _Session(self._log)


class World:
    """A log, a clock, and a process that reads the one by the other."""

    def __init__(self, path: Path, rows: list[Row]) -> None:
        self.now = START
        self.log = Log(rows)
        self.path = path
        self.highest: dict[Series, Sums] = {}
        self.seen = Counter(rows)  # every row there ever was
        self.begin()

    def begin(self) -> None:
        """A process starts on what the ledger holds."""
        self.ledger = Ledger(self.path)
        self.tally = Tally(self.ledger, WINDOWS, self.now)
        self.reading = Reading(cast(Reader, self.log), self.tally, OVERLAP, cast(Database, _Database(self.log)))
        self.look()

    def restart(self) -> None:
        """kill -9: nothing is flushed, nothing is said."""
        self.ledger.close()
        self.begin()

    def refresh(self) -> None:
        _to_its_end(self.reading.refresh(Schema({}), lambda own, team, key: "", self.now))
        self.look()
        assert all(self.tally.missing_edge(window) is None for window in self.tally.windows.values())

    def look(self) -> None:
        """No counter may ever have fallen."""
        for series, sums in self.highest.items():
            now = self.tally.counters.get(series, ZERO)
            assert all(a >= b for a, b in zip(now, sums, strict=True)), (series, sums, now)
        self.highest = dict(self.tally.counters)

    def settle(self) -> None:
        """A full round of checks, and whatever it makes necessary."""
        rounds = self.reading.rounds + 2
        while self.reading.rounds < rounds:
            self.refresh()

    def check_windows(self) -> None:
        """Each window holds exactly the rows whose start is not before it."""
        for window in self.tally.windows.values():
            assert window.start == int(self.now - window.length) // MINUTE * MINUTE
            assert window.sums == self.added(self.log.rows, window.start), window.name

    def added(self, rows: Iterable[Row], since: int = 0) -> Cells:
        cells: Cells = {}
        for row in rows:
            if row.start >= since:
                for series in row.series():
                    add(cells, series, row.sums())
        return cells

    def close(self) -> None:
        self.ledger.close()


def _to_its_end(work: Coroutine[None, None, None]) -> None:
    """Run it on a loop that lives as long as the tests."""
    _LOOP.run_until_complete(work)


_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)


async def _at_once(function: Callable[..., Any], /, *arguments: Any) -> Any:
    return function(*arguments)


@pytest.fixture(autouse=True, scope="module")
def no_threads() -> Iterator[None]:
    """Thousands of refreshes need no thread each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "in_thread", _at_once)
        yield


MODELS, USERS = st.sampled_from(("a", "b")), st.sampled_from(("u", "v", "none"))
NANOS = st.integers(0, 3 * NANO)
AGES = st.one_of(st.integers(0, 2 * MINUTE), st.integers(0, 2 * HOUR), st.integers(0, 4 * DAY))
ROW = st.tuples(AGES, MODELS, USERS, NANOS)
TIME = st.one_of(st.integers(1, 90), st.integers(1, 2 * HOUR), st.integers(1, 2 * DAY), st.just(5 * DAY))
OPERATION = st.one_of(
    st.tuples(st.just("appear"), st.lists(ROW, min_size=1, max_size=5)),
    st.tuples(st.just("pass"), TIME),
    st.tuples(st.just("refresh"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("settle"), st.none()),
)
VANISH = st.tuples(st.just("vanish"), st.integers(0, 50))
RETAIN = st.tuples(st.just("retain"), st.integers(0, 4 * DAY))


def _first_horizon() -> int:
    return (START - WINDOWS["spend"]) // MINUTE * MINUTE // HOUR * HOUR


def _play(world: World, operations: list[tuple[str, Any]], oldest: int) -> None:
    for name, argument in operations:
        if name == "appear":
            for age, model, user, nano in argument:
                row = Row(max(world.now - age, oldest), model, user, nano)
                world.log.rows.append(row)
                world.seen[row] += 1
        elif name == "pass":
            world.now += argument
        elif name == "refresh":
            world.refresh()
        elif name == "restart":
            world.restart()
        elif name == "settle":
            world.settle()
            world.check_windows()
        elif name == "vanish" and world.log.rows:
            world.log.rows.pop(argument % len(world.log.rows))
        elif name == "retain":
            world.settle()
            oldest = max(oldest, (world.now - argument) // DAY * DAY)
            world.log.rows = [row for row in world.log.rows if row.start >= oldest]


def _run(
    operations: list[tuple[str, Any]], rows: list[tuple[int, str, str, int]], then: Callable[[World], None]
) -> None:
    oldest = _first_horizon()  # what is older was never within a window
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder) / "ledger", [Row(max(START - a, oldest), m, u, n) for a, m, u, n in rows])
        try:
            world.refresh()
            world.check_windows()
            _play(world, operations, oldest)
            world.settle()
            world.check_windows()
            then(world)
        finally:
            world.close()


ROWS = st.lists(ROW, max_size=12)
SETTINGS = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


@SETTINGS
@given(ROWS, st.lists(OPERATION, max_size=12))
def test_windows_and_counters_equal_the_rows(rows: list[Any], operations: list[Any]) -> None:
    """While nothing is deleted, windows hold the rows inside them and counters every row that was found, once each.

    A row that is older than the longest window when it comes is never looked for.
    """
    _run(operations, rows, lambda world: None)


@SETTINGS
@given(ROWS, st.lists(st.one_of(OPERATION, VANISH, RETAIN), max_size=12))
def test_counters_never_fall(rows: list[Any], operations: list[Any]) -> None:
    """Whatever vanishes, windows follow the rows, and a counter never falls nor exceeds the rows there ever were."""

    def bounded(world: World) -> None:
        ever = world.added(world.seen.elements())
        for series, sums in world.tally.counters.items():
            assert all(a <= b for a, b in zip(sums, ever[series], strict=True)), series

    _run(operations, rows, bounded)


SHORT = st.one_of(st.integers(1, 90), st.integers(1, 2 * HOUR))
RECENT = st.lists(st.tuples(st.integers(0, 3 * HOUR), MODELS, USERS, NANOS), min_size=1, max_size=5)
SEEN = st.one_of(
    st.tuples(st.just("appear"), RECENT),
    st.tuples(st.just("pass"), SHORT),
    st.tuples(st.just("refresh"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    RETAIN,
)


@SETTINGS
@given(ROWS, st.lists(SEEN, max_size=12))
def test_counters_count_every_row_once(rows: list[Any], operations: list[Any]) -> None:
    """Rows that come late, are deleted once they were seen, or stand in the log at a restart are counted once.

    Whole days are deleted: a late row in an hour that lost others of its labels would hide behind them.
    """

    def exact(world: World) -> None:
        assert world.tally.counters == world.added(world.seen.elements())

    _run(operations, rows, exact)
