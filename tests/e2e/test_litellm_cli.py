"""The commands of `tallykeep litellm`, as a user calls them, on a real PostgreSQL with LiteLLM's real schema."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
import pytest
from tests.support.postgres import MakeDatabase

from tallykeep.cli.main import main
from tallykeep.demo.litellm_account import Totals
from tallykeep.demo.litellm_rows import PICO
from tallykeep.demo.litellm_schema import BASELINE, migrate
from tallykeep.demo.litellm_traffic import Traffic
from tallykeep.demo.postgres import PostgresServer
from tallykeep.history.periods import midnight
from tallykeep.runtime.processes import free_port
from tallykeep.systems.litellm.ledger import Block, Ledger

pytestmark = pytest.mark.server

Cli = Callable[..., tuple[int, str, str]]
ZONES = ("UTC", "Asia/Seoul", "America/New_York")
BY = ("team", "user", "key", "model", "organization", "tag")


@dataclass
class Spent:
    """A database with a month of traffic, and what was spent in it."""

    dsn: str
    traffic: Traffic

    @property
    def month(self) -> str:
        """The running month, in UTC."""
        return f"{self.days_ago(0):%Y-%m}"

    def days_ago(self, days: int) -> datetime:
        """In UTC."""
        return datetime.fromtimestamp(self.traffic.world.now / 1000, UTC) - timedelta(days=days)


@pytest.fixture(scope="module", params=[None, BASELINE], ids=["newest", "baseline"])
def spent(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[Spent]:
    """40 days of traffic, on the newest schema and on the oldest."""
    name = f"cli_{request.param or 'newest'}"
    dsn = postgres.create_database(name)
    migrate(dsn, request.param)
    with Traffic(dsn, seed=7) as traffic:
        traffic.populate()
        traffic.history(8000, 40)
        yield Spent(dsn, traffic)
    postgres.drop_database(name)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Calls tallykeep in this process: exit status, standard output, standard error."""
    monkeypatch.setenv("TALLYKEEP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("TZ", "UTC")

    def call(dsn: str, *args: object) -> tuple[int, str, str]:
        if dsn:
            monkeypatch.setenv("LITELLM_DATABASE_URL", dsn)
        status = main(["litellm", *map(str, args)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


# --- report


def expected(totals: Totals, by: str) -> dict[str, Decimal]:
    """Dollars by id, from the generator's own account."""
    found: dict[str, int] = {}
    for labels, pico in getattr(totals, by).items():
        found[labels[0]] = found.get(labels[0], 0) + pico
    return {id: Decimal(pico) / PICO for id, pico in found.items()}


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("zone", ZONES)
def test_a_report_equals_the_generators_account(spent: Spent, cli: Cli, by: str, zone: str) -> None:
    """Every line of a month, in three time zones, to the nano-dollar; and the total is the sum."""
    asked = time.time()
    first = spent.days_ago(1).date().replace(day=1)  # a month that has begun in every zone; in some it may be over
    following = (first + timedelta(days=31)).replace(day=1)
    status, out, err = cli(spent.dsn, "report", "--month", f"{first:%Y-%m}", "--by", by, "--timezone", zone, "--json")
    assert status == 0, err
    told = json.loads(out)
    end = midnight(following, ZoneInfo(zone))
    totals = spent.traffic.account.totals(midnight(first, ZoneInfo(zone)), end)
    dollars = {next(iter(line.values())): Decimal(line["spend_dollars"]) for line in told["lines"]}
    truth = expected(totals, by)
    if by == "tag":  # the account keeps no line for requests without tags
        dollars.pop("none")
    assert dollars.keys() == truth.keys()
    assert all(abs(dollars[id] - truth[id]) <= Decimal("1e-9") for id in truth)
    assert told["total"]["requests"] == totals.rows
    every = Decimal(sum(totals.model.values())) / PICO
    assert abs(Decimal(told["total"]["spend_dollars"]) - every) < Decimal("1e-6")
    assert told["total"]["failures"] == sum(n for (_, state), n in totals.requests.items() if state == "failure")
    tokens = {kind: sum(n for (_, k), n in totals.tokens.items() if k == kind) for kind in ("prompt", "completion")}
    assert told["total"]["prompt_tokens"] == tokens["prompt"]
    assert told["total"]["completion_tokens"] == tokens["completion"]
    assert told["month_is_over"] in {asked >= end, time.time() >= end}


def test_csv_and_top_keep_the_sum(spent: Spent, cli: Cli) -> None:
    """All lines of the CSV add up to the total of the JSON, and so does the short list with its rest."""
    asked = ("report", "--month", spent.month, "--by", "user")
    total = json.loads(cli(spent.dsn, *asked, "--json")[1])["total"]
    for more in ((), ("--top", "3")):
        status, out, err = cli(spent.dsn, *asked, "--csv", *more)
        rows = list(csv.DictReader(io.StringIO(out)))
        assert status == 0
        assert sum(Decimal(row["spend_dollars"]) for row in rows) == Decimal(total["spend_dollars"])
        assert sum(int(row["requests"]) for row in rows) == total["requests"]
        assert "the month is not over" in err or datetime.now(UTC).strftime("%Y-%m") != spent.month
    assert [row["user_id"] for row in rows][3:] == [f"others ({len(rows_of(spent, cli, asked)) - 3})"]


def rows_of(spent: Spent, cli: Cli, asked: tuple[str, ...]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(cli(spent.dsn, *asked, "--csv")[1])))


def test_a_report_says_where_the_log_begins(spent: Spent, cli: Cli) -> None:
    """A month whose beginning the log may lack has a note; one before it all has no line but the total."""
    oldest = datetime.fromtimestamp(spent.traffic.world.now / 1000 - 40 * 86400, UTC)
    status, out, _ = cli(spent.dsn, "report", "--month", f"{oldest:%Y-%m}", "--by", "team")
    assert status == 0
    assert "note: the log's oldest row is of" in out
    status, out, _ = cli(spent.dsn, "report", "--month", "2020-02", "--by", "team")
    assert status == 0
    assert out.splitlines()[2].split() == ["total", "0.00", "0", "0", "0", "0", "0"]


# --- reconcile


def test_rows_and_spend_columns_are_equal(spent: Spent, cli: Cli) -> None:
    """In a healthy database everybody whose cycle lies in the log agrees within a cent."""
    status, out, _ = cli(spent.dsn, "reconcile", "--json", "--patience", "0")
    told = json.loads(out)
    assert (status, told["equal"], told["differences"]) == (0, True, [])
    assert told["compared"]["user"] > 20
    assert {"key", "team", "member", "customer"} <= told["compared"].keys()


def test_a_difference_is_found_and_the_largest_comes_first(litellm_database: MakeDatabase, cli: Cli) -> None:
    """A spend column that was changed, and rows that were lost, are told with their amounts; status 1."""
    dsn = litellm_database()
    with Traffic(dsn, seed=3) as traffic:
        traffic.populate()
        traffic.history(3000, 20)
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert cli(dsn, "reconcile", "--patience", "0")[0] == 0
        told = json.loads(cli(dsn, "reconcile", "--json", "--patience", "0")[1])
        users = 'SELECT user_id FROM "LiteLLM_UserTable" WHERE budget_duration IS NULL ORDER BY user_id LIMIT 2'
        first, second = (row[0] for row in connection.execute(users))
        for user, more in ((first, 5), (second, -40)):
            connection.execute('UPDATE "LiteLLM_UserTable" SET spend = spend + %s WHERE user_id = %s', (more, user))
    status, out, _ = cli(dsn, "reconcile", "--json", "--patience", "0")
    found = json.loads(out)
    assert status == 1
    assert [(line["entity_id"], line["difference"]) for line in found["differences"]] == [(second, "-40"), (first, "5")]
    assert found["compared"] == told["compared"]
    status, out, _ = cli(dsn, "reconcile", "--patience", "0.1", "--top", "1")
    assert status == 1
    assert "2 of" in out
    assert "and 1 more" in out


def test_nobody_to_compare_is_no_answer(litellm_database: MakeDatabase, cli: Cli) -> None:
    """Entities without a row in the log prove nothing: status 3."""
    dsn = litellm_database()
    with Traffic(dsn) as traffic:
        traffic.populate()
    status, out, _ = cli(dsn, "reconcile", "--patience", "0")
    assert status == 3
    assert "nobody could be compared" in out


# --- check


def test_check_of_a_healthy_database(spent: Spent, cli: Cli) -> None:
    """Server, era, role and newest row are told; what an old schema lacks is named, and is no fault."""
    status, out, _ = cli(spent.dsn, "check", "--json", "--max-age", "0")
    told = json.loads(out)
    assert (status, told["fine"], told["problems"]) == (0, True, [])
    assert told["server_version"].startswith("18")
    baseline = "baseline" in spent.dsn
    assert told["schema_era"] == ("2025-03" if baseline else "2026-09")
    assert any("soft_budget" in line for line in told["schema_missing"]) is baseline
    assert told["superuser"] is True
    assert told["newest_row"]
    assert abs(told["clock_difference_seconds"]) < 60  # of one machine: what its being busy takes


def test_check_finds_a_silent_log(litellm_database: MakeDatabase, cli: Cli) -> None:
    """No row, or no recent one, is wrong unless any age will do."""
    dsn = litellm_database()
    status, out, _ = cli(dsn, "check")
    assert status == 1
    assert "the spend log has no row" in out
    with Traffic(dsn, now=time.time() - 7200) as traffic:
        traffic.populate()
        traffic.history(100, 1)
    status, out, _ = cli(dsn, "check")
    assert status == 1
    assert "no new row for" in out
    assert cli(dsn, "check", "--max-age", "1d")[0] == 0


def test_check_names_what_a_role_may_not_read(litellm_database: MakeDatabase, cli: Cli) -> None:
    """A grant that is missing is told with the statement that mends it; the other commands point here."""
    dsn = litellm_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE half LOGIN")
        try:
            connection.execute('GRANT SELECT ON "LiteLLM_UserTable", "LiteLLM_TeamTable" TO half')
            status, out, _ = cli(dsn.replace("postgres@", "half@"), "check", "--json")
            told = json.loads(out)
            assert status == 1
            assert told["read_only_role"] is True
            assert "LiteLLM_SpendLogs" in told["unreadable"]
            assert any("LiteLLM_SpendLogs" in problem and "grant" in problem for problem in told["problems"])
            status, _, err = cli(dsn.replace("postgres@", "half@"), "report", "--month", "2026-01", "--by", "team")
            assert status == 3
            assert "tallykeep litellm check says more" in err
        finally:
            connection.execute("DROP OWNED BY half")
            connection.execute("DROP ROLE half")


def test_check_tells_what_is_kept(litellm_database: MakeDatabase, cli: Cli, tmp_path: Path) -> None:
    """The ledger's reach is told, while it is open elsewhere too; one that does not read is wrong."""
    dsn = litellm_database()
    path = tmp_path / "state" / "litellm" / "default.sqlite"
    path.parent.mkdir(parents=True)
    ledger = Ledger(path)
    ledger.commit([Block(0, 86400, {}, {}), Block(86400, 86460, {}, {})])
    kept = json.loads(cli(dsn, "check", "--json")[1])["ledger"]
    assert (kept["blocks"], kept["sealed_until"]) == (2, "1970-01-02T00:00:00.000Z")
    ledger.close()
    path.write_bytes(b"not SQLite at all" * 100)
    status, out, _ = cli(dsn, "check", "--max-age", "0")
    assert status == 1
    assert "does not read" in out


# --- settings and usage


@pytest.mark.parametrize("command", [("check",), ("reconcile",), ("report", "--month", "2026-01", "--by", "key")])
def test_an_unreachable_database_is_status_3(cli: Cli, command: tuple[str, ...]) -> None:
    """One clear line, without the password."""
    port = free_port()
    status, out, err = cli(f"postgresql://u:hunter2@127.0.0.1:{port}/litellm", *command)
    assert status == 3
    assert f"127.0.0.1:{port}/litellm" in out + err
    assert "hunter2" not in out + err


def test_one_of_several_databases(spent: Spent, cli: Cli, tmp_path: Path) -> None:
    """--database chooses; without it the names are told."""
    config = tmp_path / "tallykeep.yaml"
    config.write_text(
        f"litellm:\n  databases:\n    - {{name: eu, url: '{spent.dsn}'}}\n    - {{name: us, url: '{spent.dsn}x'}}\n"
    )
    status, _, err = cli("", "check", "--config", config)
    assert status == 2
    assert "eu, us" in err
    assert cli("", "check", "--config", config, "--database", "eu", "--max-age", "0")[0] == 0
    status, out, _ = cli("", "check", "--config", config, "--database", "us")
    assert status == 3
    assert "check the name of the database" in out
    status, _, err = cli("", "check", "--config", config, "--database", "asia")
    assert status == 2
    assert "there is no database 'asia'" in err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--month", "2026-13", "--by", "team"], "is not a month"),
        (["--month", "2999-01", "--by", "team"], "has not begun yet"),
        (["--month", "2026-01", "--by", "teem"], "did you mean"),
        (["--month", "2026-01"], "--by"),
        (["--month", "2026-01", "--by", "team", "--timezone", "Mars/Base"], "no time zone 'Mars/Base'"),
        (["--month", "2026-01", "--by", "team", "--csv", "--json"], "exclude one another"),
        (["--month", "2026-01", "--by", "team", "--top", "0"], "not a number from 1 on"),
    ],
)
def test_wrong_usage_is_one_clear_message(cli: Cli, args: list[str], said: str) -> None:
    """Status 2 and the word that is wrong, before any database is looked for."""
    status, _, err = cli("postgresql://u@127.0.0.1:1/x", "report", *args)
    assert status == 2
    assert said in err
