"""A busy application: small transactions on SQLite databases, a few a second, until it is stopped.

Runs as a process of its own (`python -m tallykeep.demo.writer DB...`), as applications do. Inserts, updates and
deletes keep the databases at a few hundred rows, so that compaction and retention have something to do.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sqlite3
import time
from pathlib import Path

_TABLE = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, placed REAL, customer TEXT, cents INTEGER)"
_KEPT = 500  # rows


def open_database(path: Path) -> sqlite3.Connection:
    """A database in WAL mode with its table, as Litestream asks for: patient with locks."""
    database = sqlite3.connect(path, isolation_level=None, timeout=5)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute(_TABLE)
    return database


def commit_once(database: sqlite3.Connection, chance: random.Random) -> None:
    """One transaction: a new order, a corrected one, and the oldest gone."""
    order = (time.time(), f"customer-{chance.randrange(100)}", chance.randrange(100, 100_000))
    with contextlib.closing(database.cursor()) as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("INSERT INTO orders (placed, customer, cents) VALUES (?, ?, ?)", order)
        newest = cursor.lastrowid or 0
        cursor.execute("UPDATE orders SET cents = cents + 1 WHERE id = ?", (newest - chance.randrange(_KEPT),))
        cursor.execute("DELETE FROM orders WHERE id <= ?", (newest - _KEPT,))
        cursor.execute("COMMIT")


def main() -> None:
    """Write until the process is ended; a locked database is tried again."""
    parser = argparse.ArgumentParser(description="a busy application")
    parser.add_argument("databases", nargs="+", type=Path)
    parser.add_argument("--rate", type=float, default=5, help="commits a second, in each database")
    args = parser.parse_args()
    chance = random.Random()
    databases = [open_database(path) for path in args.databases]
    while True:
        for database in databases:
            with contextlib.suppress(sqlite3.OperationalError):
                commit_once(database, chance)
        time.sleep(1 / args.rate)


if __name__ == "__main__":
    main()
