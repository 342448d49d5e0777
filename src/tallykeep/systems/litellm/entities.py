"""Keys, users, teams, organizations, members and customers: who may spend, how much, and who did.

Each kind is read from its own table, with what its budget row adds, and stays what it is: a member's budget is
not its team's, a customer is not a user. `spend` is LiteLLM's own account of the running budget cycle: it is
what LiteLLM holds against the budget, and is set to 0 at each reset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, NamedTuple

from tallykeep.systems.litellm.schema import Schema

KEY, USER, TEAM, ORGANIZATION, MEMBER, CUSTOMER = "key", "user", "team", "organization", "member", "customer"
NONE = "none"  # the label of a missing id or alias
ALL_MODELS = frozenset({"all-proxy-models", "all-team-models", "*"})
NO_MODELS = "no-default-models"


class Entity(NamedTuple):
    """One row of any kind, with the limits that hold for it. None: not set, or not a property of its kind."""

    kind: str
    id: str
    alias: str
    spend: float | None = None  # dollars in the running cycle
    max_budget: float | None = None  # dollars
    soft_budget: float | None = None  # dollars
    max_parallel: int | None = None
    tpm: int | None = None
    rpm: int | None = None
    reset: float | None = None  # Unix seconds of the next reset
    blocked: bool | None = None
    models: tuple[str, ...] | None = None  # () means every known model

    @property
    def labels(self) -> tuple[str, str, str]:
        """(entity_type, entity_id, entity_alias)."""
        return self.kind, self.id, self.alias


class Key(NamedTuple):
    """What a key is besides an entity. `hash` is its id: SHA-256 of the secret, never the secret."""

    hash: str
    name: str  # sk-...abcd
    alias: str
    user: str
    team: str
    organization: str
    expires: float | None  # Unix seconds


class Team(NamedTuple):
    """Who belongs to a team."""

    id: str
    alias: str
    organization: str
    members: int
    admins: int


@dataclass(frozen=True, slots=True)
class Entities:
    """Everybody, as of one moment."""

    all: tuple[Entity, ...] = ()
    keys: Mapping[str, Key] = field(default_factory=dict)  # by hash
    teams: Mapping[str, Team] = field(default_factory=dict)  # by id
    aliases: Mapping[tuple[str, str], str] = field(default_factory=dict)  # by (kind, id)
    models: tuple[tuple[str, str], ...] = ()  # (model, provider) configured in the database

    def alias(self, kind: str, id: str) -> str:
        """The present alias, "none" where there is none or the entity is gone."""
        return self.aliases.get((kind, id), NONE)

    def organization_of(self, own: str, team: str, key: str) -> str:
        """The organization a request counts for: its own, else that of its team, else that of its key."""
        if own:
            return own
        if team in self.teams and self.teams[team].organization:
            return self.teams[team].organization
        return self.keys[key].organization if key in self.keys else ""


_NULL = "NULL"


class _Columns:
    """Columns of one table as SQL, NULL where this schema lacks them."""

    def __init__(self, schema: Schema, table: str, letter: str) -> None:
        self._schema, self._table, self._letter = schema, table, letter

    def __getitem__(self, column: str) -> str:
        return f'{self._letter}."{column}"' if self._schema.has(self._table, column) else _NULL

    def __bool__(self) -> bool:
        return self._schema.has(self._table)


_BUDGET = "LiteLLM_BudgetTable"
_LIMITS = ("max_budget", "soft_budget", "max_parallel_requests", "tpm_limit", "rpm_limit", "budget_reset_at")


def _limits(own: _Columns, budget: _Columns) -> str:
    """The entity's own limits, each else that of its budget row. A budget's reset is LiteLLM's UTC."""
    found = []
    for column in _LIMITS:
        sources = [c for c in (own[column], budget[column] if budget else _NULL) if c != _NULL]
        value = f"COALESCE({', '.join(sources)})" if sources else _NULL
        found.append(f"extract(epoch FROM ({value})::timestamp)::float8" if column == "budget_reset_at" else value)
    return ", ".join(found)


def _statement(schema: Schema, table: str, id: str, alias: str, more: Iterable[str], blocked: str, models: str) -> str:
    own = _Columns(schema, table, "e")
    linked = schema.has(table, "budget_id") and schema.has(_BUDGET)
    budget = _Columns(schema, _BUDGET if linked else "", "b")
    join = f'LEFT JOIN "{_BUDGET}" b ON b.budget_id = e.budget_id' if linked else ""
    columns = ", ".join(
        [id, alias, own["spend"], _limits(own, budget), own[blocked], own[models], *(own[c] for c in more)]
    )
    return f'SELECT {columns} FROM "{table}" e {join}'  # noqa: S608  # names of this module only


class Kind(NamedTuple):
    """Where one kind of entity stands."""

    kind: str
    table: str
    id: str  # SQL
    alias: str  # SQL
    more: tuple[str, ...] = ()


KINDS = (
    Kind(KEY, "LiteLLM_VerificationToken", "e.token", "e.key_alias",
         ("key_name", "user_id", "team_id", "organization_id", "expires")),
    Kind(USER, "LiteLLM_UserTable", "e.user_id", "e.user_alias"),
    Kind(TEAM, "LiteLLM_TeamTable", "e.team_id", "e.team_alias",
         ("organization_id", "members_with_roles", "members", "admins")),
    Kind(ORGANIZATION, "LiteLLM_OrganizationTable", "e.organization_id", "e.organization_alias"),
    Kind(MEMBER, "LiteLLM_TeamMembership", "e.team_id || '/' || e.user_id", "e.user_id"),
    Kind(MEMBER, "LiteLLM_OrganizationMembership", "e.organization_id || '/' || e.user_id", "e.user_id"),
    Kind(CUSTOMER, "LiteLLM_EndUserTable", "e.user_id", "e.alias"),
)  # fmt: skip


def statements(schema: Schema) -> dict[Kind, str]:
    """One statement a kind whose table is there. Columns: id, alias, spend, the six limits, blocked, models, more."""
    return {
        kind: _statement(schema, kind.table, kind.id, kind.alias, kind.more, "blocked", "models")
        for kind in KINDS
        if schema.has(kind.table)
    }


def models_statement(schema: Schema) -> str | None:
    """Models configured in the database: name and provider where it can be read."""
    if not schema.has("LiteLLM_ProxyModelTable"):
        return None
    return (
        "SELECT DISTINCT m.model_name, COALESCE(m.litellm_params->>'custom_llm_provider', '') "
        'FROM "LiteLLM_ProxyModelTable" m'
    )


def gather(found: Mapping[Kind, Iterable[tuple[Any, ...]]], models: Iterable[tuple[str, str]]) -> Entities:
    """Everybody, from the rows of `statements` and `models_statement`."""
    everyone: list[Entity] = []
    keys: dict[str, Key] = {}
    teams: dict[str, Team] = {}
    for kind, rows in found.items():
        for row in rows:
            entity = _entity(kind.kind, row)
            everyone.append(entity)
            more = row[11:]
            if kind.kind == KEY:
                name, user, team, organization, expires = more
                keys[entity.id] = Key(
                    entity.id, name or NONE, entity.alias, user or "", team or "", organization or "", _unix(expires)
                )
            elif kind.kind == TEAM:
                teams[entity.id] = Team(entity.id, entity.alias, more[0] or "", *_members(*more[1:]))
    aliases = {(entity.kind, entity.id): entity.alias for entity in everyone}
    return Entities(tuple(everyone), keys, teams, aliases, tuple(sorted(models)))


def _entity(kind: str, row: tuple[Any, ...]) -> Entity:
    id, alias, spend, budget, soft, parallel, tpm, rpm, reset, blocked, models = row[:11]
    if blocked is None and kind in (KEY, TEAM, CUSTOMER):
        blocked = False  # LiteLLM's own reading of NULL
    allowed = tuple(models or ()) if kind in (KEY, USER, TEAM, ORGANIZATION) else None
    return Entity(kind, id, alias or NONE, spend, budget, soft, parallel, tpm, rpm, reset, blocked, allowed)


def _unix(moment: Any) -> float | None:
    """Unix seconds of a timestamp without a zone, which is UTC."""
    return None if moment is None else float(moment.replace(tzinfo=UTC).timestamp())


def _members(with_roles: Any, members: list[str] | None, admins: list[str] | None) -> tuple[int, int]:
    """(members, admins): from members_with_roles, which LiteLLM keeps, else from the older lists."""
    listed = json.loads(with_roles) if isinstance(with_roles, str) else with_roles
    if isinstance(listed, list) and listed:
        return len(listed), sum(1 for member in listed if isinstance(member, dict) and member.get("role") == "admin")
    return len({*(members or ()), *(admins or ())}), len(set(admins or ()))
