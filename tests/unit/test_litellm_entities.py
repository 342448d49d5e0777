"""Everybody: rows of the tables as entities, and entities as samples."""

from __future__ import annotations

from math import inf

import pytest

from tallykeep.metrics import Sample
from tallykeep.systems.litellm.entities import CUSTOMER, KEY, KINDS, MEMBER, NONE, ORGANIZATION, TEAM, USER, Entities
from tallykeep.systems.litellm.everybody import Everybody, Row, statements
from tallykeep.systems.litellm.schema import Schema
from tallykeep.systems.litellm.states import States, key_counts, utilization

BY_TABLE = {kind.table.removeprefix("LiteLLM_"): kind for kind in KINDS}
NOTHING = (None,) * 5


def row(
    id: str, alias: str | None = None, spend: float | None = 0.0, limits: tuple[object, ...] = NOTHING,
    reset: float | None = None, blocked: bool | None = None, models: str | None = "[]", *more: object,
) -> Row:  # fmt: skip
    return (id, alias, spend, *limits, reset, blocked, models, *more)


def key(
    id: str, *, user: str = "", team: str = "", organization: str = "", expires: float | None = None,
    models: str = "[]", budget: float | None = None, spend: float = 0.0,
) -> Row:  # fmt: skip
    limits = (budget, *NOTHING[1:])
    return row(id, None, spend, limits, None, False, models, "sk-...1234", user, team, organization, expires)


def team(id: str, members: int = 0, admins: int = 0, models: str = "[]", organization: str = "") -> Row:
    return row(id, f"{id}'s", 0.0, NOTHING, None, False, models, organization, members, admins)


def gathered(models: tuple[Row, ...] = (), **tables: list[Row]) -> Entities:
    return Everybody().gather({BY_TABLE[table]: rows for table, rows in tables.items()}, models)


def shown(everybody: Entities, *known: str) -> dict[tuple[str, ...], float]:
    """Samples by (family, *labels)."""
    states = States()
    states.update(everybody, frozenset(known))
    found: dict[tuple[str, ...], float] = {}
    for family, labels, value in states.samples(0.0):
        assert isinstance(value, float)
        assert (family.name, *labels) not in found, "a series stands twice"
        found[family.name, *labels] = value
    return found


def test_missing_names_are_none() -> None:
    """An alias or key name that is not set is "none"."""
    everybody = gathered(UserTable=[row("u")], VerificationToken=[(*row("k", None), None, None, None, None, None)])
    assert everybody.alias(USER, "u") == NONE
    assert everybody.keys["k"].name == everybody.keys["k"].alias == NONE
    assert everybody.alias(TEAM, "never there") == NONE


def test_organization_of_a_request() -> None:
    """Its own goes first, then that of its team, then that of its key, as far as each is known."""
    everybody = gathered(
        TeamTable=[team("t", organization="of team"), team("plain")],
        VerificationToken=[key("k", organization="of key")],
    )
    assert everybody.organization_of("own", "t", "k") == "own"
    assert everybody.organization_of("", "t", "k") == "of team"
    assert everybody.organization_of("", "plain", "k") == "of key"
    assert everybody.organization_of("", "gone", "gone") == ""


def test_a_budget_of_zero() -> None:
    """Of a budget of 0 nothing is 0 % and anything more than all of it."""
    assert utilization(0.0, 0.0) == 0.0
    assert utilization(0.01, 0.0) == inf
    assert utilization(30.0, 20.0) == 150.0


def test_only_what_is_set_is_shown() -> None:
    """A limit that is not set has no series; blocked has one for the kinds that can be, and for no other."""
    customers = [row("c", None, 1.0, NOTHING, None, False, None)]
    found = shown(gathered(UserTable=[row("u")], EndUserTable=customers))
    assert ("litellm_blocked_status", CUSTOMER, "c", NONE) in found
    assert not [series for series in found if "budget" in series[0] or "limit" in series[0]]
    assert ("litellm_blocked_status", USER, "u", NONE) not in found
    assert ("litellm_available_models", CUSTOMER, "c", NONE) not in found


def test_spend_that_is_not_kept_is_not_compared() -> None:
    """A budget without a spend column that means something has no utilization and no rest."""
    found = shown(gathered(OrganizationMembership=[row("o/u", None, None, (5.0, *NOTHING[1:]), None, None, None)]))
    assert found == {("litellm_max_budget", MEMBER, "o/u", NONE): 5.0}


def test_a_member_of_a_team_and_an_organization_of_one_id() -> None:
    """Two rows under one id would be one series twice, which Prometheus refuses: the team's stands."""
    limits = (5.0, *NOTHING[1:])
    found = shown(
        gathered(
            TeamMembership=[row("a/u", "Ann", 1.0, limits, None, None, None)],
            OrganizationMembership=[row("a/u", "Ann", None, (9.0, *NOTHING[1:]), None, None, None)],
        )
    )
    assert found["litellm_max_budget", MEMBER, "a/u", "Ann"] == 5.0


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ("[]", 3),
        ('["all-proxy-models"]', 3),
        ('["*"]', 3),
        ('["gpt-4o"]', 1),
        ('["gpt-4o", "gpt-4o", "claude", ""]', 2),
        ('["no-default-models"]', 0),
        ('["no-default-models", "gpt-4o"]', 1),
        ('["all-team-models"]', 2),
        ('["all-team-models", "mine"]', 3),
        ('["openai/*"]', 1),
    ],
)
def test_models_of_a_key(models: str, expected: int) -> None:
    """An empty list and the names that say all mean every known model; a key may have those of its team."""
    everybody = gathered(
        TeamTable=[team("t", models='["gpt-4o", "claude"]')], VerificationToken=[key("k", team="t", models=models)]
    )
    assert shown(everybody, "gpt-4o", "claude", "mistral")["litellm_available_models", KEY, "k", NONE] == expected


def test_team_models_without_a_team() -> None:
    """all-team-models of a key without a team, and of a team that allows all, are all."""
    everybody = gathered(
        TeamTable=[team("t")],
        VerificationToken=[key("k", models='["all-team-models"]'), key("l", team="t", models='["all-team-models"]')],
    )
    found = shown(everybody, "a", "b")
    assert found["litellm_available_models", KEY, "k", NONE] == 2
    assert found["litellm_available_models", KEY, "l", NONE] == 2


def test_keys_that_share_name_and_alias() -> None:
    """Budgets and spend are summed, expiry is the earliest, and by hash they are apart."""
    keys = [key("a", budget=1.0, spend=0.5, expires=200.0), key("b", budget=2.0, spend=0.25, expires=100.0), key("c")]
    found = shown(gathered(VerificationToken=keys))
    shared = ("sk-...1234", NONE)
    assert found["litellm_key_budget", *shared] == 3.0
    assert found["litellm_key_budget_spend", *shared] == 0.75
    assert found["litellm_key_expiry", *shared] == 100.0
    assert found["litellm_key_hash_expiry_seconds", "a", *shared] == 200.0


def test_active_and_expired_keys() -> None:
    """A key counts for each of its user, team and organization, from the moment of its expiry on as expired."""
    everybody = gathered(
        UserTable=[row("u", "Ann")],
        VerificationToken=[
            key("a", user="u", team="t", expires=100.0),
            key("b", user="u", expires=101.0),
            key("c", user="u"),
            key("d"),
        ],
    )
    found = {(sample.family.name, *sample.labels): sample.value for sample in key_counts(everybody, 100.0)}
    assert found["litellm_active_keys", USER, "u", "Ann"] == 2
    assert found["litellm_expired_keys", USER, "u", "Ann"] == 1
    assert found["litellm_active_keys", TEAM, "t", NONE] == 0
    assert found["litellm_expired_keys", TEAM, "t", NONE] == 1
    assert not [labels for labels in found if ORGANIZATION in labels]


def test_configured_models() -> None:
    """A model's provider is the one configured, or what stands before the slash; ciphertext is neither."""
    everybody = gathered(
        (("a", "azure", "x"), ("b", "", "openai/gpt-4o"), ("c", "gAAAAB" * 20, "gAAAAB/x"), ("", "openai", "")),
    )
    assert everybody.models == (("a", "azure"), ("b", "openai"), ("c", ""))


def test_what_did_not_change_is_the_same_object() -> None:
    """The same rows give the same entities, so that nothing is made anew; a changed row changes only its table's."""
    reading = Everybody()
    users, teams = BY_TABLE["UserTable"], BY_TABLE["TeamTable"]
    first = reading.gather({users: [row("u")], teams: [team("t")]}, [])
    assert reading.gather({users: [row("u")], teams: [team("t")]}, []) is first
    second = reading.gather({users: [row("u", "Ann")], teams: [team("t")]}, [])
    assert second is not first
    assert second.all[1] is first.all[1]
    assert reading.gather({teams: [team("t")]}, []).all == (first.all[1],)


def test_samples_follow_changes() -> None:
    """A changed entity changes its own samples; one that is gone takes them with it; a new model counts for all."""
    reading, states = Everybody(), States()
    users = BY_TABLE["UserTable"]

    def now(rows: list[Row], *known: str) -> set[Sample]:
        states.update(reading.gather({users: rows}, []), frozenset(known))
        return set(states.samples(0.0))

    limited = row("u", None, 0.0, (None, None, None, 7, None))
    first = now([row("a"), limited], "m")
    assert len([s for s in first if s.family.name == "litellm_tpm_limit"]) == 1
    assert now([row("a"), limited], "m") == first
    assert {s.labels[1] for s in now([limited], "m")} == {"u"}
    assert {s.value for s in now([limited], "m", "n") if s.family.name == "litellm_available_models"} == {2.0}


def test_a_key_expires_while_nothing_else_changes() -> None:
    """Counts of active and expired keys follow the clock."""
    states = States()
    states.update(gathered(VerificationToken=[key("a", user="u", expires=100.0), key("b", user="u")]), frozenset())

    def active(now: float) -> list[object]:
        return [sample.value for sample in states.samples(now) if sample.family.name == "litellm_active_keys"]

    assert (active(99.0), active(100.0), active(101.0)) == ([2.0], [1.0], [1.0])


def test_statements_leave_out_what_is_not_there() -> None:
    """Without budgets, and without any but the ids, statements are still made: what lacks is NULL."""
    schema = Schema({kind.table: frozenset({"token", "user_id", "team_id", "organization_id"}) for kind in KINDS})
    for kind, statement in statements(schema).items():
        assert "LiteLLM_BudgetTable" not in statement
        assert statement.count("NULL") >= 7, kind
