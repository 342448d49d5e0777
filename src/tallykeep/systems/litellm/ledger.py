"""The ledger: sealed stretches of time and the running counters, kept in one SQLite file.

It remembers for each block of time (a minute, an hour, a day) what its rows added up to when they were last
read, and the highest each cell has ever been: the first makes the windows, the second the counters, which must
not fall when LiteLLM deletes old rows. Everything a refresh changed is committed in one transaction before a
figure that rests on it is shown, so a kill at any moment loses nothing that was seen.

Not here: what the figures mean (tally.py), where rows come from (reader.py).
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import zstandard

from tallykeep.errors import Corrupt, Unavailable
from tallykeep.systems.litellm.cells import Axis, Cells, Check, Series, Sums

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS series (id INTEGER PRIMARY KEY, axis INTEGER NOT NULL, labels TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS block (
    start INTEGER PRIMARY KEY,  -- Unix seconds
    stop INTEGER NOT NULL,      -- Unix seconds, exclusive
    checks TEXT NOT NULL,       -- [[rows, nano-dollars, tokens] for each hour]
    cells BLOB NOT NULL,
    peaks BLOB                  -- NULL where they are the cells
) STRICT;
CREATE TABLE IF NOT EXISTS base (series INTEGER PRIMARY KEY, sums TEXT NOT NULL) STRICT;
"""
_FORMAT = "1"
_PATIENCE = 30.0  # seconds: on a disk that is dead the file stays open
_WIDTH = len(Sums())


@dataclass(slots=True)
class Block:
    """A stretch of time whose rows have been summed."""

    start: int  # Unix seconds, UTC
    stop: int  # exclusive
    cells: Cells
    peaks: Cells
    checks: list[Check] = field(default_factory=list)  # one an hour; none for a minute


class Ledger:
    """One database's blocks and counters. Used by one thread at a time.

    Raises: Unavailable where the file cannot be written (a full disk), Corrupt where it does not read as one.
    """

    def __init__(self, path: Path | None) -> None:
        """Open or make the file; None keeps everything in memory."""
        self.path = path
        self._at_work = Lock()  # a refresh that was cancelled may write on in its thread
        self._ids: dict[Series, int] = {}
        self._series: dict[int, Series] = {}
        self._pack = zstandard.ZstdCompressor(level=3)
        self._unpack = zstandard.ZstdDecompressor()
        try:
            self._connection = self._opened(path)
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error

    def _opened(self, path: Path | None) -> sqlite3.Connection:
        connection = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (_FORMAT,))
        found = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()[0]
        if found != _FORMAT:
            raise Corrupt(f"{path} is a ledger of format {found}, this program reads {_FORMAT}; move it aside")
        for number, axis, labels in connection.execute("SELECT id, axis, labels FROM series"):
            self._remember(number, Series(Axis(axis), tuple(json.loads(labels))))
        return connection

    def _remember(self, number: int, series: Series) -> None:
        self._ids[series] = number
        self._series[number] = series

    def _translated(self, error: sqlite3.DatabaseError) -> Unavailable | Corrupt:
        if isinstance(error, sqlite3.OperationalError):
            return Unavailable(f"{self.path} cannot be written: {error}; free space or mend its permissions")
        return Corrupt(f"{self.path} does not read as a ledger: {error}; move it aside and start again")

    def close(self) -> None:
        """Let the file go, once nobody writes to it: SQLite does not survive that. Idempotent."""
        if self._at_work.acquire(timeout=_PATIENCE):
            try:
                self._connection.close()
            finally:
                self._at_work.release()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise Unavailable(f"{self.path} cannot be read: {error}") from error
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error

    # --- meta

    def get(self, key: str) -> str | None:
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    # --- reading

    def blocks(self) -> Iterator[Block]:
        """Every block, oldest first."""
        query = "SELECT start, stop, checks, cells, peaks FROM block ORDER BY start"
        with self._reading(), closing(self._connection.execute(query)) as rows:
            for row in rows:
                yield self._block(*row)

    def block(self, start: int) -> Block:
        """The block that starts then. Raises: KeyError."""
        query = "SELECT start, stop, checks, cells, peaks FROM block WHERE start = ?"
        with self._reading():
            row = self._connection.execute(query, (start,)).fetchone()
        if row is None:
            raise KeyError(start)
        return self._block(*row)

    def _block(self, start: int, stop: int, checks: str, cells: bytes, peaks: bytes | None) -> Block:
        read = self._decoded(cells)
        return Block(
            start,
            stop,
            read,
            dict(read) if peaks is None else self._decoded(peaks),
            [Check(*c) for c in json.loads(checks)],
        )

    def base(self) -> Cells:
        """Counters of everything that is too old to stand in a block."""
        with self._reading():
            rows = self._connection.execute("SELECT series, sums FROM base").fetchall()
        try:
            return {self._series[number]: Sums(*json.loads(sums)) for number, sums in rows}
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"{self.path} holds counters that do not read: {error}; move it aside") from error

    # --- writing

    def commit(
        self,
        blocks: Iterable[Block],
        gone: Iterable[int] = (),
        base: Mapping[Series, Sums] | None = None,
        meta: Mapping[str, str] | None = None,
    ) -> None:
        """Write blocks, forget those that start at `gone`, put counters into the base: all of it or nothing."""
        with self._at_work:
            self._commit(blocks, gone, base or {}, meta or {})

    def _commit(
        self, blocks: Iterable[Block], gone: Iterable[int], base: Mapping[Series, Sums], meta: Mapping[str, str]
    ) -> None:
        fresh: list[Series] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany("DELETE FROM block WHERE start = ?", [(start,) for start in gone])
                self._connection.executemany(
                    "INSERT OR REPLACE INTO block VALUES (?, ?, ?, ?, ?)", [self._row(b, fresh) for b in blocks]
                )
                self._connection.executemany(
                    "INSERT OR REPLACE INTO base VALUES (?, ?)",
                    [(self._id(series, fresh), json.dumps(sums)) for series, sums in base.items()],
                )
                self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(meta.items()))
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.DatabaseError as error:
            for series in fresh:  # their rows were rolled back with the rest
                del self._series[self._ids.pop(series)]
            raise self._translated(error) from error

    def _row(self, block: Block, fresh: list[Series]) -> tuple[int, int, str, bytes, bytes | None]:
        peaks = None if block.peaks is block.cells or block.peaks == block.cells else self._encoded(block.peaks, fresh)
        return block.start, block.stop, json.dumps(block.checks), self._encoded(block.cells, fresh), peaks

    def _id(self, series: Series, fresh: list[Series]) -> int:
        number = self._ids.get(series)
        if number is None:
            number = len(self._ids) + 1  # ids are never given back but by a rolled back transaction, newest first
            self._connection.execute(
                "INSERT INTO series VALUES (?, ?, ?)", (number, int(series.axis), json.dumps(series.labels))
            )
            self._remember(number, series)
            fresh.append(series)
        return number

    def _encoded(self, cells: Mapping[Series, Sums], fresh: list[Series]) -> bytes:
        columns = array("q", (self._id(series, fresh) for series in cells))
        for column in range(_WIDTH):
            columns.extend(sums[column] for sums in cells.values())
        return self._pack.compress(columns.tobytes())

    def _decoded(self, data: bytes) -> Cells:
        try:
            columns = array("q", self._unpack.decompress(data))
            count = len(columns) // (_WIDTH + 1)
            parts = [columns[i * count : (i + 1) * count] for i in range(_WIDTH + 1)]
            return {self._series[n]: Sums(*sums) for n, *sums in zip(*parts, strict=True)}
        except (zstandard.ZstdError, ValueError, KeyError, MemoryError) as error:
            raise Corrupt(f"{self.path} holds a block that does not read: {error}; move it aside") from error
