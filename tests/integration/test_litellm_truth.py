"""Every figure of LiteLLM's database is true: against plain SQL over the same rows, and the generator's own account."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from math import isclose
from pathlib import Path

import pytest
from tests.support.clock import FakeClock
from tests.support.litellm import reading
from tests.support.litellm_oracle import HISTOGRAM, OWN, QUERIES, Times, Values, oracle
from tests.support.postgres import MakeDatabase, server_folder

from tallykeep.clock import Clock, SystemClock
from tallykeep.demo import litellm_schema
from tallykeep.demo.litellm_account import Totals
from tallykeep.demo.litellm_traffic import Mix, Traffic
from tallykeep.demo.postgres import PostgresServer
from tallykeep.metrics import Book, Distribution, Sample
from tallykeep.runtime.processes import ManagedProcess
from tallykeep.systems.litellm.collector import DatabaseCollector, Pace
from tallykeep.systems.litellm.families import FAMILIES
from tallykeep.systems.litellm.figures import windows
from tallykeep.systems.litellm.opening import connected
from tallykeep.systems.litellm.statements import BUCKETS

pytestmark = pytest.mark.server

MINUTE, HOUR, DAY = 60, 3600, 86400
OVERLAP = 900.0
MONTH = windows(30 * DAY, DAY, HOUR)
SHORT = {"spend": 3 * DAY, "keys": 3 * DAY, "request": DAY, "error": HOUR}  # so that a round of checks is short


class HeldClock(SystemClock):
    """The machine's clock until it is held: then a minute ahead for good, so that figures can be compared at rest."""

    _held: float | None = None

    def hold(self) -> None:
        self._held = time.time() + MINUTE

    def time(self) -> float:
        return time.time() if self._held is None else self._held


class Watched:
    """A collector of one database, and what it must say."""

    def __init__(self, dsn: str, clock: Clock, state: Path | None = None, lengths: dict[str, int] = MONTH) -> None:
        settings = reading(dsn, statement_timeout=120.0)
        self.dsn, self.clock, self.lengths = dsn, clock, lengths
        self.database = connected(settings.databases[0], settings)
        pace = Pace(15.0, 600.0, OVERLAP, lengths)
        self.collector = DatabaseCollector(self.database, pace, state, clock, Book(), label=False)
        began = clock.time()
        self.since = int(began - max(lengths.values())) // HOUR * HOUR
        self.details = int(began - OVERLAP) // HOUR * HOUR

    async def look(self) -> list[Sample]:
        """One collection."""
        return [sample async for sample in self.collector.collect()]

    async def settle(self) -> list[Sample]:
        """Collections until every hour has been compared with the log since now."""
        await self.look()
        work, schema, everybody = self.collector._work, self.collector._schema, self.collector._everybody
        assert work is not None
        assert schema is not None
        async with self.database.session() as session:
            organization_of = (await everybody.read(session, schema)).organization_of
        rounds = work.reading.rounds + (1 if work.reading.checked_until <= self.since + HOUR else 2)
        while work.reading.rounds < rounds:
            await work.reading.refresh(schema, organization_of, self.clock.time())
        return await self.look()

    def times(self) -> Times:
        now = self.clock.time()
        starts = {name: float(int(now - length) // MINUTE * MINUTE) for name, length in self.lengths.items()}
        return Times(now=now, since=self.since, details=self.details, **starts)

    def check(self, found: Iterable[Sample]) -> None:
        """Every figure equals the oracle's."""
        compare(values(found), oracle(self.dsn, self.times(), BUCKETS))


@asynccontextmanager
async def watched(
    dsn: str, clock: Clock, state: Path | None = None, lengths: dict[str, int] = MONTH
) -> AsyncIterator[Watched]:
    one = Watched(dsn, clock, state, lengths)
    try:
        yield one
    finally:
        one.collector.close()
        await one.database.close()


def values(samples: Iterable[Sample]) -> Values:
    """Samples as the oracle has them."""
    found: Values = {}
    for family, labels, value in samples:
        if isinstance(value, Distribution):
            for bound, count in zip([*BUCKETS, float("inf")], value.counts, strict=True):
                found[family.name, (*labels, str(bound))] = count
            found[family.name, (*labels, "sum")] = value.total
        elif family.name not in OWN:
            assert not isinstance(value, str)
            assert (family.name, labels) not in found, f"{family.name}{labels} twice"
            found[family.name, labels] = value
    return found


def compare(found: Values, expected: Values) -> None:
    """Equal within 1e-6, and the same series."""
    wrong = [
        f"{name}{list(labels)}: {found.get((name, labels))} instead of {expected.get((name, labels))}"
        for name, labels in sorted(found.keys() | expected.keys())
        if not _equal(found.get((name, labels)), expected.get((name, labels)))
    ]
    assert not wrong, f"{len(wrong)} of {len(expected)}: {Counter(w.split('[')[0] for w in wrong)}\n" + "\n".join(
        wrong[:20]
    )


def _equal(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and isclose(a, b, rel_tol=1e-12, abs_tol=1e-6)


@contextmanager
def traffic(dsn: str, now: float, rows: int, days: float = 30, seed: int = 0) -> Iterator[Traffic]:
    """A database with everybody and their history."""
    with Traffic(dsn, now=now, bounds=BUCKETS, seed=seed) as made:
        made.populate()
        made.history(rows, days)
        yield made


def test_the_oracle_states_every_family() -> None:
    """No family of LiteLLM's is left unproved, but those by which the program tells how it fares itself."""
    assert {family.name for family in FAMILIES} == QUERIES.keys() | {HISTOGRAM} | OWN


ROWS = [pytest.param(20_000), pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
SCHEMAS = [None, litellm_schema.BASELINE]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("until", SCHEMAS)
async def test_every_figure_equals_plain_sql(litellm_database: MakeDatabase, until: str | None, rows: int) -> None:
    """At rest, on the newest and on the baseline schema, as the windows move on by seconds, hours and days."""
    dsn, clock = litellm_database(until=until), FakeClock(time.time())
    with traffic(dsn, clock.time(), rows) as made:
        async with watched(dsn, clock) as one:
            one.check(await one.look())
            check_account(await one.look(), one, made)
            for seconds in (77, 7 * HOUR, 3 * DAY):
                clock.step(seconds)
                one.check(await one.look())


@pytest.mark.parametrize("zone", ["Asia/Seoul", "America/New_York"])
async def test_the_server_s_time_zone_changes_nothing(zone: str) -> None:
    """LiteLLM writes UTC; a server that shows another time by default yields the same figures."""
    clock = FakeClock(time.time())
    with server_folder() as folder, PostgresServer(folder, fast=True, timezone=zone) as server:
        dsn = server.create_database("litellm")
        litellm_schema.migrate(dsn)
        with traffic(dsn, clock.time(), 3000, days=4) as made:
            async with watched(dsn, clock) as one:
                found = await one.look()
                one.check(found)
                check_account(found, one, made)


async def test_live_traffic_with_late_rows_is_found_whole(litellm_database: MakeDatabase) -> None:
    """While rows come, late and out of order, no counter falls; after a round of checks it is as the generator says."""
    dsn = litellm_database()
    with traffic(dsn, time.time(), 3000, days=3) as made:
        clock = HeldClock()
        async with watched(dsn, clock, lengths=SHORT) as one:
            stop = threading.Event()
            live = asyncio.create_task(asyncio.to_thread(made.run, 200, stop, Mix(flush=0.3, late=0.2)))
            highest = none_fell({}, await one.look())
            looks, before = 1, requests(highest)
            while looks < 15 or requests(highest) <= before + 300:
                await asyncio.sleep(0.2)
                highest, looks = none_fell(highest, await one.look()), looks + 1
            stop.set()
            assert await live > 300
            clock.hold()
            found = await one.settle()
            none_fell(highest, found)
            check_account(found, one, made)
            one.check(found)


async def test_restarts_lose_nothing(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """Killed at any moment and started again, the process goes on from its ledger; rows meanwhile count once."""
    dsn = litellm_database()
    with traffic(dsn, time.time(), 3000, days=3) as made:
        clock = FakeClock(time.time())
        async with watched(dsn, clock, tmp_path, SHORT) as first:
            since, highest = first.since, none_fell({}, await first.look())
        for _ in range(4):
            made.step(clock.time(), clock.time() + 40, rate=20, mix=Mix(flush=0.1, late=0.3))
            clock.step(40)
            async with watched(dsn, clock, tmp_path, SHORT) as one:
                highest = none_fell(highest, await one.look())
        made.drain()
        clock.step(2 * HOUR)
        async with watched(dsn, clock, tmp_path, SHORT) as last:
            last.since = since
            found = await last.settle()
            none_fell(highest, found)
            check_account(found, last, made)


async def test_kill_9_loses_nothing(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """`tallykeep run litellm` is killed again and again under live traffic; what its ledger holds then is whole."""
    dsn, state = litellm_database(), tmp_path / "state"
    with traffic(dsn, time.time(), 3000, days=3) as made:
        since, stop = int(time.time() - max(MONTH.values())) // HOUR * HOUR, threading.Event()
        live = asyncio.create_task(asyncio.to_thread(made.run, 100, stop, Mix(flush=0.2, late=0.1)))
        rng = random.Random(7)
        for attempt in range(KILLS):
            process = ManagedProcess(
                [sys.executable, "-m", "tallykeep", "run", "litellm"],
                env={**os.environ, "LITELLM_DATABASE_URL": dsn, "TALLYKEEP_STATE_DIR": str(state),
                     "METRICS_UPDATE_INTERVAL": "1", "METRICS_PORT": "0"},
                log=tmp_path / "log",
            )  # fmt: skip
            process.start()
            if attempt == 0:  # from when the file is there it reads, and writes what it read
                await asyncio.to_thread(process.wait_ready, (state / "litellm" / "default.sqlite").exists, 60)
            await asyncio.sleep(rng.uniform(0.2, 3.0))
            assert process.alive, process.log_tail()
            process.kill()
        stop.set()
        await live
        clock = HeldClock()
        clock.hold()
        async with watched(dsn, clock, state, SHORT) as last:  # what is older is empty, and folded into the base
            last.since = since
            check_account(await last.settle(), last, made)


KILLS = 5


async def test_deleted_rows_leave_windows_and_no_counter(litellm_database: MakeDatabase) -> None:
    """After retention has deleted old rows, windows hold what is left, and counters stand where they stood."""
    dsn, clock = litellm_database(), FakeClock(time.time())
    with traffic(dsn, clock.time(), 4000, days=3) as made:
        async with watched(dsn, clock, lengths=SHORT) as one:
            before = await one.settle()
            counted = {key: value for key, value in values(before).items() if key[0].endswith("_total")}
            assert made.delete_before(clock.time() - 1.3 * DAY) > 1000
            clock.step(31)
            after = await one.settle()
            none_fell(counted, after)
            left = values(after)
            assert {key: left.get(key) for key in counted if key[0] in LASTING} == {
                key: value for key, value in counted.items() if key[0] in LASTING
            }
            check_account(after, one, made, counters=False)


LASTING = ("litellm_requests_total", "litellm_spend_dollars_total", "litellm_tokens_total", "litellm_errors_total")


def none_fell(highest: Values, found: Iterable[Sample]) -> Values:
    """What counters stand at now; none is lower than before."""
    now = {key: value for key, value in values(found).items() if key[0].endswith("_total") or key[0] == HISTOGRAM}
    fallen = {key: (value, now[key]) for key, value in highest.items() if key in now and now[key] < value}
    assert not fallen
    return highest | now


def requests(counted: Values) -> float:
    """How many have been counted."""
    return sum(value for (name, _), value in counted.items() if name == "litellm_requests_total")


# --- the generator's account

_DOLLARS = 10**12


def check_account(found: Iterable[Sample], one: Watched, made: Traffic, *, counters: bool = True) -> None:
    """Windows and counters equal the generator's own account of its rows; aliases are not in it."""
    times = one.times()
    expected: Values = {}
    _spends(expected, made.account.totals(times.spend))
    _keys(expected, made.account.totals(times.keys))
    _requests(expected, made.account.totals(times.request))
    for (model, error), count in made.account.totals(times.error).errors.items():
        expected["litellm_window_errors", (model, error)] = count
    if counters:
        _counters(expected, made.account.totals(times.since))
    names = {name for name, _ in expected}
    said = {(name, _short(name, labels)): value for (name, labels), value in values(found).items() if name in names}
    compare(_without_zeros(said), _without_zeros(expected))


def _without_zeros(found: Values) -> Values:
    return {key: value for key, value in found.items() if value}


def _short(name: str, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Without aliases."""
    if name in ("litellm_user_spend", "litellm_team_spend", "litellm_org_spend"):
        return labels[0], labels[2]
    return labels[:1] if name == "litellm_key_hash_spend" else labels


def _spends(expected: Values, totals: Totals) -> None:
    for name, counter in (
        ("litellm_total_spend", totals.model),
        ("litellm_user_spend", totals.user),
        ("litellm_team_spend", totals.team),
        ("litellm_org_spend", totals.organization),
        ("litellm_tag_spend", totals.tag),
        ("litellm_provider_spend", totals.provider),
    ):
        expected |= {(name, labels): pico / _DOLLARS for labels, pico in counter.items()}
    for (model, kind), count in totals.tokens.items():
        expected[f"litellm_{kind}_tokens", (model,)] = count


def _keys(expected: Values, totals: Totals) -> None:
    expected |= {("litellm_key_hash_spend", labels): pico / _DOLLARS for labels, pico in totals.key.items()}


def _requests(expected: Values, totals: Totals) -> None:
    expected |= {("litellm_window_requests", labels): count for labels, count in totals.requests.items()}


def _counters(expected: Values, totals: Totals) -> None:
    for name, counter in (
        ("litellm_requests_total", totals.requests),
        ("litellm_errors_total", totals.errors),
        ("litellm_cache_hits_total", totals.hits),
        ("litellm_cache_misses_total", totals.misses),
        ("litellm_tokens_total", totals.tokens),
        ("litellm_provider_requests_total", totals.provider_requests),
        ("litellm_provider_tokens_total", totals.provider_tokens),
    ):
        expected |= {(name, labels): count for labels, count in counter.items()}
    for name, counter in (
        ("litellm_spend_dollars_total", totals.model),
        ("litellm_provider_spend_dollars_total", totals.provider),
    ):
        expected |= {(name, labels): pico / _DOLLARS for labels, pico in counter.items()}
    bounds = [*BUCKETS, float("inf")]
    for (model, bucket), count in totals.durations.items():
        expected[HISTOGRAM, (model, str(bounds[bucket]))] = count
    for (model,), milliseconds in totals.milliseconds.items():
        expected[HISTOGRAM, (model, "sum")] = milliseconds / 1000
