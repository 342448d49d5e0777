"""What a LiteLLM database offers to this role: its tables and columns, asked at the start and now and then again.

LiteLLM adds tables and columns with almost every release; statements are built from what is there, from the
baseline of March 2025 on. A column that the role may not read counts as missing. Without the spend log, or without
what its rows are labelled by, nothing is shown at all: an organization that cannot be looked up would be "none",
and that is a wrong figure. Everything else takes only its own figures with it, and is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

SPEND_LOGS = "LiteLLM_SpendLogs"

# Columns: table, column, whether the role may read it. Parameter: names of tables, looked up on the search path.
PROBE = """
SELECT c.relname::text, a.attname::text, has_column_privilege(c.oid, a.attnum, 'SELECT')
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.oid IN (SELECT to_regclass(quote_ident(name)) FROM unnest(%s::text[]) AS name)
"""

# Without these there are no figures.
REQUIRED: Mapping[str, tuple[str, ...]] = {
    SPEND_LOGS: (
        "startTime", "endTime", "api_key", "spend", "total_tokens", "prompt_tokens", "completion_tokens", "model",
        "custom_llm_provider", "user", "team_id", "end_user", "cache_hit", "request_tags", "metadata",
    ),
    "LiteLLM_VerificationToken": ("token", "key_name", "key_alias", "user_id", "team_id"),
    "LiteLLM_UserTable": ("user_id", "user_alias"),
    "LiteLLM_TeamTable": ("team_id", "team_alias", "organization_id"),
    "LiteLLM_OrganizationTable": ("organization_id", "organization_alias"),
}  # fmt: skip

_BUDGET_OF = ("max_budget", "spend", "tpm_limit", "rpm_limit", "max_parallel_requests", "budget_reset_at", "models")

# What each table is read for beyond that; a table or column that is missing takes these figures with it.
NEEDS: Mapping[str, Mapping[str, str]] = {
    SPEND_LOGS: {
        "status": "failures by column (taken from metadata instead)",
        "organization_id": "the organization of a request (taken from its team or key instead)",
    },
    "LiteLLM_VerificationToken": {
        **{column: f"{column} of keys" for column in (*_BUDGET_OF, "expires", "blocked")},
        "organization_id": "the organization of a key",
        "budget_id": "budgets of keys that stand in a row of their own",
    },
    "LiteLLM_UserTable": {column: f"{column} of users" for column in _BUDGET_OF},
    "LiteLLM_TeamTable": {
        **{column: f"{column} of teams" for column in (*_BUDGET_OF, "blocked", "members_with_roles")},
        "soft_budget": "soft budgets of teams",
    },
    "LiteLLM_OrganizationTable": {
        column: f"{column} of organizations" for column in ("budget_id", "spend", "models")
    },
    "LiteLLM_TeamMembership": {"spend": "spend of team members", "budget_id": "limits of team members"},
    "LiteLLM_OrganizationMembership": {"budget_id": "limits of organization members"},
    "LiteLLM_EndUserTable": {
        "spend": "spend of customers", "budget_id": "limits of customers", "blocked": "blocked customers",
    },
    "LiteLLM_BudgetTable": {
        column: f"{column} of budgets" for column in (
            "max_budget", "soft_budget", "tpm_limit", "rpm_limit", "max_parallel_requests", "budget_reset_at",
        )
    },
    "LiteLLM_ProxyModelTable": {"litellm_params": "providers of configured models"},
}  # fmt: skip

ABSENT, REFUSED = "absent", "refused"


class Gap(NamedTuple):
    """Something this database does not provide to this role."""

    what: str  # "LiteLLM_TeamTable" or "LiteLLM_TeamTable.soft_budget"
    reason: str  # ABSENT or REFUSED
    says: str  # a sentence


@dataclass(frozen=True, slots=True)
class Schema:
    """Tables and their columns, as the search path of the session finds them and its role may read them."""

    tables: Mapping[str, frozenset[str]]
    refused: frozenset[tuple[str, str]] = frozenset()  # (table, column) that are there and may not be read

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, bool]]) -> Schema:
        """From the rows of PROBE."""
        found: dict[str, set[str]] = {}
        refused = set()
        for table, column, readable in rows:
            if readable:
                found.setdefault(table, set()).add(column)
            else:
                refused.add((table, column))
        return cls({table: frozenset(columns) for table, columns in found.items()}, frozenset(refused))

    def has(self, table: str, column: str = "") -> bool:
        """Whether the table may be read, and in it the column if one is named."""
        return table in self.tables and (not column or column in self.tables[table])

    def lacking(self) -> list[Gap]:
        """What is missing of what nothing can be shown without."""
        return [gap for table, columns in REQUIRED.items() for gap in self._gaps(table, dict.fromkeys(columns, ""))]

    def gaps(self) -> list[Gap]:
        """What this schema cannot provide while the rest goes on."""
        return [gap for table, columns in NEEDS.items() for gap in self._gaps(table, columns)]

    def missing(self) -> list[str]:
        """The same as sentences."""
        return [gap.says for gap in self.gaps()]

    def _gaps(self, table: str, columns: Mapping[str, str]) -> Iterator[Gap]:
        if not self.has(table):
            refused = any(of == table for of, _ in self.refused)
            yield self._gap(table, f'table "{table}"', refused, "")
            return
        for column, what in columns.items():
            if not self.has(table, column):
                yield self._gap(f"{table}.{column}", f'"{table}"."{column}"', (table, column) in self.refused, what)

    @staticmethod
    def _gap(what: str, named: str, refused: bool, gone: str) -> Gap:
        says = f"{named} may not be read: grant the role SELECT on it" if refused else f"{named} is not there"
        return Gap(what, REFUSED if refused else ABSENT, f"{says}; without it: {gone}" if gone else says)
