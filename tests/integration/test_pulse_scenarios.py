"""Everyday and hostile life of a gateway, each through a real HTTP server, with the true answer."""

from __future__ import annotations

import socket
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme
from tests.support.clock import START, FakeClock
from tests.support.metrics_page_server import Answer, MetricsPage, litellm
from tests.support.pulse import Pulse, scraping

from tallykeep.errors import Malformed, Refused, Unreachable

BORN = START - 3600.0  # when the counters of a running gateway were created


@pytest.fixture
def page() -> Iterator[MetricsPage]:
    with MetricsPage() as server:
        yield server


@pytest.fixture
def other() -> Iterator[MetricsPage]:
    with MetricsPage() as server:
        yield server


async def minute(pulse: Pulse) -> None:
    """A minute passes, and a round that succeeds."""
    assert isinstance(pulse.clock, FakeClock)
    await pulse.clock.advance(60)
    error = await pulse.round()
    assert error is None, error


async def test_first_day_counts_from_the_first_scrape(page: MetricsPage) -> None:
    """What the gateway did before it was first scraped is on the page, and neither in today nor in the lifetime."""
    page.shows(litellm(1000, cost=10.0, created=BORN))
    async with Pulse(scraping(page.url)) as pulse:
        assert (await pulse.told())["last_scrape"] is None
        await minute(pulse)
        told = await pulse.told()
        assert (told["requests"], told["requests_daily"], told["cost_lifetime"]) == (1000, 0, 0)
        page.shows(litellm(1003, cost=10.5, created=BORN))
        await minute(pulse)
        told = await pulse.told()
        assert (told["requests"], told["requests_daily"], told["requests_monthly"]) == (1003, 3, 3)
        assert (told["cost_daily"], told["cost_lifetime"]) == (0.5, 0.5)


async def test_falling_gauge_is_no_restart(page: MetricsPage) -> None:
    """Requests in flight fall from 40 to 1: nothing was reset, the value is 1, and the window shows the highest."""
    page.shows(litellm(100, in_flight=40))
    async with Pulse(scraping(page.url)) as pulse:
        await minute(pulse)
        page.shows(litellm(102, in_flight=1))
        await minute(pulse)
        told = await pulse.told()
        assert (told["in_flight_requests"], told["in_flight_requests_daily"], told["requests_daily"]) == (1, 40, 2)
        newest = (await pulse.told("/api/v1/history"))["snapshots"][-1]
        assert newest["is_reset"] is False
        assert newest["in_flight_requests_delta"] == -39


@pytest.mark.parametrize("created", [None, START + 90.0])
async def test_restart_from_1000_to_600(page: MetricsPage, created: float | None) -> None:
    """A gateway restarts and has served 600 again before the next scrape: 600 more, never minus 400."""
    page.shows(litellm(1000, cost=10.0, created=None if created is None else BORN))
    async with Pulse(scraping(page.url)) as pulse:
        await minute(pulse)
        page.shows(litellm(600, cost=6.0, created=created))
        await minute(pulse)
        told = await pulse.told()
        assert (told["requests"], told["requests_daily"], told["cost_daily"]) == (600, 600, 6)
        assert (await pulse.told("/api/v1/history"))["snapshots"][-1]["is_reset"] is True
        assert pulse.booked("tallykeep_pulse_resets_total") == 2
        assert pulse.booked("tallykeep_pulse_ambiguous_resets_total") == (2 if created is None else 0)


async def test_reset_in_one_family_alone(page: MetricsPage) -> None:
    """Only the cost begins anew: it alone is counted whole, requests go on."""
    page.shows(litellm(10, cost=10.0))
    async with Pulse(scraping(page.url)) as pulse:
        await minute(pulse)
        page.shows(litellm(12, cost=0.5))
        await minute(pulse)
        told = await pulse.told()
        assert (told["requests_daily"], told["cost_daily"]) == (2, 0.5)


async def test_alternating_replicas_with_created(page: MetricsPage) -> None:
    """Two replicas take turns behind one address: 1000, 400, 1001, 401 are two requests and two cents."""
    async with Pulse(scraping(page.url)) as pulse:
        for requests, cost, born in ((1000, 10.0, 50.0), (400, 4.0, 0.0), (1001, 10.01, 50.0), (401, 4.01, 0.0)):
            page.shows(litellm(requests, cost=cost, created=BORN + born))
            await minute(pulse)
        told = await pulse.told()
        assert told["requests_daily"] == 2
        assert told["cost_daily"] == pytest.approx(0.02)
        assert pulse.booked("tallykeep_pulse_resets_total") == 0


async def test_alternating_replicas_without_created_are_told_of(page: MetricsPage) -> None:
    """Without creation times nobody can tell replicas from restarts: falls count whole, and are called ambiguous."""
    async with Pulse(scraping(page.url)) as pulse:
        for requests in (1000, 400, 1001, 401):
            page.shows(litellm(requests))
            await minute(pulse)
        assert (await pulse.told())["requests_daily"] == 400 + 601 + 401
        assert pulse.booked("tallykeep_pulse_ambiguous_resets_total") == 2


async def test_replicas_as_targets_of_their_own(page: MetricsPage, other: MetricsPage) -> None:
    """Each replica as a target of its own: sums over both; one that fails keeps its last and is named in `error`."""
    page.shows(litellm(1000))
    other.shows(litellm(400))
    async with Pulse(scraping(page.url, other.url)) as pulse:
        await minute(pulse)
        assert (await pulse.told())["requests"] == 1400
        page.shows(litellm(1005))
        other.fails(500)
        await minute(pulse)
        told = await pulse.told()
        assert (told["requests"], told["requests_daily"]) == (1405, 5)
        assert told["error"].startswith("b: ")
        assert told["source"] == f"{page.url}, {other.url}"
        assert pulse.booked("tallykeep_pulse_target_up", target="b") == 0
        assert pulse.booked("tallykeep_pulse_scrape_failures_total", target="b", code="unreachable") == 1
        other.shows(litellm(410))
        await minute(pulse)
        told = await pulse.told()
        assert (told["requests"], told["requests_daily"], "error" in told) == (1415, 15, False)


async def test_empty_page_changes_nothing(page: MetricsPage) -> None:
    """A 200 without a body is a failure: nothing is lost across it, and what rose meanwhile is counted after it."""
    page.shows(litellm(1000))
    async with Pulse(scraping(page.url)) as pulse:
        await minute(pulse)
        for empty in ("", "\n", "# only a comment\n"):
            page.shows(empty)
            assert isinstance(await pulse.round(), Malformed)
        told = await pulse.told()
        assert told["requests"] == 1000
        assert "error" in told
        page.shows(litellm(1007))
        await minute(pulse)
        told = await pulse.told()
        assert (told["requests_daily"], "error" in told) == (7, False)
        assert (await pulse.told("/api/v1/history"))["count"] == 2
        assert pulse.booked("tallykeep_pulse_scrape_failures_total", code="malformed") == 3


async def test_vanished_series_is_no_fall(page: MetricsPage) -> None:
    """A series that disappears and comes back is followed from where it was."""
    page.shows(litellm(1000, cost=5.0))
    async with Pulse(scraping(page.url)) as pulse:
        await minute(pulse)
        page.shows(litellm(cost=5.5))
        await minute(pulse)
        page.shows(litellm(1002, cost=6.0))
        await minute(pulse)
        told = await pulse.told()
        assert (told["requests_daily"], told["cost_daily"]) == (2, 1)


async def test_new_series_counts_whole(page: MetricsPage) -> None:
    """A model first used after the first scrape counts from its first request."""
    page.shows(litellm(1000, created=BORN))
    async with Pulse(scraping(page.url)) as pulse:
        await minute(pulse)
        born = pulse.clock.time() + 30
        page.shows(litellm(1000, created=BORN) + litellm(4, created=born, model="claude"))
        await minute(pulse)
        assert (await pulse.told())["requests_daily"] == 4


async def test_restart_of_tallykeep(page: MetricsPage, tmp_path: Path) -> None:
    """What rose while tallykeep was down is counted; figures stand as they stood before the next scrape succeeds."""
    clock = FakeClock()
    page.shows(litellm(1000, created=BORN))
    async with Pulse(scraping(page.url), tmp_path, clock) as pulse:
        await minute(pulse)
        page.shows(litellm(1010, created=BORN))
        await minute(pulse)
        before = await pulse.told()
    page.shows(litellm(1025, created=BORN))
    async with Pulse(scraping(page.url), tmp_path, clock) as pulse:
        assert await pulse.told() == before
        assert (await pulse.ask("/health")).status_code == 503
        await minute(pulse)
        told = await pulse.told()
        assert (told["requests"], told["requests_daily"], told["requests_lifetime"]) == (1025, 25, 25)
        assert (await pulse.told("/health")) == {"status": "ok"}


async def test_infinity_and_nan_on_the_page(page: MetricsPage) -> None:
    """+Inf budgets and NaN stand in /raw as strings and disturb no sum."""
    page.shows(
        litellm(5)
        + 'litellm_remaining_user_budget_metric{user="a"} +Inf\nodd{x="}"} NaN\n'
        + 'litellm_proxy_total_requests_metric_total{requested_model="broken"} NaN\n'
    )
    async with Pulse(scraping(page.url)) as pulse:
        await minute(pulse)
        raw = await pulse.told("/raw")
        assert (raw["litellm_remaining_user_budget_metric"], raw["odd"]) == ("+Inf", "NaN")
        assert (await pulse.told())["requests"] == 5


async def test_raw_leaves_parts_out(page: MetricsPage) -> None:
    """/raw sums samples, and neither buckets nor creation times."""
    page.shows(
        litellm(5, created=BORN)
        + '# TYPE h histogram\nh_bucket{le="1.0"} 3\nh_bucket{le="+Inf"} 4\nh_count 4\nh_sum 9\nh_created 1e9\n'
    )
    async with Pulse(scraping(page.url)) as pulse:
        await minute(pulse)
        assert await pulse.told("/raw") == {
            "up": 1, "litellm_proxy_total_requests_metric_total": 5, "h_count": 4, "h_sum": 9,
        }  # fmt: skip


async def test_redirect_is_followed_and_the_key_stays(page: MetricsPage, other: MetricsPage) -> None:
    """/metrics redirects to /metrics/ with the key; a redirect to another host is followed without it."""
    redirect = {"Location": "/metrics/"}
    page.paths["/metrics"] = lambda: Answer(status=307, headers=redirect)
    page.shows(litellm(5))
    async with Pulse(scraping(f"{page.origin}/metrics", key=" sk-secret\n")) as pulse:
        await minute(pulse)
        assert [one.headers.get("authorization") for one in page.asked] == ["Bearer sk-secret"] * 2
        redirect["Location"] = other.url.replace("127.0.0.1", "localhost")
        other.shows(litellm(6))
        await minute(pulse)
        assert (await pulse.told())["requests"] == 6
        assert "authorization" not in other.asked[0].headers


async def test_endless_redirects_end(page: MetricsPage) -> None:
    """A page that redirects to itself is refused."""
    page.fails(307, Location="/metrics/")
    async with Pulse(scraping(page.url)) as pulse:
        assert isinstance(await pulse.round(), Refused)


async def test_gzip_and_openmetrics(page: MetricsPage) -> None:
    """A packed page and an OpenMetrics page are read; one without its # EOF was cut off and counts nothing."""
    async with Pulse(scraping(page.url)) as pulse:
        page.shows(litellm(5), packed=True)
        await minute(pulse)
        text = (
            "# TYPE litellm_proxy_total_requests_metric counter\n"
            'litellm_proxy_total_requests_metric_total{requested_model="gpt-4o"} 8.0 # {trace_id="x"} 1.0 1700000000\n'
        )
        page.shows(text + "# EOF\n", openmetrics=True)
        await minute(pulse)
        assert (await pulse.told())["requests_daily"] == 3
        page.shows(text, openmetrics=True)
        assert isinstance(await pulse.round(), Malformed)
        assert "gzip" in page.asked[0].headers["accept-encoding"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(b"x 1\n", delay=60), Unreachable),
        (Answer(b"x 1\n" * 100, drip=0.05), Unreachable),
        (Answer(b"x 1\n" * 100, cut=10), Unreachable),
        (Answer(b"x 1\n" * 500), Refused),
        (Answer(b"<html>sign in</html>"), Malformed),
        (Answer(b"x{ 1\n"), Malformed),
        (Answer(b"\x1f\x8b junk", headers={"Content-Encoding": "gzip"}), Malformed),
        (Answer(b"x 1\n", headers={"Content-Encoding": "br"}), Malformed),
        (Answer(status=401), Refused),
        (Answer(status=404), Refused),
        (Answer(status=503), Unreachable),
        (Answer(status=204), Refused),
    ],
    ids=["slow", "dripping", "cut", "oversized", "html", "garbage", "bad gzip", "brotli", "401", "404", "503", "204"],
)
async def test_bad_answers_change_nothing(page: MetricsPage, answer: Answer, kind: type[Exception]) -> None:
    """Whatever else comes is a failure that is counted, told, and changes no figure."""
    page.shows(litellm(1000))
    async with Pulse(scraping(page.url, timeout=60.0, page_limit=1500)) as pulse:
        await minute(pulse)
        before = await pulse.told()
        page.answer = answer
        if answer.delay or answer.drip:
            pulse.collector._client._timeout = 0.4
        error = await pulse.round()
        assert type(error) is kind
        told = await pulse.told()
        assert told.pop("error") == str(error)
        assert told == before


async def test_zip_bomb_is_cut(page: MetricsPage) -> None:
    """A page of 50 MB that came as 50 kB is given up at the limit."""
    page.shows("a 1\n" * 12_000_000, packed=True)
    async with Pulse(scraping(page.url, page_limit=1 << 20)) as pulse:
        assert isinstance(await pulse.round(), Refused)


async def test_nobody_listens() -> None:
    """A closed port is a failure that says so; the API answers all the same, and /health is not ok."""
    with socket.socket() as held:  # nobody listens at its port, and nobody else can
        held.bind(("127.0.0.1", 0))
        async with Pulse(scraping(f"http://127.0.0.1:{held.getsockname()[1]}/metrics")) as pulse:
            assert isinstance(await pulse.round(), Unreachable)
            assert (await pulse.told())["last_scrape"] is None
            assert (await pulse.ask("/health")).status_code == 503


async def test_midnight_in_the_zone(page: MetricsPage) -> None:
    """A day begins at midnight of the zone: what was counted before it is in the month alone."""
    clock = FakeClock(1_700_000_000.0)  # 2023-11-15 03:58:20 in Kathmandu, UTC+05:45
    page.shows(litellm(1000))
    async with Pulse(scraping(page.url, timezone="Asia/Kathmandu"), clock=clock) as pulse:
        await minute(pulse)
        page.shows(litellm(1004))
        await minute(pulse)
        assert (await pulse.told())["last_scrape"] == "2023-11-15T04:00:20+05:45"
        await clock.advance(20 * 3600)
        told = await pulse.told()
        assert (told["requests_daily"], told["requests_monthly"], told["requests_lifetime"]) == (0, 4, 4)


async def test_figures_stand_on_the_metrics_page_too(page: MetricsPage) -> None:
    """What the API tells, the families tallykeep_pulse_* tell Prometheus."""
    page.shows(litellm(1000, cost=1.0))
    async with Pulse(scraping(page.url)) as pulse:
        await minute(pulse)
        page.shows(litellm(1010, cost=1.5))
        await minute(pulse)
        seen = {(s.family.name, *s.labels): s.value for s in pulse.samples}
        assert seen["tallykeep_pulse_page_value", "requests"] == 1010
        assert seen["tallykeep_pulse_window_value", "cost", "daily"] == 0.5
        assert seen["tallykeep_pulse_lifetime_total", "requests"] == 10
        assert pulse.booked("tallykeep_pulse_scrapes_total") == 2


async def test_tls_is_verified_when_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    """Off by default, with a warning; on, a certificate of an unknown authority is refused before the key is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with MetricsPage(context) as page:
        page.shows(litellm(5))
        async with Pulse(scraping(page.url)) as pulse:
            assert await pulse.round() is None
        assert "certificates of https targets are not verified" in caplog.text
        page.asked.clear()
        async with Pulse(scraping(page.url, key="sk-secret", verify_ssl=True)) as pulse:
            error = await pulse.round()
            assert isinstance(error, Unreachable)
            assert "certificate" in str(error).lower()
        assert not page.asked


async def test_history_file_that_cannot_be_used(page: MetricsPage, tmp_path: Path) -> None:
    """A file that cannot be opened: `error` says so, everything is served from memory; it is written once it can be."""
    path = tmp_path / "history.db"
    path.mkdir()
    page.shows(litellm(1000))
    async with Pulse(scraping(page.url, db_path=path)) as pulse:
        await minute(pulse)
        page.shows(litellm(1004))
        await minute(pulse)
        told = await pulse.told()
        assert (told["requests_daily"], told["requests_lifetime"]) == (4, 4)
        assert "history.db" in told["error"]
        history = await pulse.told("/api/v1/history")
        assert (history["source"], history["count"]) == ("memory", 2)
        assert pulse.booked("tallykeep_pulse_history_source") == "memory"
        assert pulse.booked("tallykeep_pulse_history_writable") == 0
        path.rmdir()
        await minute(pulse)
        told, history = await pulse.told(), await pulse.told("/api/v1/history")
        assert (told["requests_daily"], "error" in told) == (4, False)
        assert (history["source"], history["count"]) == ("sqlite", 3)
        assert pulse.booked("tallykeep_pulse_history_writable") == 1


async def test_damaged_history_file(page: MetricsPage, tmp_path: Path) -> None:
    """A damaged file is set aside with a date, a fresh one begins, and a metric says so."""
    path = tmp_path / "history.db"
    path.write_bytes(b"not a database at all " * 500)
    page.shows(litellm(1000))
    async with Pulse(scraping(page.url, db_path=path)) as pulse:
        await minute(pulse)
        assert "error" not in await pulse.told()
        assert pulse.booked("tallykeep_pulse_history_set_aside") == 1
        aside = pulse.desk.history.aside
    assert aside is not None and ".corrupt-" in aside.name
    assert aside.read_bytes().startswith(b"not a database")


async def test_upgrade_from_litellm_pulse(page: MetricsPage, tmp_path: Path) -> None:
    """A database of litellm-pulse keeps its today and its snapshots; counting goes on with the first scrape."""
    path, clock = tmp_path / "litellm_pulse.db", FakeClock()
    names = ("requests", "failed_requests", "tokens", "input_tokens", "output_tokens", "reasoning_tokens", "cost",
             "in_flight_requests")  # fmt: skip
    columns = ", ".join(f"raw_{name} REAL, delta_{name} REAL" for name in names)
    with closing(sqlite3.connect(path)) as old, old:
        old.execute(f"CREATE TABLE scrapes (id INTEGER PRIMARY KEY, ts INTEGER, is_reset INTEGER, {columns})")
        for number, (raw, delta) in enumerate(((100.0, 0.0), (107.0, 7.0))):
            values = [v for name in names for v in ((raw, delta) if name == "requests" else (0.0, 0.0))]
            row = (None, int(clock.time()) - 60 * (2 - number), 0, *values)
            old.execute(f"INSERT INTO scrapes VALUES ({', '.join('?' * len(row))})", row)
    page.shows(litellm(110))
    async with Pulse(scraping(page.url, db_path=path), clock=clock) as pulse:
        assert (await pulse.told())["requests_daily"] == 7
        await minute(pulse)
        page.shows(litellm(112))
        await minute(pulse)
        told = await pulse.told()
        assert told["requests"] == 112
        assert told["requests_daily"] == 7 + 2
        assert (await pulse.told("/api/v1/history"))["count"] == 4
    assert path.with_name("litellm_pulse.db.bak").exists()
