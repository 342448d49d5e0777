"""What a restore drill is asked and what it answers: plain values that travel as JSON between two processes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, Self

from tallykeep.systems.litestream.ltx.txid import Txid

Result = Literal["ok", "failed", "inconclusive"]
Match = Literal["matches", "differs", "unknown"]


class Question(NamedTuple):
    """An assertion: a query, and what the first column of its first row must be, as text."""

    name: str
    sql: str
    expected: str = "1"


@dataclass(frozen=True, slots=True)
class LiveMatch:
    """The restored image beside the live database, at the restored TXID."""

    match: Match
    compared: int = 0  # pages that have not changed since, and so can be compared
    mismatched: int = 0
    reason: str = ""  # why unknown

    def as_json(self) -> dict[str, object]:
        """Every field."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DrillResult:
    """How a drill ended."""

    result: Result
    stage: str = ""  # where it stopped: plan, space, fetch, decode, pages, integrity, assertions, compare, process
    message: str = ""  # one sentence
    txid: Txid | None = None  # the TXID restored
    base: str = ""  # key of the file the plan starts from
    started: float = 0.0  # Unix seconds
    finished: float = 0.0  # Unix seconds
    duration: float = 0.0  # seconds
    files: int = 0  # of the plan
    bytes: int = 0  # fetched
    image_bytes: int = 0  # of the restored database
    integrity: str = ""  # quick or full, once SQLite has looked
    corrupt: dict[str, str] = field(default_factory=dict)  # key -> reason
    missing_pages: int = 0
    problems: tuple[str, ...] = ()  # what SQLite or the assertions say
    unchecked: tuple[str, ...] = ()  # what could not be looked at
    live: LiveMatch | None = None  # None where there is no live database to compare with

    @property
    def ok(self) -> bool:
        """Restored, examined, and nothing found."""
        return self.result == "ok"

    @property
    def malformed(self) -> str:
        """What is wrong with the restored database itself; "" where nothing is, or it was never restored."""
        return self.message if self.result == "failed" and self.stage in ("integrity", "compare") else ""

    def as_json(self) -> dict[str, object]:
        """Plain values, the TXID as 16 hex digits."""
        return asdict(self) | {"txid": None if self.txid is None else str(self.txid)}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `as_json` gave. Raises: ValueError."""
        try:
            fields: dict[str, Any] = dict(json.loads(text))
            live, txid = fields.pop("live"), fields.pop("txid")
            plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
            plain["live"] = None if live is None else LiveMatch(**live)
            plain["txid"] = None if txid is None else Txid.parse(txid)
            return cls(**plain)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not the result of a drill: {error}") from error
