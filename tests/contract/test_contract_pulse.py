"""The published API of litellm-pulse, field for field, over the page of a real LiteLLM proxy."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.clock import FakeClock
from tests.support.metrics_page_server import MetricsPage
from tests.support.pulse import Pulse, scraping, settings_of

from tallykeep.cli.run import chosen
from tallykeep.cli.sections import sections
from tallykeep.config.load import load
from tallykeep.errors import ConfigError

ROOT = Path(__file__).parents[1]
RECORDED = (ROOT / "fixtures/litellm/metrics_page.txt").read_text()
EIGHT = [
    "requests", "failed_requests", "tokens", "input_tokens", "output_tokens", "reasoning_tokens", "cost",
    "in_flight_requests",
]  # fmt: skip
with (Path(__file__).parent / "data" / "http.tsv").open(newline="") as file:
    PATHS = [row["path"] for row in csv.DictReader(file, delimiter="\t") if row["system"] == "pulse"]
with (Path(__file__).parent / "data" / "environment.tsv").open(newline="") as file:
    VARIABLES = [row for row in csv.DictReader(file, delimiter="\t") if row["system"] == "pulse"]


@pytest.fixture
def page() -> Iterator[MetricsPage]:
    with MetricsPage() as server:
        server.shows(RECORDED)
        yield server


@pytest.fixture
async def pulse(page: MetricsPage) -> AsyncIterator[Pulse]:
    """Two rounds over the recorded page."""
    async with Pulse(scraping(page.url)) as pulse:
        for _ in range(2):
            assert await pulse.round() is None
            assert isinstance(pulse.clock, FakeClock)
            await pulse.clock.advance(60)
        yield pulse


def sums() -> dict[str, float]:
    """By the library's parser: every sample name of the recorded page with the sum of its samples."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(RECORDED):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


async def test_every_published_path_answers(pulse: Pulse) -> None:
    """Each path of the contract answers 200 with JSON."""
    assert len(PATHS) == 6
    for path in PATHS:
        reply = await pulse.ask(path.replace("{name}", "cost"))
        assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")


async def test_every_tracked_figure_is_the_sum_over_the_page(pulse: Pulse) -> None:
    """On a real proxy's page every tracked figure equals the sum of its samples."""
    names = {row["variable"].removeprefix("LITELLM_PULSE_METRIC_").lower(): row["default"] for row in VARIABLES}
    told, expected = await pulse.told(), sums()
    for name in EIGHT:
        assert told[name] == pytest.approx(expected.get(names[name], 0.0)), name
    assert told["requests"] > 0 and told["cost"] > 0 and told["cache_hits"] > 0


async def test_summary_is_flat_and_whole(pulse: Pulse) -> None:
    """The summary has each tracked name alone and with each window; last_scrape, source, and no error."""
    told = await pulse.told()
    for name in EIGHT:
        for key in (name, f"{name}_daily", f"{name}_weekly", f"{name}_monthly"):
            assert isinstance(told[key], int | float), key
    assert datetime.fromisoformat(told["last_scrape"]).utcoffset() is not None
    assert told["source"].endswith("/metrics/")
    assert "error" not in told
    assert (await pulse.told("/")) == told


async def test_lifetime_stands_beside(pulse: Pulse) -> None:
    """Every counter has its lifetime; the gauge, which has none, has not."""
    told = await pulse.told()
    assert all(f"{name}_lifetime" in told for name in EIGHT[:-1])
    assert "in_flight_requests_lifetime" not in told


@pytest.mark.parametrize("name", ["cost", "cost_daily", "tokens_weekly", "requests_monthly", "cost_lifetime"])
async def test_one_metric(pulse: Pulse, name: str) -> None:
    """One figure has name, value and last_scrape, and nothing else."""
    told, summary = await pulse.told(f"/api/v1/metrics/{name}"), await pulse.told()
    assert told == {"name": name, "value": summary[name], "last_scrape": summary["last_scrape"]}


@pytest.mark.parametrize("name", ["nope", "source", "cost_yearly", "a/b", "%3Cb%3E"])
async def test_unknown_metric(pulse: Pulse, name: str) -> None:
    """Another name is 404 with the eight names."""
    reply = await pulse.ask(f"/api/v1/metrics/{name}")
    assert reply.status_code == 404
    plain = name.replace("%3C", "<").replace("%3E", ">")
    assert reply.json() == {"error": f"Unknown metric: {plain}", "available": EIGHT}


async def test_history(pulse: Pulse) -> None:
    """One snapshot a scrape, newest last, with values and deltas of each name."""
    told = await pulse.told("/api/v1/history?limit=168")
    assert (told["count"], len(told["snapshots"])) == (2, 2)
    assert told["source"] == "memory"
    first, last = told["snapshots"]
    assert first["timestamp"] < last["timestamp"]
    assert last["is_reset"] is False
    for name in EIGHT:
        assert (last[name], last[f"{name}_delta"]) == (first[name], 0)
    assert (await pulse.told("/api/v1/history?limit=1"))["snapshots"] == [last]
    assert (await pulse.told("/api/v1/history?limit=0"))["count"] == 0
    assert (await pulse.told("/api/v1/history?limit=99999999"))["count"] == 2
    for limit in ("-1", "x", "1.5", ""):
        assert (await pulse.ask(f"/api/v1/history?limit={limit}")).status_code == 422


async def test_history_source_is_sqlite_with_a_file(page: MetricsPage, tmp_path: Path) -> None:
    """With a file the source is sqlite; with neither file nor memory it is disabled, and serves nothing."""
    async with Pulse(scraping(page.url), tmp_path) as pulse:
        await pulse.round()
        assert (await pulse.told("/api/v1/history"))["source"] == "sqlite"
        assert pulse.booked("tallykeep_pulse_history_source") == "sqlite"
    async with Pulse(scraping(page.url, history_size=0)) as pulse:
        await pulse.round()
        told = await pulse.told("/api/v1/history")
        assert told == {"snapshots": [], "count": 0, "source": "disabled"}


async def test_raw_is_every_family_summed(pulse: Pulse) -> None:
    """/raw agrees with the library's parser on every sample, buckets and creation times left out."""
    told, expected = await pulse.told("/raw"), sums()
    for name, value in expected.items():
        if name.endswith(("_bucket", "_created")):
            assert name not in told
        elif name != "litellm_remaining_user_budget_metric" and name != "litellm_remaining_api_key_budget_metric":
            assert told[name] == pytest.approx(value), name
    assert told["litellm_remaining_user_budget_metric"] == "+Inf"


async def test_health_before_and_after(page: MetricsPage) -> None:
    """503 starting before the first success, 200 ok after it, also when a later scrape fails."""
    async with Pulse(scraping(page.url)) as pulse:
        reply = await pulse.ask("/health")
        assert (reply.status_code, reply.json()) == (503, {"status": "starting"})
        await pulse.round()
        assert await pulse.told("/health") == {"status": "ok"}
        page.fails(500)
        await pulse.round()
        assert await pulse.told("/health") == {"status": "ok"}


async def test_models_of_today(pulse: Pulse) -> None:
    """Requests, spend, cache and deployments of a model stand in one row, though each names it by another label."""
    told = await pulse.told("/api/v1/models")
    rows = {row["model"]: row for row in told["models"]}
    row = rows["gpt-4o"]
    assert row["requested_models"] == ["dead-model", "mock-gpt"]
    assert row["requests"] > 0 and row["cost"] > 0 and row["cache_hits"] > 0
    assert row["deployment_success"] == 35
    summary = await pulse.told()
    for name in ("requests", "failed_requests", "cost", "tokens", "cache_hits"):
        assert sum(one[name] for one in rows.values()) == pytest.approx(summary[name]), name
    assert all(f"{name}{end}" in row for name in ("cost", "input_cached_pct") for end in ("", "_daily", "_monthly"))


async def test_models_rise_with_their_series(page: MetricsPage, pulse: Pulse) -> None:
    """What a model rose by today is what its series rose by."""
    before = 'requested_model="mock-gpt",service_tier="None",team="None",team_alias="None",user="default_user_id"'
    line = next(
        text for text in RECORDED.splitlines() if text.startswith("litellm_spend_metric_total{") and before in text
    )
    page.shows(RECORDED.replace(line, f"{line.rpartition(' ')[0]} {float(line.rpartition(' ')[2]) + 0.25!r}"))
    assert await pulse.round() is None
    rows = {row["model"]: row for row in (await pulse.told("/api/v1/models"))["models"]}
    assert rows["gpt-4o"]["cost_daily"] == pytest.approx(0.25)
    assert (await pulse.told())["cost_daily"] == pytest.approx(0.25)


def test_defaults_are_the_published_ones() -> None:
    """Every variable has a setting of its own; giving each its published default gives the default settings."""
    given = {row["variable"]: row["default"] for row in VARIABLES if row["default"]}
    assert load(sections(), given).section("pulse").metrics == settings_of().metrics
    assert settings_of().pages[0].url == "http://litellm:4000/metrics/"


@pytest.mark.parametrize("row", VARIABLES, ids=lambda row: row["variable"])
def test_any_variable_asks_for_pulse(row: dict[str, str]) -> None:
    """Any LITELLM_PULSE_* variable switches pulse on, at its default, too."""
    config = load(sections(), {row["variable"]: row["default"] or "sk-x"})
    assert [system.name for system in chosen([], config)] == ["pulse"]


def test_nothing_asks_for_pulse() -> None:
    """Without any it does not run."""
    with pytest.raises(ConfigError, match="LITELLM_PULSE_METRICS_URL"):
        chosen([], load(sections(), {}))


def test_bad_values_fail_all_at_once() -> None:
    """Values that cannot be used are each named, with what is allowed."""
    bad = {
        "LITELLM_PULSE_METRICS_URL": "litellm:4000", "LITELLM_PULSE_SCRAPE_INTERVAL": "often",
        "LITELLM_PULSE_PORT": "99999", "LITELLM_PULSE_VERIFY_SSL": "maybe", "LITELLM_PULSE_LOG_LEVEL": "loud",
        "LITELLM_PULSE_DB_RETENTION_DAYS": "0", "LITELLM_PULSE_HISTORY_SIZE": "-1",
        "LITELLM_PULSE_METRIC_COST": "no such name", "LITELLM_PULSE_CORS_ORIGINS": "dashboard.lan/x",
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        load(sections(), bad)
    assert len(caught.value.problems) == len(bad)
    assert all(any(name in problem for problem in caught.value.problems) for name in bad)


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "/etc", "Europe"])
def test_unknown_zone_falls_back(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The one value that does not fail: an unknown zone is UTC, with a warning."""
    assert settings_of(TIMEZONE=name).zone.key == "UTC"
    assert "there is no time zone" in caplog.text


def test_key_from_a_file(tmp_path: Path) -> None:
    """Secrets come from files, too, and are never shown."""
    path = tmp_path / "key"
    path.write_text("sk-1234\n")
    settings = settings_of(METRICS_API_KEY_FILE=str(path), API_TOKEN="hush")
    assert settings.pages[0].api_key.reveal() == "sk-1234"
    assert "sk-1234" not in repr(settings) and "hush" not in repr(settings)


def test_password_in_the_url_is_not_shown() -> None:
    """`source` is the URL without the password in it."""
    assert (
        settings_of(METRICS_URL="http://me:secret@proxy:4000/metrics/").pages[0].shown == "http://proxy:4000/metrics/"
    )
