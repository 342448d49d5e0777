"""Whether a restored file is a sound SQLite database: asked of SQLite itself, on a copy nobody else has open.

The file is opened read-only and immutable, so neither a lock nor a -wal nor a -shm file is made. What SQLite
calls malformed is a problem. What it cannot look at, because a collation, function or virtual-table module of
the application is not here, is named as unchecked; every table that can be looked at still is.

Source: SQLite, PRAGMA quick_check and integrity_check; URI parameter `immutable`; result codes.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tallykeep.systems.litestream.drill_result import Question

MOST_PROBLEMS = 10  # messages kept; one is enough to know
_CACHE_KIB = 65536

_MISSING = re.compile(
    r"(no such (collation sequence|module|function|tokenizer)|unknown (function|tokenizer)|unsupported file format)"
)
_MALFORMED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Soundness(NamedTuple):
    """What SQLite says. Nothing in any of the three: the database is sound."""

    problems: tuple[str, ...] = ()  # malformed
    refuted: tuple[str, ...] = ()  # assertions that do not hold
    unchecked: tuple[str, ...] = ()  # what could not be looked at, and why


class _Unchecked(Exception):
    """Something of the application's is missing here."""


def examine(image: Path, *, full: bool = True, assertions: Sequence[Question] = ()) -> Soundness:
    """Run integrity_check (`full`) or quick_check on `image`, then the assertions. Blocks for as long as it takes.

    A question is a query that must give one row at least; it may not attach files.

    Raises: sqlite3.Error where the machine, not the database, is at fault: I/O errors, no memory.
    """
    found = Soundness()
    try:
        with closing(_opened(image)) as connection:
            found = _structure(connection, "integrity_check" if full else "quick_check")
            if not found.problems:
                found = found._replace(unchecked=found.unchecked + tuple(_modules(connection)))
                found = _asserted(connection, assertions, found)
    except sqlite3.DatabaseError as error:
        return found._replace(problems=(*found.problems, _malformed(error)))
    return found


def _opened(image: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(image.absolute()))}?mode=ro&immutable=1", uri=True)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.text_factory = lambda raw: raw.decode(errors="replace")
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    return connection


def _structure(connection: sqlite3.Connection, check: str) -> Soundness:
    """The whole database at once; table by table where a missing collation or function forbids that."""
    try:
        return Soundness(tuple(_said(connection, f"PRAGMA {check}({MOST_PROBLEMS})")))
    except _Unchecked:
        pass
    problems: list[str] = []
    unchecked: list[str] = []
    for table in _tables(connection):
        try:
            problems += _said(connection, f"PRAGMA {check}({_quoted(table)})")
        except _Unchecked as error:
            unchecked.append(f"table {table}: {error}")
    return Soundness(tuple(problems[:MOST_PROBLEMS]), (), tuple(unchecked))


def _said(connection: sqlite3.Connection, pragma: str) -> list[str]:
    try:
        lines = [str(row[0]) for row in connection.execute(pragma)]
    except sqlite3.DatabaseError as error:
        return [_malformed(error)]
    return [] if lines == ["ok"] else lines


def _malformed(error: sqlite3.DatabaseError) -> str:
    """What an error says about the database. Raises it again when it says nothing about it."""
    if _MISSING.search(str(error)):
        raise _Unchecked(str(error)) from error
    if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _MALFORMED:
        raise error
    return str(error)


def _tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name")
    return ["sqlite_schema", *(str(row[0]) for row in rows)]


def _modules(connection: sqlite3.Connection) -> Iterator[str]:
    """Virtual tables that cannot be opened here. Their stored rows are ordinary tables and have been checked."""
    rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage = 0 ORDER BY name")
    for (table,) in rows.fetchall():
        try:
            connection.execute(f"SELECT 1 FROM {_quoted(table)} LIMIT 0").fetchall()  # noqa: S608 - quoted
        except sqlite3.DatabaseError as error:
            yield f"virtual table {table}: {error}"


def _asserted(connection: sqlite3.Connection, assertions: Sequence[Question], found: Soundness) -> Soundness:
    refuted: list[str] = []
    unchecked = list(found.unchecked)
    for name, query, expected in assertions:
        try:
            row = connection.execute(query).fetchone()
        except sqlite3.Error as error:
            (unchecked if _MISSING.search(str(error)) else refuted).append(f"{name or query}: {error}")
            continue
        answer = "no row" if row is None else str(row[0])
        if row is None or answer != expected:
            refuted.append(f"{name or query}: {answer}, not {expected}")
    return Soundness(found.problems, tuple(refuted), tuple(unchecked))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
