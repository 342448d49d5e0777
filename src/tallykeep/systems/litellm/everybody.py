"""Reading everybody: a statement a table, built from what the schema has, and its rows as entities.

What did not change since the last reading stays the same object, so that whoever shows it need not look again.

Source: LiteLLM's schema.prisma; timestamps are UTC without a zone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tallykeep.systems.litellm.database import Session
from tallykeep.systems.litellm.entities import (
    KEY,
    KINDS,
    MEMBER,
    NONE,
    TEAM,
    Entities,
    Entity,
    Key,
    Kind,
    Team,
)
from tallykeep.systems.litellm.schema import Schema

Row = tuple[Any, ...]


_NULL = "NULL"
_BUDGET = "LiteLLM_BudgetTable"
_LIMITS = ("max_budget", "soft_budget", "max_parallel_requests", "tpm_limit", "rpm_limit")


class _Columns:
    """Columns of one table as SQL, NULL where this schema lacks them."""

    def __init__(self, schema: Schema, table: str, letter: str) -> None:
        self._schema, self._table, self._letter = schema, table, letter

    def __getitem__(self, column: str) -> str:
        return f'{self._letter}."{column}"' if self._schema.has(self._table, column) else _NULL


def _seconds(moment: str) -> str:
    """A time in Unix seconds; LiteLLM stores UTC without a zone."""
    return f"extract(epoch FROM {moment})::float8" if moment != _NULL else f"{_NULL}::float8"


def _first(*values: str) -> str:
    there = [value for value in values if value != _NULL]
    return f"COALESCE({', '.join(there)})" if there else _NULL


def statements(schema: Schema) -> dict[Kind, str]:
    """One statement a kind whose table is there. Columns: id, alias, spend, five limits, reset, blocked, models (as
    JSON); of a key then: name, user, team, organization, expiry; of a team: organization, members, admins."""
    return {kind: _statement(schema, kind) for kind in KINDS if schema.has(kind.table)}


def _statement(schema: Schema, kind: Kind) -> str:
    own = _Columns(schema, kind.table, "e")
    linked = schema.has(kind.table, "budget_id") and schema.has(_BUDGET, "budget_id")
    budget = _Columns(schema, _BUDGET if linked else "", "b")
    join = f'LEFT JOIN "{_BUDGET}" b ON b.budget_id = e.budget_id' if linked else ""
    spend, blocked, models = (own[c] if c in kind.has else _NULL for c in ("spend", "blocked", "models"))
    alias = kind.alias
    if kind.kind == MEMBER:
        alias = "u.user_alias"
        join += ' LEFT JOIN "LiteLLM_UserTable" u ON u.user_id = e.user_id'
    columns = [
        kind.id,
        alias,
        spend,
        *(_first(own[c], budget[c]) for c in _LIMITS),
        _seconds(_first(own["budget_reset_at"], budget["budget_reset_at"])),
        f"COALESCE({blocked}, false)" if blocked != _NULL else _NULL,  # as LiteLLM reads NULL
        f"COALESCE(to_json({models})::text, '[]')" if models != _NULL else _NULL,
    ]
    if kind.kind == KEY:
        columns += [own[c] for c in ("key_name", "user_id", "team_id", "organization_id")]
        columns.append(_seconds(own["expires"]))
    if kind.kind == TEAM:
        columns += [own["organization_id"], *_members(schema, own)]
    return f'SELECT {", ".join(columns)} FROM "{kind.table}" e {join}'  # noqa: S608  # names of this module only


def _members(schema: Schema, own: _Columns) -> tuple[str, str]:
    """Members and admins of a team: from members_with_roles, which LiteLLM keeps, else from the older lists."""
    listed = own["members_with_roles"]
    array = f"CASE WHEN jsonb_typeof({listed}) = 'array' THEN {listed} ELSE '[]' END"
    admins = _older(schema, "admins")
    members = " || ".join([admins, _older(schema, "members")])
    all_of, chiefs = (f"(SELECT count(DISTINCT m) FROM unnest({lists}) m)" for lists in (members, admins))  # noqa: S608
    if listed == _NULL:
        return all_of, chiefs
    any_listed = f"jsonb_array_length({array}) > 0"
    counted = f"(SELECT count(*) FROM jsonb_array_elements({array}) m WHERE m->>'role' = 'admin')"  # noqa: S608
    return (
        f"CASE WHEN {any_listed} THEN jsonb_array_length({array}) ELSE {all_of} END",
        f"CASE WHEN {any_listed} THEN {counted} ELSE {chiefs} END",
    )


def _older(schema: Schema, column: str) -> str:
    there = schema.has("LiteLLM_TeamTable", column)
    return f"COALESCE(e.{column}, ARRAY[]::text[])" if there else "ARRAY[]::text[]"


def models_statement(schema: Schema) -> str | None:
    """Models configured in the database: name and provider, which may be encrypted and is then left out."""
    if not schema.has("LiteLLM_ProxyModelTable", "model_name"):
        return None
    params = _Columns(schema, "LiteLLM_ProxyModelTable", "m")["litellm_params"]
    provider = f"COALESCE({params}->>'custom_llm_provider', '')" if params != _NULL else "''"
    model = f"COALESCE({params}->>'model', '')" if params != _NULL else "''"
    return f'SELECT DISTINCT m.model_name, {provider}, {model} FROM "LiteLLM_ProxyModelTable" m'  # noqa: S608


@dataclass(frozen=True, slots=True)
class Part:
    """Everybody of one table, as long as its rows stay what they are."""

    rows: Sequence[Row]
    entities: tuple[Entity, ...]
    aliases: Mapping[tuple[str, str], str]  # by (kind, id)
    keys: Mapping[str, Key]
    teams: Mapping[str, Team]

    @classmethod
    def of(cls, kind: Kind, rows: Sequence[Row]) -> Part:
        """From the rows of its statement."""
        entities = tuple(_entity(kind.kind, row) for row in rows)
        keys = [_key(row) for row in rows] if kind.kind == KEY else []
        teams = [_team(row) for row in rows] if kind.kind == TEAM else []
        aliases = {(entity.kind, entity.id): entity.alias for entity in entities}
        return cls(rows, entities, aliases, {key.hash: key for key in keys}, {team.id: team for team in teams})


class Everybody:
    """Reads everybody, and remembers the last reading."""

    def __init__(self) -> None:
        self._parts: dict[Kind, Part] = {}
        self._models: list[Row] = []
        self._entities = Entities()

    async def read(self, session: Session, schema: Schema) -> Entities:
        """All entities of one moment."""
        found = {kind: await session.rows(statement) for kind, statement in statements(schema).items()}
        models = models_statement(schema)
        return self.gather(found, await session.rows(models) if models else [])

    def gather(self, found: Mapping[Kind, Sequence[Row]], models: Sequence[Row]) -> Entities:
        """Everybody, from the rows of `statements` and `models_statement`; the same object if nothing changed."""
        old = self._parts
        self._parts = {
            kind: old[kind] if kind in old and old[kind].rows == rows else Part.of(kind, rows)
            for kind, rows in found.items()
        }
        same = old.keys() == found.keys() and all(old[kind] is part for kind, part in self._parts.items())
        if not same or models != self._models:
            self._models = list(models)
            self._entities = _joined(self._parts, models)
        return self._entities


def _joined(parts: Mapping[Kind, Part], models: Sequence[Row]) -> Entities:
    everyone = tuple(entity for part in parts.values() for entity in part.entities)
    aliases: dict[tuple[str, str], str] = {}
    keys: dict[str, Key] = {}
    teams: dict[str, Team] = {}
    for part in parts.values():
        aliases.update(part.aliases)
        keys.update(part.keys)
        teams.update(part.teams)
    if len(aliases) < len(everyone):  # a team and an organization share an id, and a member: the team's stands
        everyone = tuple({(entity.kind, entity.id): entity for entity in reversed(everyone)}.values())[::-1]
    configured = {(name, _provider(provider, model)) for name, provider, model in models if name}
    return Entities(everyone, keys, teams, aliases, tuple(sorted(configured)))


async def read_everybody(session: Session, schema: Schema) -> Entities:
    """All entities of one moment, read once."""
    return await Everybody().read(session, schema)


def _entity(kind: str, row: Row) -> Entity:
    id, alias, spend, budget, soft, parallel, tpm, rpm, reset, blocked, models = row[:11]
    allowed = None if models is None else _listed(models)
    return Entity(kind, id, alias or NONE, spend, budget, soft, parallel, tpm, rpm, reset, blocked, allowed)


def _key(row: Row) -> Key:
    name, user, team, organization, expires = row[11:]
    return Key(row[0], name or NONE, row[1] or NONE, user or "", team or "", organization or "", expires)


def _team(row: Row) -> Team:
    organization, members, admins = row[11:]
    return Team(row[0], row[1] or NONE, organization or "", members, admins, _listed(row[10] or "[]"))


@lru_cache(4096)
def _listed(models: str) -> tuple[str, ...]:
    return tuple(name for name in json.loads(models) if name)


_PROVIDER = re.compile(r"[a-z][a-z0-9_.-]{0,39}")


def _provider(named: str, model: str) -> str:
    """The provider as configured, else the part before the first slash, as LiteLLM reads it; "" where encrypted."""
    told = named or (model.partition("/")[0] if "/" in model else "")
    return told if _PROVIDER.fullmatch(told) else ""
