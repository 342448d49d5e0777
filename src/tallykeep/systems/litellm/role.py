"""The role that is enough for tallykeep, as SQL: deploy/litellm/role.sql is what this returns, byte for byte.

It may read the columns that figures and commands need, and nothing else: no prompts and answers of the spend log,
no passwords, e-mail addresses and metadata of users, no settings of keys.
"""

from __future__ import annotations

from collections.abc import Mapping

from tallykeep.systems.litellm.schema import NEEDS, REQUIRED

# Read as well, without a figure of its own that could be missing.
_MORE: Mapping[str, tuple[str, ...]] = {
    "LiteLLM_VerificationToken": ("budget_duration", "created_at"),
    "LiteLLM_UserTable": ("budget_duration", "created_at"),
    "LiteLLM_TeamTable": ("budget_duration", "created_at", "members", "admins"),
    "LiteLLM_OrganizationTable": ("created_at",),
    "LiteLLM_TeamMembership": ("team_id", "user_id"),
    "LiteLLM_OrganizationMembership": ("organization_id", "user_id", "created_at"),
    "LiteLLM_EndUserTable": ("user_id", "alias"),
    "LiteLLM_BudgetTable": ("budget_id", "budget_duration"),
    "LiteLLM_ProxyModelTable": ("model_name",),
}

_HEAD = """\
-- A role for tallykeep that reads what its figures need and nothing else: no prompts and answers, no passwords,
-- no e-mail addresses. Run it in LiteLLM's database as the owner of its tables, and again after an upgrade of
-- LiteLLM that brings new columns; then give the role a password:
--   psql -d litellm -f role.sql
--   psql -d litellm -c '\\password tallykeep'
-- Generated from the code by `make docs`.
DO $$
DECLARE
    wanted record;
    columns text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'tallykeep') THEN
        CREATE ROLE tallykeep LOGIN;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO tallykeep', current_schema());
    FOR wanted IN SELECT * FROM (VALUES
"""
_FOOT = """
    ) AS needed (name, columns)
    LOOP
        SELECT string_agg(quote_ident(a.attname), ', ') INTO columns
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = to_regclass(quote_ident(wanted.name)) AND a.attname = ANY (wanted.columns)
            AND a.attnum > 0 AND NOT a.attisdropped;
        IF columns IS NOT NULL THEN  -- an older LiteLLM lacks some
            EXECUTE format('GRANT SELECT (%s) ON %I TO tallykeep', columns, wanted.name);
        END IF;
    END LOOP;
END $$;
"""


def columns_read() -> dict[str, list[str]]:
    """Every column that is read, by table."""
    tables = dict.fromkeys([*REQUIRED, *NEEDS])
    return {
        table: list(dict.fromkeys([*REQUIRED.get(table, ()), *NEEDS.get(table, ()), *_MORE.get(table, ())]))
        for table in tables
    }


def role_sql() -> str:
    """SQL that makes the role, or gives it what it lacks."""
    lines = []
    for table, columns in columns_read().items():
        listed = ", ".join(f"'{column}'" for column in columns)
        lines.append(f"        ('{table}', ARRAY[\n{_wrapped(listed)}])")
    return _HEAD + ",\n".join(lines) + _FOOT


def _wrapped(listed: str, width: int = 100) -> str:
    lines = [""]
    for word in listed.split(" "):
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return "\n".join(f"            {line}" for line in lines)
