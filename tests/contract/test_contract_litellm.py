"""The 34 published families, exactly; and what was wrong with them in the exporter they come from is not.

Each test of the second half is one thing that exporter gets wrong, against a real LiteLLM schema.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from tests.support.litellm import LitellmWatch, MinuteClock, Tables, reading, tags, utc
from tests.support.postgres import MakeDatabase
from tests.support.prometheus import need_prometheus, promtool

from tallykeep.clock import Clock, SystemClock
from tallykeep.systems.litellm.collector import with_database
from tallykeep.systems.litellm.families import FAMILIES

DATA = Path(__file__).parent / "data" / "metrics.tsv"
with DATA.open(newline="") as file:
    ROWS = {row["name"]: row for row in csv.DictReader(file, delimiter="\t") if row["system"] == "litellm"}
BY_NAME = {family.name: family for family in FAMILIES}
DAY = 86400.0
UNITS = {"per_minute": "_per_minute", "": ""}
EXCUSED = {"litellm_member_count", "litellm_admin_count"}  # promtool takes _count for a histogram's


# --- names


def test_every_published_family_is_declared() -> None:
    """The catalogue has the 34 names of the contract."""
    assert len(ROWS) == 34
    assert set(ROWS) <= set(BY_NAME)


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_published_family_has_its_type_and_labels(row: dict[str, str]) -> None:
    """Type and labels are those of the contract; litellm_model_info has more."""
    family = BY_NAME[row["name"]]
    labels = [label for label in row["labels"].split(",") if label]
    assert family.kind.value == row["type"]
    if row["name"] == "litellm_model_info":
        assert set(labels) < set(family.labels)
    else:
        assert list(family.labels) == labels
    assert family.unit.suffix.removeprefix("_") in (row["unit"], "")


def test_several_databases_add_one_label() -> None:
    """With several databases every family has the label `database` as well, and is otherwise the same."""
    for family in FAMILIES:
        labelled = with_database(family)
        assert labelled.labels == (*family.labels, "database")
        assert (labelled.name, labelled.kind, labelled.help) == (family.name, family.kind, family.help)


# --- meaning

server = pytest.mark.server


def whole(url: str, clock: Clock | None = None) -> None:
    """Someone and something of every kind, so that no published family is without a sample."""
    now = (clock or SystemClock()).time()
    with Tables(url) as tables:
        tables.budget("b-org", max_budget=100.0, soft_budget=80.0, tpm_limit=9000, rpm_limit=90,
                      max_parallel_requests=9, budget_duration="30d", budget_reset_at=utc(now + DAY))  # fmt: skip
        tables.budget("b-member", max_budget=12.0)
        tables.budget("b-customer", max_budget=3.0, tpm_limit=5)
        tables.organization("acme", "b-org", organization_alias="Acme", spend=40.0)
        tables.user("u1", user_alias="Ann", max_budget=20.0, spend=5.0, tpm_limit=100, models=["gpt-4o"])
        tables.user("u2")
        tables.team(
            "t1", team_alias="search", organization_id="acme", max_budget=1000.0, spend=500.0, blocked=True,
            members_with_roles=[{"role": "admin", "user_id": "u1"}, {"role": "user", "user_id": "u2"}],
        )  # fmt: skip
        tables.insert("LiteLLM_TeamMembership", user_id="u1", team_id="t1", spend=6.0, budget_id="b-member")
        tables.insert(
            "LiteLLM_EndUserTable", user_id="c1", alias="Shop", spend=4.5, blocked=True, budget_id="b-customer"
        )
        tables.key("k1", key_alias="bot", user_id="u1", team_id="t1", max_budget=10.0, spend=2.5, blocked=True,
                   expires=utc(now + DAY), budget_duration="1d", budget_reset_at=utc(now - 60))  # fmt: skip
        tables.key("k2", user_id="u1", expires=utc(now - DAY), max_budget=1.0, spend=0.25)
        tables.key("k3", user_id="u1", expires=utc(now + 9 * DAY))
        rows: list[dict[str, Any]] = [
            {"user": "u1", "team_id": "t1", "api_key": "k1", "cache_hit": "True", "request_tags": tags("red", "red")},
            {"user": "u2", "team_id": "t1", "api_key": "k1", "end_user": "c1"},
            {"user": "u1", "team_id": "", "api_key": "k2", "cache_hit": "None"},
            {"user": "u2", "team_id": "", "api_key": "k3", "organization_id": "acme", "request_tags": tags("red")},
            {"api_key": "litellm_proxy_master_key", "status": "failure", "spend": 0.0, "model": "",
             "metadata": {"status": "failure", "error_information": {"error_class": "RateLimitError"}}},
        ]  # fmt: skip
        minute = now // 60 * 60
        for age in (7 * DAY, 40.0 * 60):
            for row in rows:
                tables.request(now - age, **row)
        for row in rows:
            tables.request(minute - 30, **row)
            tables.request(minute - 630, seconds=20.0, **row)
            tables.request(minute - 625, seconds=20.0, **row)


@server
async def test_every_published_family_is_on_the_page(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """With someone of every kind, all 34 are there, and promtool accepts the page but for the two excused names."""
    url, clock = litellm_database(), MinuteClock()
    whole(url, clock)
    async with LitellmWatch(reading(url), tmp_path, clock) as watch:
        await watch.works()
        assert set(ROWS) - watch.names() == set()
        need_prometheus()
        said = promtool("check", "metrics", stdin=watch.page()).stdout.decode().splitlines()
        assert [line for line in said if line.split(" ")[0] not in EXCUSED] == []


@server
@pytest.mark.parametrize("until", [None, "baseline"])
async def test_spend_is_summed_over_all_rows(litellm_database: MakeDatabase, tmp_path: Path, until: str | None) -> None:
    """Spend of a user in two teams, of a team's several users, of an organization by every path, of tags once a row."""
    url = litellm_database(until)
    whole(url)
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.works()
        assert watch.value("litellm_user_spend", user_id="u1") == 5.0
        assert watch.value("litellm_team_spend", team_id="t1") == 5.0
        by_column = 2.5 if until is None else 0.0  # k3's requests say so themselves, where there is a column for it
        assert watch.value("litellm_org_spend", organization_id="acme", organization_alias="Acme") == 5.0 + by_column
        assert watch.value("litellm_tag_spend", tag="red") == 5.0
        assert watch.value("litellm_total_spend", model="gpt-4o") == 10.0


@server
@pytest.mark.parametrize("until", [None, "baseline"])
async def test_failures_and_cache_hits_are_seen(
    litellm_database: MakeDatabase, tmp_path: Path, until: str | None
) -> None:
    """Failures have their status and class, a row without a model is "unknown", and LiteLLM's 'True' is a hit."""
    url = litellm_database(until)
    whole(url)
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.works()
        assert watch.value("litellm_requests_total", model="unknown", status="failure") == 5
        assert watch.value("litellm_requests_total", model="gpt-4o", status="success") == 20
        assert watch.value("litellm_errors_total", model="unknown", error_type="RateLimitError") == 5
        assert watch.value("litellm_window_errors", model="unknown", error_type="RateLimitError") == 4
        assert watch.value("litellm_error_rate", model="unknown") == pytest.approx(4 / 60)
        assert watch.value("litellm_error_rate", model="gpt-4o") == 0
        assert watch.value("litellm_cache_hits_total", model="gpt-4o") == 5
        assert watch.value("litellm_cache_misses_total", model="gpt-4o") == 10


@server
@pytest.mark.parametrize("zone", ["Asia/Seoul", "America/New_York"])
async def test_the_last_minute_wherever_the_server_stands(
    litellm_database: MakeDatabase, tmp_path: Path, zone: str
) -> None:
    """Times of rows are UTC whatever the database's TimeZone is."""
    url = litellm_database()
    with Tables(url) as tables:
        tables.run(f"ALTER DATABASE \"{url.rpartition('/')[2]}\" SET timezone = '{zone}'")
    clock = MinuteClock()
    whole(url, clock)
    async with LitellmWatch(reading(url), tmp_path, clock) as watch:
        await watch.works()
        key = {"model": "gpt-4o", "entity_type": "key", "entity_id": "k1"}
        assert watch.value("litellm_current_rpm", **key) == 2
        assert watch.value("litellm_current_tpm", **key) == 60
        assert watch.value("litellm_current_rpm", model="gpt-4o", entity_type="customer", entity_id="c1") == 1
        assert watch.value("litellm_parallel_requests", entity_type="key", entity_id="k1") == 4
        assert watch.value("litellm_parallel_requests", entity_type="user", entity_id="u1") == 4


@server
async def test_limits_come_from_the_entity_they_are_labelled_as(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """A team's budget is the team's and not a member's; customers are customers; organizations have theirs."""
    url = litellm_database()
    whole(url)
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.works()

        def budget(kind: str, id: str) -> tuple[float | None, ...]:
            names = ("litellm_max_budget", "litellm_budget_utilization", "litellm_remaining_budget")
            return tuple(watch.value(name, entity_type=kind, entity_id=id) for name in names)

        assert budget("team", "t1") == (1000.0, 50.0, 500.0)
        assert budget("user", "u1") == (20.0, 25.0, 15.0)
        assert budget("user", "c1") == (None, None, None)
        assert budget("customer", "c1") == (3.0, 150.0, -1.5)
        assert budget("member", "t1/u1") == (12.0, 50.0, 6.0)
        assert budget("organization", "acme") == (100.0, 40.0, 60.0)
        assert watch.value("litellm_soft_budget", entity_type="organization", entity_id="acme") == 80
        assert watch.value("litellm_max_parallel_requests", entity_type="organization", entity_id="acme") == 9
        assert watch.value("litellm_tpm_limit", entity_type="customer", entity_id="c1") == 5
        assert watch.value("litellm_tpm_limit", entity_type="user", entity_id="u1") == 100
        assert watch.value("litellm_rpm_limit", entity_type="organization", entity_id="acme") == 90


@server
async def test_what_changes_or_goes_does_not_stick(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """Blocked falls back to 0, a limit that is removed leaves, and so does everything of a deleted entity."""
    url = litellm_database()
    whole(url)
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.works()
        assert watch.value("litellm_blocked_status", entity_type="team", entity_id="t1") == 1
        assert watch.value("litellm_blocked_status", entity_type="customer", entity_id="c1") == 1
        assert watch.value("litellm_blocked_status", entity_type="key", entity_id="k1") == 1
        with Tables(url) as tables:
            tables.run("""UPDATE "LiteLLM_TeamTable" SET blocked = false, max_budget = NULL""")
            tables.run("""DELETE FROM "LiteLLM_VerificationToken" WHERE token = 'k1'""")
            await watch.works()
            assert watch.value("litellm_blocked_status", entity_type="team", entity_id="t1") == 0
            assert watch.value("litellm_max_budget", entity_type="team", entity_id="t1") is None
            assert watch.value("litellm_blocked_status", entity_type="key", entity_id="k1") is None
            assert watch.value("litellm_key_expiry", key_alias="bot") is None
            assert watch.value("litellm_key_hash_spend", key_hash="k1", key_alias="none") == 5.0  # its rows stand
            assert watch.value("litellm_key_spend_dollars_total", key_hash="k1", key_alias="none") == 5.0


@server
async def test_times_fall_below_zero(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """A reset that is overdue and a key that has expired show as negative seconds, in UTC."""
    url = litellm_database()
    whole(url)
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.works()
        overdue = watch.value("litellm_budget_reset_time", entity_type="key", entity_id="k1")
        assert overdue is not None and -120 < overdue <= -60
        due = watch.value("litellm_budget_reset_time", entity_type="organization", entity_id="acme")
        assert due is not None and DAY - 60 < due <= DAY
        expiry = watch.value("litellm_key_expiry", key_alias="none")
        assert expiry is not None and -DAY - 60 < expiry <= -DAY  # the earliest of two


@server
async def test_keys_that_share_labels(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """Keys without an alias share their labels: spend and budgets are summed; by hash they are apart."""
    url = litellm_database()
    whole(url)
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.works()
        shared = {"key_name": "sk-...abcd", "key_alias": "none"}
        assert watch.value("litellm_key_spend", **shared) == 5.0
        assert watch.value("litellm_key_spend", key_name="none", key_alias="none") == 0.0  # the master key failed only
        assert watch.value("litellm_key_hash_spend", key_hash="k2") == 2.5
        assert watch.value("litellm_key_hash_spend", key_hash="litellm_proxy_master_key") == 0.0
        assert watch.value("litellm_key_budget", **shared) == 1.0
        assert watch.value("litellm_key_budget_spend", **shared) == 0.25
        assert watch.value("litellm_key_budget_spend", key_alias="bot") == 2.5


@server
async def test_members_keys_and_models(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """Members and admins of a team, active and expired keys, available models: an empty list means all known."""
    url = litellm_database()
    whole(url)
    with Tables(url) as tables:
        tables.insert("LiteLLM_ProxyModelTable", model_id="m", model_name="claude", created_by="t", updated_by="t",
                      litellm_params={"model": "anthropic/claude-4"})  # fmt: skip
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.works()
        assert watch.value("litellm_member_count", team_id="t1", team_alias="search") == 2
        assert watch.value("litellm_admin_count", team_id="t1") == 1
        assert watch.value("litellm_active_keys", entity_type="user", entity_id="u1", entity_alias="Ann") == 2
        assert watch.value("litellm_expired_keys", entity_type="user", entity_id="u1") == 1
        assert watch.value("litellm_active_keys", entity_type="team", entity_id="t1") == 1
        assert watch.value("litellm_available_models", entity_type="user", entity_id="u1") == 1
        assert watch.value("litellm_available_models", entity_type="user", entity_id="u2") == 2  # claude, gpt-4o
        assert watch.value("litellm_model_info", model="claude", provider="anthropic", source="database") == 1
        assert watch.value("litellm_model_info", model="gpt-4o", provider="openai", source="log") == 1


@server
async def test_the_histogram_is_of_all_requests(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """litellm_request_duration_seconds counts every request of a model, by endTime - startTime."""
    url = litellm_database()
    whole(url)
    async with LitellmWatch(reading(url), tmp_path) as watch:
        await watch.works()
        assert watch.value("litellm_request_duration_seconds_count", model="gpt-4o") == 20
        assert watch.value("litellm_request_duration_seconds_sum", model="gpt-4o") == 12 * 1 + 8 * 20
        assert watch.value("litellm_request_duration_seconds_bucket", model="gpt-4o", le="1.0") == 12
        assert watch.value("litellm_request_duration_seconds_bucket", model="gpt-4o", le="20.0") == 20


@server
async def test_the_windows_of_the_settings_are_used(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """METRICS_SPEND_WINDOW, METRICS_REQUEST_WINDOW and METRICS_ERROR_WINDOW each bound their families, and no other."""
    url = litellm_database()
    whole(url)
    settings = reading(url, spend_window=86400, request_window=30 * 60, error_window=5 * 60)
    async with LitellmWatch(settings, tmp_path) as watch:
        await watch.works()
        assert watch.value("litellm_total_spend", model="gpt-4o") == 8.0
        assert watch.value("litellm_window_requests", model="gpt-4o", status="success") == 12
        assert watch.value("litellm_window_tokens", model="gpt-4o") == 360
        assert watch.value("litellm_window_request_rate", model="gpt-4o") == pytest.approx(12 / 1800)
        assert watch.value("litellm_window_errors", model="unknown") == 1
        assert watch.value("litellm_key_hash_spend", key_hash="k2") == 2.5  # 30 days always
