"""The PostgreSQL and the LiteLLM schema that demo and tests stand on."""

from __future__ import annotations

from contextlib import suppress

import psutil
import psycopg
import pytest
from tests.support.postgres import MakeDatabase

from tallykeep.demo import litellm_schema
from tallykeep.demo.postgres import PostgresServer
from tallykeep.errors import ConfigError, Unreachable

pytestmark = pytest.mark.server


def _count(dsn: str, query: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_migrations_make_the_newest_and_the_baseline_schema(litellm_database: MakeDatabase) -> None:
    """The newest schema has LiteLLM's column organization_id of the spend logs, that of March 2025 has not."""
    query = """SELECT count(*) FROM information_schema.columns
               WHERE table_name = 'LiteLLM_SpendLogs' AND column_name = 'organization_id'"""
    assert _count(litellm_database(), query) == 1
    assert _count(litellm_database(until=litellm_schema.BASELINE), query) == 0


def test_an_unknown_migration_is_a_clear_error() -> None:
    """A migration that does not exist is refused by name."""
    with pytest.raises(ConfigError, match="no migration 'tomorrow'"):
        litellm_schema.migrations("tomorrow")


def test_committed_rows_outlive_a_kill(own_postgres: PostgresServer) -> None:
    """After kill -9 the server comes back on the same port with what was committed."""
    dsn = own_postgres.create_database("kept")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT 7 AS n")
        backend = connection.info.backend_pid
        own_postgres.kill()
    with suppress(psutil.NoSuchProcess):
        assert psutil.Process(backend).status() == psutil.STATUS_ZOMBIE
    own_postgres.start()
    assert _count(dsn, "SELECT n FROM t") == 7


def test_a_start_that_fails_changes_no_port(own_postgres: PostgresServer) -> None:
    """Whoever knows a server by its port finds it there, also when it first could not start."""
    port, config = own_postgres.port, own_postgres.data / "postgresql.conf"
    own_postgres.stop()
    right = config.read_text()
    config.write_text("nonsense = 1\n")
    with pytest.raises(Unreachable, match="nonsense"):
        own_postgres.start()
    config.write_text(right)
    own_postgres.start()
    assert own_postgres.port == port


def test_a_frozen_server_answers_after_the_thaw(own_postgres: PostgresServer) -> None:
    """Frozen, backends answer nothing; thawed, the query that hung gets its answer."""
    with psycopg.connect(own_postgres.dsn(), autocommit=True) as connection:
        own_postgres.freeze()
        connection.pgconn.send_query(b"SELECT 1")
        connection.pgconn.flush()
        connection.pgconn.consume_input()
        assert connection.pgconn.is_busy()
        own_postgres.thaw()
        result = connection.pgconn.get_result()
        assert result is not None
        assert result.get_value(0, 0) == b"1"
        assert connection.pgconn.get_result() is None


def test_a_wrong_password_is_refused(own_postgres: PostgresServer) -> None:
    """With a password, another does not log in."""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(own_postgres.dsn(password="wrong"))
