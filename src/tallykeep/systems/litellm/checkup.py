"""`check`: can this database be read, what does it offer, is it current, and what is kept of it here?"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tallykeep.systems.litellm import statements
from tallykeep.systems.litellm.schema import ABSENT, NEEDS, REFUSED, REQUIRED, SPEND_LOGS
from tallykeep.units import format_duration, format_timestamp

if TYPE_CHECKING:
    from tallykeep.systems.litellm.database import Database, Session

# Newest first: something that LiteLLM's migrations of that month brought.
ERAS = (
    ("2026-09", "LiteLLM_VerificationToken", "tpd_limit"),
    ("2026-04", "LiteLLM_TeamMembership", "total_spend"),
    ("2026-02", "LiteLLM_TeamTable", "soft_budget"),
    ("2025-11", SPEND_LOGS, "organization_id"),
    ("2025-05", SPEND_LOGS, "status"),
    ("2025-04", SPEND_LOGS, "session_id"),
    ("2025-03", SPEND_LOGS, "startTime"),
)

_ROLE = """
SELECT current_setting('server_version'), current_user::text, r.rolsuper,
       (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'TimeZone'),
       extract(epoch FROM clock_timestamp())::float8
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""
_WRITABLE = """
SELECT c.relname::text FROM pg_catalog.pg_class c
WHERE c.oid IN (SELECT to_regclass(quote_ident(name)) FROM unnest(%s::text[]) AS name)
  AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
ORDER BY 1
"""


class LedgerState(NamedTuple):
    """What is kept of a database in the state directory."""

    path: Path
    blocks: int = 0
    since: float | None = None  # Unix seconds of the oldest block
    sealed_until: float | None = None  # Unix seconds
    trouble: str = ""

    def line(self) -> str:
        """For people."""
        if self.trouble:
            return f"{self.path}: {self.trouble}"
        if self.since is None:
            return f"none yet ({self.path})"
        sealed = "nothing sealed yet" if self.sealed_until is None else f"sealed until {_utc(self.sealed_until)}"
        return f"{self.blocks} blocks from {_utc(self.since)}, {sealed} ({self.path})"


@dataclass(slots=True)
class Checkup:
    """What was found. `problems` decide the exit status; `remarks` are worth knowing."""

    database: str
    address: str
    reachable: bool = True
    server_version: str = ""
    role: str = ""
    superuser: bool = False
    writable: list[str] = field(default_factory=list)  # tables the role could change
    unreadable: list[str] = field(default_factory=list)  # tables, or "table.column"
    time_zone: str = ""
    era: str = ""
    missing: list[str] = field(default_factory=list)
    newest_row: float | None = None  # Unix seconds, end of the newest request
    clock_difference: float = 0.0  # seconds by which the server's clock is ahead
    ledger: LedgerState | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        """0 fine, 1 something is wrong, 3 it could not be reached."""
        return 3 if not self.reachable else 1 if self.problems else 0

    def remarks(self) -> list[str]:
        """What is not wrong, but could be better."""
        found = [f"this schema has less than the newest: {what}" for what in self.missing]
        if self.superuser:
            found.append(f"role {self.role} is a superuser; a read-only role is enough (docs/guide/litellm.md)")
        elif self.writable:
            found.append(f"role {self.role} may change {', '.join(self.writable)}; a read-only role is enough")
        return found

    def as_json(self) -> dict[str, object]:
        """One object."""
        ledger = self.ledger
        return {
            "database": self.database, "address": self.address, "reachable": self.reachable,
            "fine": self.exit_status == 0, "server_version": self.server_version, "schema_era": self.era,
            "schema_missing": self.missing, "role": self.role, "superuser": self.superuser,
            "read_only_role": not (self.superuser or self.writable), "unreadable": self.unreadable,
            "server_time_zone": self.time_zone, "clock_difference_seconds": round(self.clock_difference, 3),
            "newest_row": None if self.newest_row is None else format_timestamp(self.newest_row),
            "ledger": None if ledger is None else {
                "path": str(ledger.path), "blocks": ledger.blocks, "trouble": ledger.trouble,
                "since": None if ledger.since is None else format_timestamp(ledger.since),
                "sealed_until": None if ledger.sealed_until is None else format_timestamp(ledger.sealed_until),
            },
            "problems": self.problems, "remarks": self.remarks(),
        }  # fmt: skip

    def lines(self, now: float) -> list[str]:
        """For people."""
        verdict = "unreachable" if not self.reachable else "not fine" if self.problems else "fine"
        told = [f"{verdict}: database {self.database} ({self.address})", *(f"  {text}" for text in self.problems)]
        if self.server_version:
            newest = "no row at all"
            if self.newest_row is not None:
                newest = f"{_utc(self.newest_row)}, {format_duration(max(0.0, now - self.newest_row))} ago"
            rights = "superuser" if self.superuser else "may write" if self.writable else "read-only"
            told += [
                f"  {name + ':':<16}{value}"
                for name, value in (
                    ("server", f"PostgreSQL {self.server_version}, time zone {self.time_zone} (sessions use UTC)"),
                    ("schema", f"LiteLLM of {self.era} or later"),
                    ("role", f"{self.role}, {rights}"),
                    ("newest request", newest),
                )
            ]
        if self.ledger is not None:
            told.append(f"  {'ledger:':<16}{self.ledger.line()}")
        return [*told, *(f"  note: {text}" for text in self.remarks())]


async def examine(database: Database, checkup: Checkup, now: float, max_age: float) -> None:
    """Fill in what the server says. `max_age`: seconds the newest row may be old, 0 for any.

    Raises: the errors of Database.session.
    """
    schema = await database.schema()
    async with database.session() as session:
        await _who(session, checkup, now)
        checkup.writable = [table for (table,) in await session.rows(_WRITABLE, ([*{**REQUIRED, **NEEDS}],))]
    there = (month for month, *place in ERAS if schema.has(*place) or tuple(place) in schema.refused)
    checkup.era = next(there, "unknown")
    lacking, gaps = schema.lacking(), schema.gaps()
    checkup.unreadable = [gap.what for gap in (*lacking, *gaps) if gap.reason == REFUSED]
    checkup.missing = [gap.says for gap in gaps if gap.reason == ABSENT]
    checkup.problems += dict.fromkeys(gap.says for gap in (*lacking, *gaps) if gap in lacking or gap.reason == REFUSED)
    if lacking:
        checkup.problems.append(
            "nothing can be shown without these: check the name of the database, its schema, the grants, and that "
            "LiteLLM has migrated it"
        )
    else:
        await _current(database, checkup, now, max_age)


async def _who(session: Session, checkup: Checkup, now: float) -> None:
    for version, role, superuser, zone, clock in await session.rows(_ROLE):
        checkup.server_version, checkup.role, checkup.superuser = version.split()[0], role, superuser
        checkup.clock_difference, checkup.time_zone = clock - now, zone
    if abs(checkup.clock_difference) > 60:
        checkup.problems.append(
            f"the server's clock is {format_duration(abs(checkup.clock_difference))} "
            f"{'ahead' if checkup.clock_difference > 0 else 'behind'}: windows and ages are off by as much"
        )


async def _current(database: Database, checkup: Checkup, now: float, max_age: float) -> None:
    async with database.session() as session:
        for _, ended in await session.rows(statements.newest()):
            checkup.newest_row = ended.replace(tzinfo=UTC).timestamp()
    age = None if checkup.newest_row is None else now - checkup.newest_row
    if max_age and (age is None or age > max_age):
        since = "has no row" if age is None else f"has had no new row for {format_duration(age)}"
        checkup.problems.append(
            f"the spend log {since}: is LiteLLM running, and disable_spend_logs not set? (--max-age 0 does not ask)"
        )
    if age is not None and age < -60:
        checkup.problems.append(f"the newest row ends {format_duration(-age)} in the future: check LiteLLM's clock")


def ledger_state(path: Path) -> LedgerState:
    """What a ledger file says of itself; nothing is changed, also while tallykeep runs on it."""
    if not path.exists():
        return LedgerState(path)
    query = "SELECT count(*), min(start), max(CASE WHEN stop - start > 60 THEN stop END) FROM block"
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            return LedgerState(path, *connection.execute(query).fetchone())
    except sqlite3.Error as error:
        return LedgerState(path, trouble=f"it does not read: {error}")


def _utc(unix: float) -> str:
    return format_timestamp(unix).partition(".")[0].replace("T", " ") + " UTC"
