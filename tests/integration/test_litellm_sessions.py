"""Sessions with a real PostgreSQL: what a role needs, what a session leaves behind, TLS, other schemas."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import trustme
from tests.contract.test_contract_litellm import whole
from tests.support.accepting import accepting
from tests.support.litellm import LitellmWatch, Tables, reading
from tests.support.postgres import MakeDatabase

from tallykeep.config.model import Secret
from tallykeep.demo.postgres import PostgresServer
from tallykeep.errors import Unreachable
from tallykeep.systems.litellm.address import address_of
from tallykeep.systems.litellm.database import Cancelled, Database, Limits, Ungranted
from tallykeep.systems.litellm.opening import connected
from tallykeep.systems.litellm.settings import DatabaseSettings, LitellmSettings

pytestmark = pytest.mark.server
ROLE = Path(__file__).parents[2] / "deploy" / "litellm" / "role.sql"


def database_at(url: str, **limits: float) -> Database:
    address = address_of(DatabaseSettings(url=Secret(url)))
    return Database("default", address.conninfo, address.shown, Limits(**limits), address.schema)  # type: ignore[arg-type]


@pytest.fixture
def as_role(postgres: PostgresServer) -> Iterator[Callable[[str], str]]:
    """Runs role.sql in a database; the URL of that role."""
    urls = []

    def make(url: str) -> str:
        with Tables(url) as tables:
            tables.run(ROLE.read_text())
        urls.append(url)
        return postgres.dsn(user="tallykeep", dbname=url.rpartition("/")[2])

    yield make
    for url in urls:
        with Tables(url) as tables:
            tables.run("DROP OWNED BY tallykeep")
            tables.run("DROP ROLE tallykeep")


def figures(page: bytes) -> set[str]:
    """The lines of a page that do not change by the second."""
    moving = re.compile("litellm_(newest|key_(hash_)?expiry|budget_reset|checked_until|check_rounds|current|parallel)")
    return {
        line for line in page.decode().splitlines() if line.startswith("litellm_") and not moving.match(line)
    }  # fmt: skip


async def whole_page(watch: LitellmWatch) -> bytes:
    """The page once a reconciliation is through as well, which takes as many collections as the machine is slow."""
    await watch.works()
    await watch.until(lambda: watch.series("litellm_reconciled_entities"), "the first reconciliation")
    return watch.page()


@pytest.mark.parametrize("until", [None, "baseline"])
async def test_the_documented_role_is_enough(
    litellm_database: MakeDatabase, as_role: Callable[[str], str], tmp_path: Path, until: str | None
) -> None:
    """With exactly the grants of role.sql the page is that of the superuser, and no gap is due to the role."""
    url = litellm_database(until)
    whole(url)
    async with LitellmWatch(reading(url), tmp_path / "super") as watch:
        everything = figures(await whole_page(watch))
    async with LitellmWatch(reading(as_role(url)), tmp_path / "role") as watch:
        page = await whole_page(watch)
        assert figures(page) == everything
        assert 'reason="refused"' not in page.decode()


async def test_the_documented_role_can_do_nothing_else(
    litellm_database: MakeDatabase, as_role: Callable[[str], str]
) -> None:
    """It reads neither prompts nor passwords, and writes nothing."""
    with psycopg.connect(as_role(litellm_database()), autocommit=True) as connection:
        for statement in (
            'SELECT messages FROM "LiteLLM_SpendLogs"',
            'SELECT * FROM "LiteLLM_SpendLogs"',
            'SELECT password FROM "LiteLLM_UserTable"',
            'SELECT user_email FROM "LiteLLM_UserTable"',
            'SELECT * FROM "LiteLLM_CredentialsTable"',
            'DELETE FROM "LiteLLM_SpendLogs"',
            'UPDATE "LiteLLM_VerificationToken" SET spend = 0',
            "CREATE TABLE mine (a int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


async def test_a_session_can_change_nothing(litellm_database: MakeDatabase) -> None:
    """Also as superuser: the transaction is read-only, in UTC, with its limits and a name."""
    database = database_at(litellm_database(), statement_timeout=7, lock_timeout=3)
    async with database.session() as session:
        shown = [
            (await session.rows(f"SELECT current_setting('{name}')"))[0][0]
            for name in (
                "transaction_read_only", "TimeZone", "statement_timeout", "lock_timeout", "application_name",
                "transaction_isolation",
            )
        ]  # fmt: skip
        assert shown == ["on", "UTC", "7s", "3s", "tallykeep", "repeatable read"]
    with pytest.raises(Exception, match="read-only transaction"):
        async with database.session() as session:
            await session.rows('DELETE FROM "LiteLLM_SpendLogs"')
    await database.close()


async def test_a_session_leaves_nothing_behind(litellm_database: MakeDatabase) -> None:
    """Behind a pooler the connection is another client's next: nothing was set for the session, nothing prepared."""
    database = database_at(litellm_database(), connections_min=1, connections_max=1)
    for _ in range(12):
        async with database.session() as session:
            await session.rows("SELECT count(*) FROM pg_class WHERE relname = %s", ("x",))
    pool = database._pool
    assert pool is not None
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT (SELECT count(*) FROM pg_prepared_statements), current_setting('statement_timeout'), "
            "current_setting('TimeZone'), current_setting('default_transaction_read_only')"
        )
        assert await cursor.fetchone() == (0, "0", "UTC", "off")
    await database.close()


async def test_a_statement_that_takes_too_long(litellm_database: MakeDatabase) -> None:
    """It is given up by the server, and the next session works."""
    database = database_at(litellm_database(), statement_timeout=1)
    with pytest.raises(Cancelled, match="statement timeout"):
        async with database.session() as session:
            await session.rows("SELECT pg_sleep(60)")
    async with database.session() as session:
        assert await session.rows("SELECT 1") == [(1,)]
    await database.close()


async def test_another_schema_by_url_or_setting(litellm_database: MakeDatabase) -> None:
    """Tables in a schema of their own are found by `?schema=`, as Prisma writes it, and by the setting."""
    url = litellm_database()
    with Tables(url) as tables:
        tables.run("ALTER SCHEMA public RENAME TO llm")
    prisma = f"{url}?schema=llm&connection_limit=10&pool_timeout=60&pgbouncer=true"
    settings = LitellmSettings()
    for one in (DatabaseSettings(url=Secret(prisma)), DatabaseSettings(url=Secret(url), schema="llm")):
        database = connected(one, settings)
        assert not (await database.schema()).lacking()
        await database.close()
    database = connected(DatabaseSettings(url=Secret(url)), settings)
    assert (await database.schema()).lacking()
    await database.close()


async def test_a_table_that_may_not_be_read(litellm_database: MakeDatabase, postgres: PostgresServer) -> None:
    """A table that may not be read is a refusal that says what to grant."""
    url = litellm_database()
    name = url.rpartition("/")[2]
    with Tables(url) as tables:
        tables.run(f"CREATE ROLE nobody_{name} LOGIN")
        try:
            database = database_at(postgres.dsn(user=f"nobody_{name}", dbname=name))
            with pytest.raises(Ungranted, match="grant the role SELECT"):
                async with database.session() as session:
                    await session.rows('SELECT 1 FROM "LiteLLM_SpendLogs"')
            await database.close()
        finally:
            tables.run(f"DROP ROLE nobody_{name}")


async def test_nobody_there() -> None:
    """Nobody there: unreachable at once, without the password in the message."""
    database = database_at("postgresql://postgres:hush@127.0.0.1:1/litellm")
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1/litellm.*check host, port") as caught:
        async with database.session():
            pass
    assert "hush" not in str(caught.value)


# --- TLS: the server at hand is built without it, so something in front of it answers as a server with TLS does


@asynccontextmanager
async def in_front_of(server: PostgresServer, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A port on 127.0.0.1 that takes the client's SSLRequest, speaks TLS, and passes everything on."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        try:
            await writer.start_tls(context)
        except (ssl.SSLError, OSError):  # the client did not like the certificate
            return
        inner, outer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            await asyncio.gather(_pass_on(reader, outer), _pass_on(inner, writer))
        finally:
            outer.transport.abort()

    async with accepting(serve) as (_, port):
        yield port


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError, ssl.SSLError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()


async def test_tls_checks_certificate_and_name(postgres: PostgresServer, tmp_path: Path) -> None:
    """verify-full takes a certificate of that authority for that name, and none of another authority or name."""
    ca, other = tmp_path / "ca.pem", tmp_path / "other.pem"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca))
    trustme.CA().cert_pem.write_to_path(str(other))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)

    async def answers(host: str, port: int, root: Path) -> bool:
        one = DatabaseSettings(host=host, port=port, dbname="postgres", sslmode="verify-full", sslrootcert=root)
        database = connected(one, LitellmSettings())
        try:
            async with database.session() as session:
                return await session.rows("SELECT 1") == [(1,)]
        finally:
            await database.close()

    async with in_front_of(postgres, context) as port:
        assert await answers("localhost", port, ca)
        with pytest.raises(Unreachable, match=r"certificate.*LITELLM_DB_SSLMODE"):
            await answers("localhost", port, other)
        with pytest.raises(Unreachable, match=r"certificate.*LITELLM_DB_SSLMODE"):
            await answers("127.0.0.1", port, ca)


async def test_tls_that_is_required_and_not_offered(postgres: PostgresServer) -> None:
    """A server without TLS is not spoken to where it is required."""
    one = DatabaseSettings(host="127.0.0.1", port=postgres.port, dbname="postgres", sslmode="require")
    database = connected(one, LitellmSettings())
    with pytest.raises(Unreachable, match="SSL"):
        async with database.session():
            pass
