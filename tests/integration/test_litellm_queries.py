"""Every query of the LiteLLM guide, asked of a real Prometheus that scrapes tallykeep on a real database."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.support.documents import ROOT, Block, blocks
from tests.support.postgres import server_folder
from tests.support.prometheus import PrometheusServer, need_prometheus
from tests.support.servers import need

from tallykeep.demo import litellm_schema
from tallykeep.demo.litellm_traffic import Mix, Traffic
from tallykeep.demo.page import get
from tallykeep.demo.postgres import MISSING, PostgresServer, program
from tallykeep.runtime.processes import ManagedProcess, free_port
from tallykeep.systems.litellm.families import FAMILIES

pytestmark = pytest.mark.server

GUIDE = ROOT / "docs/guide/litellm.md"
QUERIES = list(blocks(GUIDE, "promql"))


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """It scrapes tallykeep every second while the traffic goes on; tallykeep reads as the documented role."""
    need_prometheus()
    need(str(program("postgres")), MISSING)
    folder = tmp_path_factory.mktemp("queries")
    stop = threading.Event()
    with server_folder() as place, PostgresServer(place, fast=True) as postgres:
        dsn = postgres.create_database("litellm")
        litellm_schema.migrate(dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute((ROOT / "deploy/litellm/role.sql").read_text().encode())
        with Traffic(dsn, now=time.time() - 1) as traffic:
            traffic.populate()
            traffic.history(30_000, 10)
            live = threading.Thread(target=traffic.run, args=(20, stop, Mix(latest=1200)))
            live.start()
            try:
                with (
                    watching(folder, postgres) as port,
                    PrometheusServer(folder / "p", [f"127.0.0.1:{port}"]) as server,
                ):
                    assert server.there("litellm_reconciled_entities"), "the first reconciliation"
                    yield server
            finally:
                stop.set()
                live.join()


def watching(folder: Path, postgres: PostgresServer) -> Tallykeep:
    """tallykeep on that database, as the role of deploy/litellm/role.sql."""
    return Tallykeep(folder, postgres.dsn("tallykeep", "litellm"))


class Tallykeep:
    """The program itself."""

    def __init__(self, folder: Path, url: str) -> None:
        self.port = free_port()
        environment = {
            "METRICS_PORT": str(self.port), "METRICS_UPDATE_INTERVAL": "1", "LITELLM_DATABASE_URL": url,
            "TALLYKEEP_STATE_DIR": str(folder / "state"), "TALLYKEEP_METRICS_HOST": "127.0.0.1",
        }  # fmt: skip
        self._process = ManagedProcess(
            ["tallykeep", "run", "litellm"], env=environment, cwd=folder, log=folder / "tallykeep.log"
        )

    def __enter__(self) -> int:
        self._process.start()
        self._process.wait_ready(lambda: get(self.port, "/healthz") is not None, 60)
        return self.port

    def __exit__(self, *_: object) -> None:
        self._process.stop()


@pytest.mark.parametrize("query", QUERIES, ids=lambda block: block.text.strip()[:60])
def test_every_query_of_the_guide_answers(prometheus: PrometheusServer, query: Block) -> None:
    """Prometheus understands it, and it has a result; rates need two scrapes with traffic between them."""
    assert prometheus.there(query.text), query.where


def test_there_is_a_query_for_every_family() -> None:
    """Each family of the catalogue stands in a query, or at least in the text of the guide."""
    page = GUIDE.read_text()
    missing = [family.name for family in FAMILIES if not re.search(rf"\b{family.name}(_bucket)?\b", page)]
    assert not missing


def test_rate_is_asked_of_counters_only() -> None:
    """No query rates a window: every name inside rate() and increase() is a counter's or a histogram's."""
    for query in QUERIES:
        for name in re.findall(r"(?:rate|increase)\((\w+)", query.text):
            assert name.endswith(("_total", "_bucket", "_sum", "_count")), query.where


def test_every_family_that_the_guide_names_exists() -> None:
    """A family in backquotes is one of the catalogue."""
    named = set(re.findall(r"`(litellm_[a-z_]+)(?:\{[^`]*)?`", GUIDE.read_text()))
    assert named <= {family.name for family in FAMILIES}
