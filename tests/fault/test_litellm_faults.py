"""LiteLLM's database in trouble: the right error metric, nothing wrong shown meanwhile, recovery without a restart."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import psycopg
import pytest
from tests.support.litellm import LitellmWatch, Tables, reading
from tests.support.postgres import MakeDatabase

from tallykeep.demo import litellm_schema
from tallykeep.demo.postgres import PostgresServer
from tallykeep.systems.litellm import collector

pytestmark = pytest.mark.server


def some_rows(url: str) -> None:
    """Three requests within the last two hours, 1.50 dollars, and who made them."""
    now = time.time()
    with Tables(url) as tables:
        tables.budget("b", max_budget=10.0)
        tables.organization("acme", "b")
        tables.team("t", team_alias="search", organization_id="acme", max_budget=5.0, spend=1.5)
        tables.key("k", key_alias="bot", team_id="t")
        for age in (7200, 1200, 30):
            tables.request(now - age, api_key="k", team_id="t")


def spend(watch: LitellmWatch) -> float | None:
    return watch.value("litellm_org_spend", organization_id="acme")


async def test_down_at_start_and_later(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """A server that is away at the start, and later: unreachable, no figures; they are back when it is."""
    url = own_postgres.create_database("litellm")
    litellm_schema.migrate(url)
    some_rows(url)
    own_postgres.stop()
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.fails("unreachable")
        own_postgres.start()
        await watch.works()
        assert spend(watch) == 1.5
        own_postgres.kill()
        await watch.fails("unreachable")
        own_postgres.start()
        await watch.works()
        assert spend(watch) == 1.5


async def test_frozen(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """A server that hangs: the collection times out, and later ones do not pile up; it thaws and all is well."""
    url = own_postgres.create_database("litellm")
    litellm_schema.migrate(url)
    some_rows(url)
    async with LitellmWatch(reading(url, timeout=1.0), tmp_path) as watch:
        await watch.works()
        own_postgres.freeze()
        await watch.fails("timeout")
        await watch.fails("timeout")
        own_postgres.thaw()
        await watch.works()
        assert spend(watch) == 1.5


async def test_connections_cut(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """Sessions that an administrator ends, again and again: a failure at most, and the figures are right after it."""
    url = litellm_database()
    some_rows(url)
    async with LitellmWatch(reading(url, interval=0.05), tmp_path) as watch:
        await watch.works()
        with psycopg.connect(url, autocommit=True) as other:
            for _ in range(60):
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'tallykeep' AND datname = current_database()"
                )
                await asyncio.sleep(0.02)
                assert spend(watch) in (None, 1.5)
        await watch.works()
        assert spend(watch) == 1.5
        assert not watch.failures("internal")


async def test_locked_table(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """A migration that holds the spend log: the statement is given up after lock_timeout, code cancelled."""
    url = litellm_database()
    some_rows(url)
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.works()
        with psycopg.connect(url) as other:
            other.execute('LOCK TABLE "LiteLLM_SpendLogs" IN ACCESS EXCLUSIVE MODE')
            await watch.fails("cancelled")
            other.rollback()
        await watch.works()
        assert spend(watch) == 1.5


async def test_slow_statement(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """A statement that takes longer than statement_timeout is cancelled, and said to be."""
    url = litellm_database()
    some_rows(url)
    with Tables(url) as tables:
        tables.run('ALTER TABLE "LiteLLM_TeamTable" RENAME TO "Teams"')
        tables.run('CREATE VIEW "LiteLLM_TeamTable" AS SELECT t.* FROM "Teams" t WHERE pg_sleep(3) IS NOT NULL')
        async with LitellmWatch(reading(url, statement_timeout=1.0), tmp_path) as watch:
            await watch.fails("cancelled")
            tables.run('DROP VIEW "LiteLLM_TeamTable"')
            tables.run('ALTER TABLE "Teams" RENAME TO "LiteLLM_TeamTable"')
            await watch.works()
            assert spend(watch) == 1.5


@pytest.mark.parametrize("table", ["LiteLLM_SpendLogs", "LiteLLM_TeamTable", "LiteLLM_VerificationToken"])
async def test_missing_table(litellm_database: MakeDatabase, tmp_path: Path, table: str) -> None:
    """Without the spend log, or a table its labels need, nothing is shown: code schema; it is back with the table."""
    url = litellm_database()
    some_rows(url)
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.works()
        with Tables(url) as tables:
            tables.run(f'ALTER TABLE "{table}" RENAME TO hidden')
            await watch.fails("schema")
            tables.run(f'ALTER TABLE hidden RENAME TO "{table}"')
            await watch.works()
        assert spend(watch) == 1.5


async def test_missing_table_of_lesser_weight(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """Without the budgets their figures go and are named; everything else goes on."""
    url = litellm_database()
    some_rows(url)
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.works()
        assert watch.value("litellm_max_budget", entity_type="organization") == 10.0
        with Tables(url) as tables:
            tables.run('ALTER TABLE "LiteLLM_BudgetTable" RENAME TO hidden')
            await watch.until(
                lambda: watch.value("litellm_schema_missing", what="LiteLLM_BudgetTable", reason="absent") == 1,
                "the gap is named",
            )
        assert watch.up
        assert watch.value("litellm_max_budget", entity_type="organization") is None
        assert watch.value("litellm_max_budget", entity_type="team") == 5.0
        assert spend(watch) == 1.5


async def test_revoked_grants(postgres: PostgresServer, litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """A grant that is revoked: refused where figures would be wrong, named where only some are missing; it comes
    back with the grant."""
    url = litellm_database()
    some_rows(url)
    name = url.rpartition("/")[2]
    role = f"reader_{name}"
    with Tables(url) as tables:
        tables.run(f"CREATE ROLE {role} LOGIN")
        try:
            tables.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
            async with LitellmWatch(reading(postgres.dsn(user=role, dbname=name)), tmp_path) as watch:
                await watch.works()
                tables.run(f'REVOKE SELECT ON "LiteLLM_SpendLogs" FROM {role}')
                await watch.fails("refused")
                tables.run(f'GRANT SELECT ON "LiteLLM_SpendLogs" TO {role}')
                await watch.works()
                assert spend(watch) == 1.5
                tables.run(f'REVOKE SELECT ON "LiteLLM_EndUserTable" FROM {role}')
                gap = {"what": "LiteLLM_EndUserTable", "reason": "refused"}
                await watch.until(lambda: watch.value("litellm_schema_missing", **gap) == 1, "the gap is named")
                assert watch.up
                assert spend(watch) == 1.5
        finally:
            tables.run(f"DROP OWNED BY {role}")
            tables.run(f"DROP ROLE {role}")


async def test_schema_migrated_while_running(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """A column that goes is done without at once; one that comes is noticed."""
    url = litellm_database()
    some_rows(url)
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.works()
        with Tables(url) as tables:
            tables.run('ALTER TABLE "LiteLLM_SpendLogs" RENAME COLUMN status TO state')
            gap = {"what": "LiteLLM_SpendLogs.status", "reason": "absent"}
            await watch.until(lambda: watch.value("litellm_schema_missing", **gap) == 1, "the gap is named")
            assert spend(watch) == 1.5
            assert not watch.failures("schema")


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        ({"password": "guess"}, "refused", "password authentication failed.*check user, password and pg_hba.conf"),
        ({"dbname": "nowhere"}, "refused", '"nowhere" does not exist; check the name of the database'),
        ({"user": "nobody"}, "refused", "check user"),
        ({}, "schema", '"LiteLLM_SpendLogs" is not there.*check the name of the database, its schema'),
    ],
)
async def test_settings_that_lead_elsewhere(
    own_postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: dict[str, str], code: str,
    said: str,
) -> None:  # fmt: skip
    """A wrong password, user or database, and one that is not LiteLLM's: its code, one clear line, and no secret."""
    async with LitellmWatch(reading(own_postgres.dsn(**wrong), connect_timeout=30.0), tmp_path) as watch:
        await watch.fails(code)
        await watch.fails(code)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == 1
    assert re.search(said, lines[0])
    assert "guess" not in caplog.text and "secret" not in caplog.text


async def test_unreachable_host(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody there is no reason to end: unreachable, one line that says which settings to check."""
    async with LitellmWatch(
        reading("postgresql://u:hush@127.0.0.1:1/litellm", connect_timeout=30.0), tmp_path
    ) as watch:
        await watch.fails("unreachable")
        await watch.fails("unreachable")
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "check host, port and network" in line
    assert "127.0.0.1:1/litellm" in line and "hush" not in line


async def test_a_column_that_comes_is_noticed(
    litellm_database: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration that adds a column breaks no statement; the schema is probed now and then, and it is used."""
    monkeypatch.setattr(collector, "PROBE_EVERY", 0.5)
    url = litellm_database()
    some_rows(url)
    with Tables(url) as tables:
        tables.run('ALTER TABLE "LiteLLM_TeamTable" RENAME COLUMN max_budget TO later')
        async with LitellmWatch(reading(url), tmp_path) as watch:
            await watch.works()
            assert watch.value("litellm_max_budget", entity_type="team") is None
            tables.run('ALTER TABLE "LiteLLM_TeamTable" RENAME COLUMN later TO max_budget')
            await watch.until(
                lambda: watch.value("litellm_max_budget", entity_type="team") == 5.0, "the column is seen"
            )
            assert not watch.failures("schema")
