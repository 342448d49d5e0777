"""What a LiteLLM database offers: its tables and columns, asked once and again after an undefined one.

LiteLLM adds tables and columns with almost every release; statements are built from what is there, from the
baseline of March 2025 on. What this schema cannot provide is said by name, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SPEND_LOGS = "LiteLLM_SpendLogs"

PROBE = """
SELECT c.relname, a.attname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.oid IN (SELECT to_regclass(quote_ident(name)) FROM unnest(%s::text[]) AS name)
"""

# What each table is read for; a table or column that is missing takes these figures with it.
NEEDS: Mapping[str, Mapping[str, str]] = {
    SPEND_LOGS: {
        "status": "failures told by column (read from metadata instead)",
        "organization_id": "organization of a request (taken from its team or key instead)",
    },
    "LiteLLM_VerificationToken": {"organization_id": "organization of a key", "budget_id": "budgets of keys by table"},
    "LiteLLM_UserTable": {},
    "LiteLLM_TeamTable": {"soft_budget": "soft budgets of teams"},
    "LiteLLM_OrganizationTable": {},
    "LiteLLM_TeamMembership": {},
    "LiteLLM_OrganizationMembership": {},
    "LiteLLM_EndUserTable": {},
    "LiteLLM_BudgetTable": {},
    "LiteLLM_ProxyModelTable": {},
}


@dataclass(frozen=True, slots=True)
class Schema:
    """Tables and their columns, as the search path of the session finds them."""

    tables: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str]]) -> Schema:
        """From rows of (table, column)."""
        found: dict[str, set[str]] = {}
        for table, column in rows:
            found.setdefault(table, set()).add(column)
        return cls({table: frozenset(columns) for table, columns in found.items()})

    def has(self, table: str, column: str = "") -> bool:
        """Whether the table is there, and in it the column if one is named."""
        return table in self.tables and (not column or column in self.tables[table])

    def missing(self) -> list[str]:
        """What this schema cannot provide, a sentence each."""
        lines = []
        for table, columns in NEEDS.items():
            if not self.has(table):
                lines.append(f'table "{table}" is missing or may not be read')
                continue
            lines += [f'"{table}".{c} is missing: {what}' for c, what in columns.items() if not self.has(table, c)]
        return lines
