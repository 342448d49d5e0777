"""Who spends in the demo's LiteLLM: models, organizations, teams, users, keys, members and customers.

As awkward as real ones: two keys that cannot be told apart by name and alias, one expired, one blocked, one deleted
that still has rows; users in several teams; teams without an organization whose keys have one; aliases that a
metrics page must escape. The same seed makes the same world.

Not here: what they do (litellm_rows.py), what it adds up to (litellm_account.py).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

DAY_MS = 86_400_000
MASTER_KEY = "litellm_proxy_master_key"  # what LiteLLM writes for requests with the master key
_AWKWARD = ('quo"ted', "two\nlines", "back\\slash", "emoji 🦊", "brace } and {", "x" * 300, "tab\there")
_DURATIONS = {"1d": 1, "7d": 7, "30d": 30}  # budget_duration -> days


class Model(NamedTuple):
    """What a request asked for. Prices in pico-dollars a token."""

    name: str
    provider: str
    group: str
    prompt: int
    completion: int
    caches: bool = False  # tells cache reads and creations apart
    reasons: bool = False  # tells reasoning tokens apart


MODELS = (
    Model("gpt-4o", "openai", "gpt-4o", 2_500_000, 10_000_000, caches=True),
    Model("gpt-4o", "azure", "gpt-4o", 2_500_000, 10_000_000),
    Model("gpt-4o-mini", "openai", "small", 150_000, 600_000, caches=True),
    Model("o3", "openai", "thinking", 2_000_000, 8_000_000, reasons=True),
    Model("claude-sonnet-4-5", "anthropic", "claude", 3_000_000, 15_000_000, caches=True),
    Model("claude-haiku-4-5", "anthropic", "small", 1_000_000, 5_000_000, caches=True),
    Model("bedrock/claude-sonnet-4-5", "bedrock", "claude", 3_000_000, 15_000_000),
    Model("gemini-2.5-pro", "vertex_ai", "gemini", 1_250_000, 10_000_000, reasons=True),
    Model("gemini-2.5-flash", "gemini", "small", 37_500, 300_000),  # half a nano-dollar a token
    Model("mistral-large", "mistral", "mistral", 2_000_000, 6_000_000),
    Model("text-embedding-3-small", "openai", "embedding", 20_000, 0),
    Model("llama-3.3-70b", "hosted_vllm", "llama", 0, 0),  # costs nothing
)
UNKNOWN_MODEL = Model("", "", "", 0, 0)  # a request that failed before a model was found


class Budget(NamedTuple):
    """A row of the table of budgets; `days` of a cycle, 0 for a budget that never resets."""

    id: str
    amount: float | None
    soft: float | None = None
    days: int = 0
    tpm: int | None = None
    rpm: int | None = None
    parallel: int | None = None


class Who(NamedTuple):
    """Whose request a row is, as the row has it. None is NULL, which LiteLLM writes as often as ''."""

    key: str
    user: str | None
    team: str | None
    organization: str | None  # the row's own
    customer: str | None
    resolved: str  # the organization the request counts for, where the schema has the row's own
    resolved_old: str  # the same where it has not
    metadata: str  # JSON members that LiteLLM repeats in every row's metadata


class Size(NamedTuple):
    """How many of each."""

    organizations: int = 3
    teams: int = 8
    users: int = 40
    keys: int = 80
    customers: int = 25


SMALL = Size()
LARGE = Size(organizations=5, teams=40, users=500, keys=1000, customers=2000)

Row = dict[str, Any]


@dataclass(slots=True)
class World:
    """The entities, as rows of their tables by table, and everybody a request can be of."""

    now: int  # milliseconds, when the world was made
    tables: dict[str, list[Row]] = field(default_factory=dict)
    who: list[Who] = field(default_factory=list)
    cycles: dict[tuple[str, str], int] = field(default_factory=dict)  # (table, id) -> start of the cycle, milliseconds
    members: set[str] = field(default_factory=set)  # "team/user"

    @classmethod
    def make(cls, now: int, size: Size = SMALL, seed: int = 0) -> World:
        """The world of that size and seed."""
        rng = random.Random(f"world {seed}")
        world = cls(now)
        _Making(world, rng, size).everything()
        return world


def at(milliseconds: int) -> datetime:
    """The moment as LiteLLM stores it: UTC, without a zone."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None)


class _Making:
    def __init__(self, world: World, rng: random.Random, size: Size) -> None:
        self.world, self.rng, self.size = world, rng, size
        self.budgets = 0

    def everything(self) -> None:
        self.models()
        self.organizations()
        self.teams()
        self.users()
        self.memberships()
        self.customers()
        self.keys()
        self.requesters()

    def add(self, table: str, **row: Any) -> None:
        self.world.tables.setdefault(table, []).append(row)

    def alias(self, kind: str, number: int) -> str | None:
        """Mostly plain, a few awkward, a few missing."""
        if number % 11 == 7:
            return None
        return f"{kind} {_AWKWARD[number % len(_AWKWARD)]}" if number % 5 == 3 else f"{kind}-{number}"

    def cycle(self, table: str, id: str) -> Row:
        """Columns of a budget cycle; the next reset lies ahead, in UTC."""
        duration = self.rng.choice((*_DURATIONS, None))
        if duration is None:
            return {"budget_duration": None, "budget_reset_at": None}
        length = _DURATIONS[duration] * DAY_MS
        reset = self.world.now + self.rng.randrange(60_000, length)
        self.world.cycles[table, id] = reset - length
        return {"budget_duration": duration, "budget_reset_at": at(reset)}

    def limits(self) -> Row:
        choose = self.rng.choice
        return {
            "tpm_limit": choose((None, 10_000, 5_000_000_000)),
            "rpm_limit": choose((None, 60, 600)),
            "max_parallel_requests": choose((None, 5, 50)),
        }

    def amount(self) -> float | None:
        return self.rng.choice((None, 0.5, 12.0, 1000.0, 25_000.0, 0.0 if self.rng.random() < 0.1 else 100.0))

    def budget(self, kind: str, table: str, id: str) -> str:
        """A row of the table of budgets, for one entity."""
        self.budgets += 1
        name = f"budget-{kind}-{self.budgets}"
        amount = self.amount()
        self.add(
            "LiteLLM_BudgetTable", budget_id=name, max_budget=amount, soft_budget=amount and amount * 0.8,
            **self.limits(), **self.cycle(table, id), created_by="demo", updated_by="demo",
        )  # fmt: skip
        return name

    def models(self) -> None:
        for number, model in enumerate(MODELS):
            parameters = {"model": f"{model.provider}/{model.name}", "custom_llm_provider": model.provider}
            self.add(
                "LiteLLM_ProxyModelTable", model_id=f"model-{number}", model_name=model.group,
                litellm_params=json.dumps(parameters), created_by="demo", updated_by="demo",
            )  # fmt: skip

    def organizations(self) -> None:
        for number in range(self.size.organizations):
            id = f"org-{number}"
            budget = self.budget("org", "LiteLLM_OrganizationTable", id)
            self.add(
                "LiteLLM_OrganizationTable", organization_id=id, organization_alias=self.alias("org", number) or "",
                budget_id=budget, models=self.allowed(), created_by="demo", updated_by="demo",
            )  # fmt: skip

    def allowed(self) -> list[str]:
        every = sorted({model.group for model in MODELS})
        return self.rng.choice(([], ["all-proxy-models"], every[:3], ["no-default-models"], every[:1]))

    def teams(self) -> None:
        for number in range(self.size.teams):
            id = f"team-{number}"
            organization = f"org-{number % self.size.organizations}" if number % 3 else None
            amount = self.amount()
            self.add(
                "LiteLLM_TeamTable", team_id=id, team_alias=self.alias("team", number), organization_id=organization,
                max_budget=amount, soft_budget=amount and amount * 0.9, models=self.allowed(), blocked=number == 5,
                **self.limits(), **self.cycle("LiteLLM_TeamTable", id),
            )  # fmt: skip

    def users(self) -> None:
        for number in range(self.size.users):
            id = f"user-{number}"
            self.add(
                "LiteLLM_UserTable", user_id=id, user_alias=self.alias("user", number), teams=self.teams_of(number),
                user_email=f"user{number}@example.com", max_budget=self.amount(), models=self.allowed(),
                **self.limits(), **self.cycle("LiteLLM_UserTable", id),
            )  # fmt: skip

    def teams_of(self, user: int) -> list[str]:
        """Every third user is in three teams, every seventh in none."""
        if user % 7 == 6:
            return []
        count = 3 if user % 3 == 0 else 1
        return sorted({f"team-{(user * 5 + step * 3) % self.size.teams}" for step in range(count)})

    def memberships(self) -> None:
        for team in self.world.tables["LiteLLM_TeamTable"]:
            id = team["team_id"]
            users = [user["user_id"] for user in self.world.tables["LiteLLM_UserTable"] if id in user["teams"]]
            roles = [{"role": "user" if place else "admin", "user_id": user} for place, user in enumerate(users)]
            team["members_with_roles"] = json.dumps(roles)
            for user in users:
                member = f"{id}/{user}"
                self.world.members.add(member)
                budget = self.rng.random() < 0.3 and self.budget("member", "LiteLLM_TeamMembership", member)
                self.add("LiteLLM_TeamMembership", user_id=user, team_id=id, budget_id=budget or None)
        for number in range(0, self.size.users, 4):
            organization = f"org-{number % self.size.organizations}"
            budget = self.budget("org-member", "LiteLLM_OrganizationMembership", f"{organization}/user-{number}")
            self.add(
                "LiteLLM_OrganizationMembership", user_id=f"user-{number}", organization_id=organization,
                user_role="internal_user", budget_id=budget,
            )  # fmt: skip

    def customers(self) -> None:
        for number in range(self.size.customers):
            id = f"customer-{number}"
            budget = number % 4 == 0 and self.budget("customer", "LiteLLM_EndUserTable", id)
            self.add(
                "LiteLLM_EndUserTable", user_id=id, alias=self.alias("customer", number), budget_id=budget or None,
                blocked=number == 3,
            )  # fmt: skip

    def keys(self) -> None:
        for number in range(self.size.keys):
            self.add("LiteLLM_VerificationToken", **self.key(number))

    def key(self, number: int) -> Row:
        token = key_hash(number)
        user = f"user-{number % self.size.users}" if number % 6 else None
        teams = self.teams_of(number % self.size.users)
        team = self.rng.choice(teams) if teams and number % 4 else None
        organization = f"org-{number % self.size.organizations}" if number % 5 == 0 else None
        twin = number in (1, 2)  # these two cannot be told apart by name and alias
        budget = number % 9 == 4 and self.budget("key", "LiteLLM_VerificationToken", token)
        own = {"max_budget": None} if budget else {"max_budget": self.amount()}
        cycle = {} if budget else self.cycle("LiteLLM_VerificationToken", token)
        return {
            "token": token, "key_name": "sk-...twin" if twin else f"sk-...{token[-4:]}",
            "key_alias": "the twins" if twin else self.alias("key", number), "user_id": user, "team_id": team,
            "organization_id": organization, "models": self.allowed(), "blocked": {0: None, 4: True}.get(number, False),
            "expires": self.expiry(number), "budget_id": budget or None, **own, **cycle,
            **({} if budget else self.limits()),
        }  # fmt: skip

    def expiry(self, number: int) -> datetime | None:
        if number == 3:
            return at(self.world.now - 3 * DAY_MS)
        return at(self.world.now + number * DAY_MS) if number % 8 == 1 else None

    # --- who sends requests

    def requesters(self) -> None:
        keys = {key["token"]: key for key in self.world.tables["LiteLLM_VerificationToken"]}
        self.of_team = {t["team_id"]: t["organization_id"] for t in self.world.tables["LiteLLM_TeamTable"]}
        for number, key in enumerate(keys.values()):
            for variant in range(3):
                customer = f"customer-{(number * 3 + variant) % self.size.customers}" if variant == 2 else ""
                own = key["organization_id"] or self.of_team.get(key["team_id"])
                row_has_it = variant != 1  # rows written before the column existed
                self.requester(key["token"], key, own if row_has_it else None, customer)
        gone = {
            "key_name": None,
            "key_alias": "gone",
            "user_id": "user-1",
            "team_id": "team-1",
            "organization_id": None,
        }
        self.requester(key_hash(-1), gone, None, None)  # a deleted key
        self.requester(key_hash(-2), {**gone, "team_id": "team-deleted", "user_id": "user-deleted"}, "org-deleted", "")
        nobody = {
            "key_name": None,
            "key_alias": None,
            "user_id": "default_user_id",
            "team_id": "",
            "organization_id": "",
        }
        self.requester(MASTER_KEY, nobody, None, "")
        self.requester("", {**nobody, "user_id": ""}, "", None)

    def requester(self, token: str, key: Mapping[str, Any], own: str | None, customer: str | None) -> None:
        known = any(token == k["token"] for k in self.world.tables["LiteLLM_VerificationToken"][-self.size.keys :])
        old = self.of_team.get(key["team_id"]) or (known and key["organization_id"]) or ""
        missing = "" if len(self.world.who) % 2 else None  # LiteLLM writes either
        repeated = {
            "user_api_key": token, "user_api_key_alias": key["key_alias"], "user_api_key_team_id": key["team_id"],
            "user_api_key_user_id": key["user_id"], "user_api_key_org_id": own, "requester_ip_address": "10.0.0.7",
        }  # fmt: skip
        user, team = key["user_id"] or missing, key["team_id"] or missing
        members = json.dumps(repeated)[1:-1]
        self.world.who.append(Who(token, user, team, own, customer, own or old, old, members))


def key_hash(number: int) -> str:
    """SHA-256 of a secret, as LiteLLM stores keys."""
    return hashlib.sha256(f"sk-demo-{number}".encode()).hexdigest()


def rows_of(world: World) -> Iterator[tuple[str, list[Row]]]:
    """(table, rows) in an order that foreign keys allow."""
    first = ("LiteLLM_BudgetTable", "LiteLLM_OrganizationTable", "LiteLLM_TeamTable", "LiteLLM_UserTable")
    for table in (*first, *(table for table in world.tables if table not in first)):
        yield table, world.tables[table]
