"""What a real Prometheus and its promtool make of our pages and rules."""

from __future__ import annotations

import asyncio
from pathlib import Path

import bcrypt
import pytest
import trustme
from tests.support.listening import AGE, WORLD, World, listening, looked
from tests.support.prometheus import PrometheusServer, need_prometheus, promtool

from tallykeep.exposition.page import Format, Renderer
from tallykeep.exposition.rules import alert_rules
from tallykeep.metrics import Catalogue, Kind
from tallykeep.runtime import families
from tallykeep.web import families as web_families
from tallykeep.web.live import LiveWebConfig

pytestmark = pytest.mark.server

RULES = alert_rules({"tallykeep": (*families.FAMILIES, *web_families.FAMILIES), "world": WORLD})


def test_promtool_accepts_a_page() -> None:
    """`promtool check metrics` has nothing to say of the text page of a world with every kind of family."""
    need_prometheus()
    world = World()
    world.publish(*looked(), AGE(0.0))
    page = Renderer(Catalogue(WORLD)).render(world.board.snapshots(), Format.TEXT, 10.0).data
    said = promtool("check", "metrics", stdin=page)
    assert (said.returncode, said.stdout) == (0, b"")


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    """`promtool check rules` accepts the generated rule file."""
    need_prometheus()
    path = tmp_path / "rules.yml"
    path.write_text(RULES)
    said = promtool("check", "rules", str(path))
    assert said.returncode == 0, said.stdout.decode()
    assert b"rules found" in said.stdout


async def test_prometheus_scrapes_every_family_and_alerts(tmp_path: Path) -> None:
    """Each family answers a query; an alert on a verdict fires when its collector falls silent, and not before."""
    world = World()
    world.publish(*looked(), AGE(world.clock.time() - 100))
    async with listening(world) as listener:
        server = PrometheusServer(tmp_path, [f"127.0.0.1:{listener.port}"], RULES)
        await asyncio.to_thread(server.start)
        try:
            for family in WORLD:
                name = f"{family.name}_bucket" if family.kind is Kind.HISTOGRAM else family.name
                assert await asyncio.to_thread(server.there, name), family.name
            [restorable] = await asyncio.to_thread(server.there, "replica_verdict == 1")
            assert restorable["metric"]["replica_verdict"] == "restorable"
            assert await asyncio.to_thread(server.alerts) == {}
            world.board.fail("fake", "main")
            await asyncio.to_thread(
                server.wait_for, lambda: "ReplicaNotRestorable" in server.alerts(), "the alert on an unknown verdict"
            )
            assert await asyncio.to_thread(server.query, "replica_size_bytes") == []
        finally:
            await asyncio.to_thread(server.stop)


async def test_prometheus_scrapes_over_tls_with_a_password(tmp_path: Path) -> None:
    """A Prometheus configured for an exporter with web.config.yml scrapes us without a change."""
    need_prometheus()
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    (tmp_path / "server.crt").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(tmp_path / "server.key")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).replace(b"$2b$", b"$2y$").decode()
    (tmp_path / "web.config.yml").write_text(
        f"tls_server_config: {{cert_file: server.crt, key_file: server.key}}\nbasic_auth_users: {{joe: {hashed}}}\n"
    )
    world = World()
    world.publish(*looked())
    web = LiveWebConfig(tmp_path / "web.config.yml", world.book, world.clock)
    scrape = {
        "scheme": "https",
        "tls_config": {"ca_file": str(tmp_path / "ca.crt")},
        "basic_auth": {"username": "joe", "password": "secret"},
    }
    async with listening(world, web) as listener:
        server = PrometheusServer(tmp_path / "prometheus", [f"127.0.0.1:{listener.port}"], scrape=scrape)
        await asyncio.to_thread(server.start)
        try:
            assert await asyncio.to_thread(server.there, "replica_size_bytes")
        finally:
            await asyncio.to_thread(server.stop)
