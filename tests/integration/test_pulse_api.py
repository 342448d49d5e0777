"""The API as HTTP: HEAD, ETags, packing, tokens, CORS, the page for people, series, and what a fuzzer finds."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import httpx2
import pytest
from tests.support.clock import FakeClock
from tests.support.metrics_page_server import MetricsPage, litellm
from tests.support.pulse import Pulse, scraping

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def page() -> Iterator[MetricsPage]:
    with MetricsPage() as server:
        yield server


@pytest.fixture
async def pulse(page: MetricsPage) -> AsyncIterator[Pulse]:
    """Three rounds in which requests rise by 5 and 7."""
    async with Pulse(scraping(page.url)) as pulse:
        for requests in (100, 105, 112):
            page.shows(litellm(requests, cost=requests / 100, in_flight=2) + litellm(requests, model="claude"))
            assert await pulse.round() is None
            assert isinstance(pulse.clock, FakeClock)
            await pulse.clock.advance(60)
        yield pulse


async def test_head_has_the_headers_of_get(pulse: Pulse) -> None:
    """HEAD is answered like GET, without the body."""
    head, get = await pulse.ask("/api/v1/metrics", "HEAD"), await pulse.ask("/api/v1/metrics")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == get.headers
    assert (await pulse.ask("/api/v1/metrics/nope", "HEAD")).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused(pulse: Pulse, method: str) -> None:
    """Everything else is 405, and says what is allowed."""
    reply = await pulse.ask("/api/v1/metrics", method)
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")
    assert "error" in reply.json()


async def test_unknown_path(pulse: Pulse) -> None:
    """A path that is not there is 404 with JSON."""
    reply = await pulse.ask("/nope")
    assert (reply.status_code, list(reply.json())) == (404, ["error"])


async def test_etag_saves_the_body(pulse: Pulse) -> None:
    """Who has the answer gets 304 without a body; after a new figure it is sent again."""
    first = await pulse.ask("/api/v1/metrics")
    tag = first.headers["etag"]
    again = await pulse.ask("/api/v1/metrics", if_none_match=f'"other", {tag}')
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert await pulse.round() is None
    assert (await pulse.ask("/api/v1/metrics", if_none_match=tag)).status_code == 200


async def test_gzip_on_demand(pulse: Pulse) -> None:
    """Packed for who accepts it, with the same ETag; plain for who does not."""
    transport = httpx2.ASGITransport(cast("Any", pulse.app))
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
        async with client.stream("GET", "/api/v1/metrics", headers={"Accept-Encoding": "gzip"}) as reply:
            packed = b"".join([piece async for piece in reply.aiter_raw()])
        plain = await client.get("/api/v1/metrics", headers={"Accept-Encoding": "identity"})
    assert reply.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed) == plain.content
    assert "content-encoding" not in plain.headers
    assert reply.headers["etag"] == plain.headers["etag"]
    assert "Accept-Encoding" in plain.headers["vary"]


async def test_token(pulse: Pulse) -> None:
    """With a token everything but /health asks for it, as Bearer or as the password of Basic."""
    app = pulse.served(token="s3cret")
    refused = await pulse.ask("/api/v1/metrics", app=app)
    assert (refused.status_code, list(refused.json())) == (401, ["error"])
    assert refused.headers["www-authenticate"].startswith("Bearer")
    for wrong in ("Bearer s3cre", "Bearer", "Basic eDp4", "Basic %%%", "s3cret"):
        assert (await pulse.ask("/", app=app, authorization=wrong)).status_code == 401
    for right in ("Bearer s3cret", "bearer s3cret", "Basic bWU6czNjcmV0"):
        assert (await pulse.ask("/", app=app, authorization=right)).status_code == 200
    assert (await pulse.ask("/health", app=app)).status_code == 200
    assert (await pulse.ask("/openapi.json", app=app)).status_code == 401


async def test_cors_is_off_unless_listed(pulse: Pulse) -> None:
    """No origin is let in by itself; a listed one is, also where it sends the token."""
    origin = "https://dashboard.lan"
    assert "access-control-allow-origin" not in (await pulse.ask("/", origin=origin)).headers
    app = pulse.served(origins=(origin,), token="x")
    refused = await pulse.ask("/", app=app, origin=origin)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, origin)
    asked = {"origin": origin, "access_control_request_method": "GET"}
    preflight = await pulse.ask("/", "OPTIONS", app, **asked, access_control_request_headers="authorization")
    assert preflight.status_code == 200
    other = await pulse.ask("/", app=app, origin="https://elsewhere.lan", authorization="Bearer x")
    assert "access-control-allow-origin" not in other.headers


async def test_browser_gets_a_page(page: MetricsPage) -> None:
    """A browser gets HTML at /, without scripts, and what came from outside is text in it."""
    async with Pulse(scraping(f"{page.origin}/{HOSTILE}".replace(" ", "%20"))) as pulse:
        page.fails(500)
        await pulse.round()
        accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
        reply = await pulse.ask("/", accept=accept)
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert "<img" not in reply.text and "&lt;img" in reply.text
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        for accept in ("*/*", "application/json", "application/json, text/html", ""):
            plain = await pulse.ask("/", accept=accept)
            assert plain.headers["content-type"] == "application/json"
            assert "Accept" in plain.headers["vary"]


async def test_series_as_json_and_csv(pulse: Pulse) -> None:
    """A tracked figure by its short name, by label, in steps; the same as CSV."""
    now = pulse.clock.time()
    span = f"from={now - 3600:.0f}&to={now + 60:.0f}"
    told = await pulse.told(f"/api/v1/series?name=requests&{span}&step=15m")
    assert sum(v for line in told["series"] for v in line["values"] if v is not None) == 24
    told = await pulse.told(f"/api/v1/series?name=requests&by=requested_model&{span}&step=1m")
    sums = {line["labels"]["requested_model"]: sum(filter(None, line["values"])) for line in told["series"]}
    assert sums == {"gpt-4o": 12, "claude": 12}
    assert len(told["times"]) == len(told["series"][0]["values"])
    reply = await pulse.ask(f"/api/v1/series?name=requests&by=requested_model&{span}&step=1h&format=csv")
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    lines = reply.text.splitlines()
    assert lines[0] == "time,requested_model,value"
    assert all(len(line.split(",")) == 3 for line in lines)
    same = await pulse.ask(f"/api/v1/series?name=requests&by=requested_model&{span}&step=1h", accept="text/csv")
    assert same.text == reply.text


@pytest.mark.parametrize(
    "query",
    [
        "", "name=cost&from=never", "name=cost&from=2h&to=3h", "name=cost&step=0", "name=cost&step=-1h",
        "name=cost&format=xml", "name=cost&from=1970-01-01&step=1s", "name=cost&from=1e300", "name=cost&to=nan",
    ],
)  # fmt: skip
async def test_series_that_make_no_sense(pulse: Pulse, query: str) -> None:
    """A query that cannot be answered is 422 and says why."""
    reply = await pulse.ask(f"/api/v1/series?{query}")
    assert (reply.status_code, list(reply.json())) == (422, ["error"])


async def test_series_of_nothing_is_empty(pulse: Pulse) -> None:
    """A name that was never kept has no lines."""
    assert (await pulse.told("/api/v1/series?name=nothing"))["series"] == []


async def test_csv_is_harmless_in_a_spreadsheet(page: MetricsPage) -> None:
    """A label that begins like a formula is no formula in CSV."""
    async with Pulse(scraping(page.url)) as pulse:
        for requests in (1, 2):
            page.shows(litellm(requests, model='=HYPERLINK("http://x")'.replace('"', '\\"')))
            await pulse.round()
            assert isinstance(pulse.clock, FakeClock)
            await pulse.clock.advance(60)
        now = pulse.clock.time()
        reply = await pulse.ask(
            f"/api/v1/series?name=requests&by=requested_model&from={now - 3600:.0f}&to={now:.0f}&step=15m&format=csv"
        )
        assert "\"'=HYPERLINK" in reply.text


async def test_no_answer_holds_what_json_cannot_spell(page: MetricsPage) -> None:
    """NaN and infinity on the page never make an answer that is no JSON."""
    page.shows(litellm(5) + "litellm_in_flight_requests NaN\nx +Inf\nlitellm_spend_metric_total -Inf\n")
    async with Pulse(scraping(page.url)) as pulse:
        await pulse.round()
        for path in ("/", "/raw", "/api/v1/history", "/api/v1/models"):
            json.loads((await pulse.ask(path)).text, parse_constant=pytest.fail)


async def test_fuzzing_finds_no_5xx_and_no_undocumented_answer(pulse: Pulse) -> None:
    """schemathesis, from the API's own OpenAPI page: every answer is documented, and none is a defect."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import CHECKS

    loop = asyncio.get_running_loop()
    document = await pulse.told("/openapi.json")
    schema = schemathesis.openapi.from_dict(document)
    names = (
        "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
        "response_headers_conformance",
    )  # fmt: skip
    checks = [CHECKS.get_one(name) for name in names]
    asked: list[str] = []

    def fuzz(operation: Any) -> None:
        @given(case=operation.as_strategy())
        @settings(
            max_examples=40, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def one(case: Any) -> None:
            request = case.as_transport_kwargs(base_url="http://tallykeep")
            future = asyncio.run_coroutine_threadsafe(_send(pulse, request), loop)
            reply = future.result(60)
            asked.append(f"{case.method} {case.path}")
            case.validate_response(reply, checks=checks)

        one()

    for found in schema.get_all_operations():
        await asyncio.to_thread(fuzz, cast("Any", found).ok())
    assert {"GET /", "GET /api/v1/series", "GET /api/v1/metrics/{name}"} <= set(asked)


async def _send(pulse: Pulse, request: dict[str, Any]) -> Any:
    """A schemathesis reply to one of its requests."""
    import requests
    from schemathesis import Response

    prepared = requests.Request(
        request["method"], request["url"], params=request.get("params"), headers=request.get("headers")
    ).prepare()
    assert prepared.url is not None
    transport = httpx2.ASGITransport(cast("Any", pulse.app))
    async with httpx2.AsyncClient(transport=transport) as client:
        reply = await client.request(
            request["method"], prepared.url, headers=cast("dict[str, str]", dict(prepared.headers))
        )
    return Response(
        status_code=reply.status_code, headers={key: [value] for key, value in reply.headers.items()},
        content=reply.content, request=prepared, elapsed=0.0, verify=False, http_version="1.1",
    )  # fmt: skip
