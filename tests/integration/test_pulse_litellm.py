"""Pulse against a real LiteLLM proxy."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.litellm_proxy import LitellmProxy, litellm_proxy
from tests.support.pulse import Pulse, scraping

from tallykeep.clock import SystemClock
from tallykeep.systems.pulse.settings import MetricSettings
from tallykeep.systems.pulse.tracked import COUNTERS


def sums(page: str) -> dict[str, float]:
    """By the library's parser: sample names with the sum of their samples."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


@pytest.mark.soak
@pytest.mark.server
@pytest.mark.timeout(600)
async def test_every_tracked_figure_is_the_sum_over_the_page(tmp_path: Path) -> None:
    """With a real proxy: every tracked figure is the sum over its page, before and after more requests, and across a
    restart of the proxy what was done since the first scrape is what stands in the lifetime.
    """
    names = dict(MetricSettings().items())
    done = 0.0
    with litellm_proxy(tmp_path) as proxy:
        await asyncio.to_thread(ask, proxy, 3)
        await settled(proxy, 3)
        async with Pulse(scraping(proxy.metrics), tmp_path / "state", SystemClock()) as pulse:
            assert await pulse.round() is None
            before = sums(await asyncio.to_thread(proxy.page))
            for name in COUNTERS:
                assert (await pulse.told())[name] == pytest.approx(before.get(names[name], 0.0)), name
            await asyncio.to_thread(ask, proxy, 5)
            await settled(proxy, 8)
            assert await pulse.round() is None
            told, after = await pulse.told(), sums(await asyncio.to_thread(proxy.page))
            for name in COUNTERS:
                assert told[name] == pytest.approx(after.get(names[name], 0.0)), name
                rose = after.get(names[name], 0.0) - before.get(names[name], 0.0)
                assert told[f"{name}_daily"] == told[f"{name}_lifetime"] == pytest.approx(rose), name
            assert told["requests_daily"] > 0 and told["cost_daily"] > 0 and told["failed_requests_daily"] > 0
            rows = {row["model"]: row for row in (await pulse.told("/api/v1/models"))["models"]}
            assert rows["gpt-4o"]["requests"] == 8
            assert rows["gpt-4o"]["requested_models"] == ["mock-gpt"]
            done = told["requests_lifetime"]
    with litellm_proxy(tmp_path) as proxy:
        await asyncio.to_thread(ask, proxy, 2)
        await settled(proxy, 2)
        port = proxy.metrics
        async with Pulse(scraping(port), tmp_path / "state", SystemClock()) as pulse:
            assert await pulse.round() is None
            told, now = await pulse.told(), sums(await asyncio.to_thread(proxy.page))
            assert told["requests_lifetime"] == done + now[names["requests"]]
            assert (await pulse.told("/api/v1/history"))["snapshots"][-1]["is_reset"] is True
            assert pulse.booked("tallykeep_pulse_ambiguous_resets_total") == 0


def ask(proxy: LitellmProxy, count: int) -> None:
    """As many requests of each model."""
    for model, status in (("mock-gpt", 200), ("mock-claude", 200), ("bad-model", 429)):
        for _ in range(count):
            assert proxy.complete(model) == status


async def settled(proxy: LitellmProxy, count: int) -> None:
    """Return when the proxy has counted what it answered, which it does a little later."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        page = sums(await asyncio.to_thread(proxy.page))
        if page.get("litellm_proxy_total_requests_metric_total") == 3 * count:
            await asyncio.sleep(1)
            return
        await asyncio.sleep(0.2)
    raise AssertionError(page.get("litellm_proxy_total_requests_metric_total"))
