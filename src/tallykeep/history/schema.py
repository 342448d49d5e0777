"""The tables of a history file, and how it is told from other files.

docs/formats/history.md has them in prose, with a row for each column.
"""

from __future__ import annotations

import sqlite3

APPLICATION = 0x746B6869  # "tkhi" in the file's header, as application_id
FORMAT = 1  # in the file's header, as user_version

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE scrape (
    id INTEGER PRIMARY KEY,      -- in the order of arrival
    moment INTEGER NOT NULL,     -- Unix milliseconds
    is_reset INTEGER NOT NULL,   -- 1 when a tracked series was reset
    totals TEXT NOT NULL,        -- {name: [value, delta]}
    source TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX scrape_by_moment ON scrape (moment);
CREATE TABLE tracked (
    name TEXT NOT NULL, quarter INTEGER NOT NULL, last REAL NOT NULL, delta REAL NOT NULL, highest REAL NOT NULL,
    PRIMARY KEY (name, quarter)
) STRICT, WITHOUT ROWID;
CREATE TABLE lifetime (name TEXT PRIMARY KEY, total REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE series (
    id INTEGER PRIMARY KEY, target TEXT NOT NULL, series BLOB NOT NULL, gauge INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX series_by_name ON series (target, series);
CREATE TABLE point (
    moment INTEGER NOT NULL, series INTEGER NOT NULL, value REAL NOT NULL, delta REAL NOT NULL,
    PRIMARY KEY (moment, series)
) STRICT, WITHOUT ROWID;
CREATE TABLE quarter (
    start INTEGER NOT NULL, series INTEGER NOT NULL, last REAL NOT NULL, delta REAL NOT NULL, highest REAL NOT NULL,
    PRIMARY KEY (start, series)
) STRICT, WITHOUT ROWID;
CREATE TABLE day (
    start INTEGER NOT NULL, series INTEGER NOT NULL, last REAL NOT NULL, delta REAL NOT NULL, highest REAL NOT NULL,
    PRIMARY KEY (start, series)
) STRICT, WITHOUT ROWID;
CREATE TABLE memory (
    series INTEGER NOT NULL, created REAL NOT NULL, value REAL NOT NULL, seen REAL NOT NULL,
    PRIMARY KEY (series, created)
) STRICT, WITHOUT ROWID;
CREATE TABLE target (name TEXT PRIMARY KEY, since REAL NOT NULL) STRICT, WITHOUT ROWID;
"""


def create(db: sqlite3.Connection) -> None:
    """Make the tables in an empty database, all of them or none. Raises: sqlite3.Error."""
    db.executescript(
        f"BEGIN IMMEDIATE;\nPRAGMA application_id = {APPLICATION};\nPRAGMA user_version = {FORMAT};\n{_TABLES}\nCOMMIT;"
    )


def whose(db: sqlite3.Connection) -> str:
    """What a database is: "ours", "newer" than this program, "empty", "litellm-pulse", or "other".

    Raises: sqlite3.Error.
    """
    if db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION:
        return "ours" if db.execute("PRAGMA user_version").fetchone()[0] <= FORMAT else "newer"
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not tables:
        return "empty"
    columns = {row[1] for row in db.execute("PRAGMA table_info(scrapes)")}
    return "litellm-pulse" if {"ts", "is_reset", "raw_requests", "delta_requests"} <= columns else "other"
