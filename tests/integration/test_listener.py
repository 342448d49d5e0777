"""The metrics listener, asked over real connections."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import zstandard
from tests.support.clock import FakeClock
from tests.support.listening import AGE, SIZE, VERDICT, World, listening, looked

from tallykeep.errors import ConfigError
from tallykeep.exposition import page
from tallykeep.exposition.page import Format
from tallykeep.runtime import families
from tallykeep.threads import in_thread
from tallykeep.web import listener as listeners
from tallykeep.web.listener import Listener

OPENMETRICS = {"accept": "application/openmetrics-text;version=1.0.0"}


def asking_of(listener: Listener, **options: Any) -> httpx2.AsyncClient:
    """A client that waits for a machine that is busy."""
    return httpx2.AsyncClient(base_url=listener.url, trust_env=False, timeout=60, **options)


@pytest.fixture
def world() -> World:
    made = World()
    made.publish(*looked())
    return made


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        listening(world) as listener,
        asking_of(listener, headers={"accept-encoding": ""}) as asking,
    ):
        yield asking


async def test_metrics_in_both_formats(client: httpx2.AsyncClient) -> None:
    """Text to whoever asks for nothing, OpenMetrics to whoever asks for it, each under its own type."""
    text = await client.get("/metrics")
    assert (text.status_code, text.headers["content-type"]) == (200, Format.TEXT.value)
    assert 'replica_size_bytes{database="main"} 4096.0\n' in text.text
    rich = await client.get("/metrics", headers=OPENMETRICS)
    assert rich.headers["content-type"] == Format.OPENMETRICS.value
    assert rich.text.endswith("# EOF\n")
    assert rich.headers["vary"] == "Accept, Accept-Encoding"


async def test_metrics_in_every_encoding(client: httpx2.AsyncClient) -> None:
    """The decompressed bytes are those of the plain page."""
    plain = await client.get("/metrics")
    assert "content-encoding" not in plain.headers
    for name, decompress in (("gzip", gzip.decompress), ("zstd", zstandard.ZstdDecompressor().decompress)):
        async with client.stream("GET", "/metrics", headers={"accept-encoding": name}) as reply:
            raw = b"".join([chunk async for chunk in reply.aiter_raw()])
        assert reply.headers["content-encoding"] == name
        assert decompress(raw) == plain.content


async def test_head_is_get_without_a_body(client: httpx2.AsyncClient) -> None:
    """The same headers, Content-Length among them."""
    for path in ("/", "/metrics", "/healthz", "/readyz"):
        got, head = await client.get(path), await client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.content))


async def test_only_what_is_there_and_only_reading(client: httpx2.AsyncClient) -> None:
    """404 for other paths, 405 with Allow for other methods."""
    assert (await client.get("/metricsx")).status_code == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        reply = await client.request(method, "/metrics")
        assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")
    assert (await client.post("/elsewhere")).status_code == 404


async def test_readiness_waits_and_health_does_not(world: World, client: httpx2.AsyncClient) -> None:
    """/readyz names what the start waits for; /healthz is asked whether the program answers at all."""
    world.health.expect("first look of fake at <main>")
    starting = await client.get("/readyz")
    assert (starting.status_code, starting.text) == (503, "waiting for: first look of fake at <main>\n")
    assert (await client.get("/healthz")).text == "ok\n"
    assert "<main>" not in (await client.get("/")).text, "outside strings are escaped"
    world.health.report("first look of fake at <main>")
    assert (await client.get("/readyz")).text == "ready\n"


async def test_status_tells_verdicts_and_collectors(world: World, client: httpx2.AsyncClient) -> None:
    """/status shows each verdict, and of each collector whether it is believed and how it fares."""
    world.book.set(families.COLLECTOR_UP, 1, collector="fake", target="main")
    told = json.loads((await client.get("/status")).content)
    assert told["verdicts"] == [{"name": "replica_verdict", "labels": {"database": "main"}, "state": "restorable"}]
    assert told["collectors"] == [{"collector": "fake", "target": "main", "believed": True, "up": 1}]
    assert told["ready"] is True
    world.board.fail("fake", "main")
    told = json.loads((await client.get("/status")).content)
    assert [verdict["state"] for verdict in told["verdicts"]] == ["unknown"]
    assert told["collectors"][0]["believed"] is False


async def test_the_index_links_to_everything(client: httpx2.AsyncClient) -> None:
    """Every link on it leads somewhere."""
    index = await client.get("/")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    for path in ("metrics", "status", "readyz", "healthz"):
        assert f'href="{path}"' in index.text
        assert (await client.get(f"/{path}")).status_code == 200


async def test_expiry_shows_at_the_very_next_scrape() -> None:
    """Nothing is published and nothing fails: a page kept from before the expiry is not sent after it."""
    clock = FakeClock()
    world = World(clock=clock)
    world.publish(*looked(), lasting=10)
    async with listening(world) as listener, asking_of(listener) as client:
        assert "replica_size_bytes" in (await client.get("/metrics")).text
        await clock.advance(9.9)
        assert "replica_size_bytes" in (await client.get("/metrics")).text
        await clock.advance(0.1)
        after = (await client.get("/metrics")).text
    assert "replica_size_bytes" not in after
    assert 'replica_verdict{database="main",replica_verdict="unknown"} 1.0' in after


async def test_ages_grow_between_collections() -> None:
    """An age is reckoned when it is sent, compressed or not."""
    clock = FakeClock()
    world = World(clock=clock)
    world.publish(AGE(clock.time() - 5))
    async with listening(world) as listener, asking_of(listener) as client:
        assert "replica_age_seconds 5.0\n" in (await client.get("/metrics")).text
        await clock.advance(60)
        assert "replica_age_seconds 65.0\n" in (await client.get("/metrics")).text


async def test_many_scrapes_share_one_rendering(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty scrapes at once, one rendering, and none at all while nothing changes."""
    rendered = []
    render = page.Renderer.render

    def counted(self: page.Renderer, *arguments: object) -> page.Page:
        rendered.append(arguments)
        time.sleep(0.1)
        return render(self, *arguments)  # type: ignore[arg-type] # passed on as they came

    monkeypatch.setattr(page.Renderer, "render", counted)
    async with listening(world) as listener, asking_of(listener) as client:
        replies = await asyncio.gather(*(client.get("/metrics") for _ in range(30)))
        assert len({reply.content for reply in replies}) == 1
        await client.get("/metrics")
        assert len(rendered) == 1
        world.publish(SIZE(1, database="main"), VERDICT("unrestorable", database="main"))
        assert "4096" not in (await client.get("/metrics")).text
        assert len(rendered) == 2


async def test_the_loop_turns_while_a_page_is_rendered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """/healthz answers during a rendering that takes long."""
    render = page.Renderer.render
    begun, may_end = threading.Event(), threading.Event()

    def slow(self: page.Renderer, *arguments: object) -> page.Page:
        begun.set()
        may_end.wait(60)
        return render(self, *arguments)  # type: ignore[arg-type] # passed on as they came

    monkeypatch.setattr(page.Renderer, "render", slow)
    async with listening(world) as listener, asking_of(listener) as client:
        scrape = asyncio.create_task(client.get("/metrics"))
        assert await in_thread(begun.wait, 60)
        assert (await client.get("/healthz")).status_code == 200
        assert not scrape.done()
        may_end.set()
        assert (await scrape).status_code == 200


async def test_a_port_in_use_is_a_configuration_error(world: World) -> None:
    """The message names the port and the setting to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listener = Listener(world.app, "127.0.0.1", port, setting="METRICS_PORT")
        with pytest.raises(ConfigError, match=rf"port {port} is in use.*METRICS_PORT"):
            await listener.start()
        await listener.stop()


async def test_an_address_that_is_not_here(world: World) -> None:
    """Neither a name that does not resolve nor an address of another machine ends in a traceback."""
    for host in ("no-such-host.invalid", "203.0.113.1"):
        with pytest.raises(ConfigError, match="METRICS_PORT"):
            await Listener(world.app, host, 0, setting="METRICS_PORT").start()


async def test_two_listeners_in_one_loop_and_a_port_that_is_free_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its port; after the stop it refuses, without waiting for an idle connection, and can be taken again."""
    monkeypatch.setattr(listeners, "_LAST_WORDS", 600)
    async with listening(world) as one, asking_of(one) as client:
        two = Listener(world.app, "127.0.0.1", 0, setting="METRICS_PORT")
        await two.start()
        assert one.port != two.port != 0
        for listener in (one, two):
            assert (await client.get(f"{listener.url}healthz")).status_code == 200
        async with asyncio.timeout(60):
            await two.stop()
            await two.stop()
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"{two.url}healthz")
        again = Listener(world.app, "127.0.0.1", two.port, setting="METRICS_PORT")
        await again.start()
        assert (await client.get(f"{again.url}healthz")).status_code == 200
        await again.stop()


async def test_a_client_that_never_reads_does_not_hold_up_the_stop() -> None:
    """A frozen scraper in the middle of a large page costs the shutdown its two seconds and no more: it comes about."""
    world = World()
    world.publish(*(SIZE(number, database=f"{number:0100}") for number in range(50_000)))
    async with listening(world) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=1024)
        writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readexactly(15)
        async with asyncio.timeout(60):
            await listener.stop()
        writer.close()
