"""Keys, users, teams, organizations, members and customers: who may spend, how much, and who did.

Each kind is read from its own table, with what its budget row adds, and stays what it is: a member's budget is not
its team's, a customer is not a user. An entity's own limit goes before that of its budget row, as LiteLLM has it.
`spend` is LiteLLM's own account of the running budget cycle: what it holds against the budget, set back at each
reset. A member of an organization has none: LiteLLM never resets it, and for long did not write it.

Source: LiteLLM's schema.prisma, proxy/auth/auth_checks.py, proxy/common_utils/reset_budget_job.py (1.109).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

KEY, USER, TEAM, ORGANIZATION, MEMBER, CUSTOMER = "key", "user", "team", "organization", "member", "customer"
NONE = "none"  # the label of a missing id or alias
WHOLE_PROXY = "litellm-proxy-budget"  # a row of the user table that stands for the whole proxy's budget


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
    models: tuple[str, ...] | None = None  # as listed; () means every known model

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
    models: tuple[str, ...] = ()  # as listed


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


class Kind(NamedTuple):
    """Where one kind of entity stands."""

    kind: str
    table: str
    id: str  # SQL
    alias: str  # SQL
    has: tuple[str, ...] = ()  # which of spend, blocked and models mean something


KINDS = (
    Kind(KEY, "LiteLLM_VerificationToken", "e.token", "e.key_alias", ("spend", "blocked", "models")),
    Kind(USER, "LiteLLM_UserTable", "e.user_id", "e.user_alias", ("spend", "models")),
    Kind(TEAM, "LiteLLM_TeamTable", "e.team_id", "e.team_alias", ("spend", "blocked", "models")),
    Kind(
        ORGANIZATION,
        "LiteLLM_OrganizationTable",
        "e.organization_id",
        "e.organization_alias",
        ("spend", "models"),
    ),
    Kind(MEMBER, "LiteLLM_TeamMembership", "e.team_id || '/' || e.user_id", "e.user_id", ("spend",)),
    Kind(MEMBER, "LiteLLM_OrganizationMembership", "e.organization_id || '/' || e.user_id", "e.user_id"),
    Kind(CUSTOMER, "LiteLLM_EndUserTable", "e.user_id", "e.alias", ("spend", "blocked")),
)
