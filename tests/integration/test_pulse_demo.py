"""The demo's gateway writes the same requests into its database and onto its page: both systems count the same."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from tests.support.clock import FakeClock
from tests.support.pulse import Pulse, scraping

from tallykeep.demo.litellm_page import GatewayPage, PageServer
from tallykeep.demo.litellm_traffic import Mix, Traffic

_SPENT = 'SELECT sum(spend), count(*), sum(total_tokens) FROM "LiteLLM_SpendLogs"'


@pytest.mark.server
async def test_page_and_database_agree(litellm_database: Callable[..., str]) -> None:
    """Spend, requests and tokens of live traffic: the page's figures are those of the rows, across a restart."""
    url, page, clock = litellm_database(), GatewayPage(1_600_000_000.0), FakeClock()
    with PageServer(page) as server, Traffic(url, now=clock.time(), page=page) as traffic:
        traffic.populate()
        async with Pulse(scraping(server.url), clock=clock) as pulse:
            assert await pulse.round() is None
            for number in range(4):
                since = clock.time()
                await clock.advance(60)
                traffic.step(since, clock.time(), 5, Mix(flush=0, late=0))
                if number == 1:
                    assert await pulse.round() is None
                    page.restart(clock.time())
            traffic.drain()
            assert await pulse.round() is None
            told = await pulse.told()
    with psycopg.connect(url) as database:
        row = database.execute(_SPENT).fetchone()
    assert row is not None
    spent, requests, tokens = row
    assert requests > 500
    assert told["requests_lifetime"] == requests
    assert told["tokens_lifetime"] == tokens
    assert told["cost_lifetime"] == pytest.approx(spent, rel=1e-9)
