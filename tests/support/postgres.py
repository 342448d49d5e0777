"""A real PostgreSQL with LiteLLM's real schema, as fixtures. Each xdist worker has its own server.

A database costs a copy of a migrated template (about 0.1 s), not 200 migrations (several seconds).
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.servers import need

from tallykeep.demo import litellm_schema
from tallykeep.demo.postgres import MISSING, PostgresServer, program

_numbers = itertools.count(1)
MakeDatabase = Callable[..., str]  # (until=None) -> URL


@contextmanager
def server_folder() -> Iterator[Path]:
    """A folder that the server's unprivileged user can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="tallykeep-postgres-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server for many tests. A test that freezes or stops it takes `own_postgres` instead."""
    need(str(program("postgres")), MISSING)
    with server_folder() as folder, PostgresServer(folder, fast=True) as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A running server of this test alone, with a password, to be frozen, killed and started again."""
    need(str(program("postgres")), MISSING)
    with server_folder() as folder, PostgresServer(folder, fast=True, password="secret") as server:
        yield server


@pytest.fixture(scope="session")
def litellm_template(postgres: PostgresServer) -> Callable[[str | None], str]:
    """The name of a migrated, empty database for a schema (None: the newest), made when it is first asked for."""
    made: dict[str | None, str] = {}

    def template(until: str | None) -> str:
        if until not in made:
            name = f"template_litellm_{until or 'newest'}"
            litellm_schema.migrate(postgres.create_database(name), until)
            made[until] = name
        return made[until]

    return template


@pytest.fixture
def litellm_database(postgres: PostgresServer, litellm_template: Callable[[str | None], str]) -> Iterator[MakeDatabase]:
    """Makes fresh databases with LiteLLM's schema: `litellm_database()` or `litellm_database(until="baseline")`."""
    names: list[str] = []

    def make(until: str | None = None) -> str:
        name = f"litellm_{next(_numbers)}"
        names.append(name)
        return postgres.create_database(name, litellm_template(until))

    yield make
    for name in names:
        postgres.drop_database(name)
