"""What is to be copied to tier 2, as a message of the queue says it: pure.

A message is a hint. It names one WAL file or one base backup of one cluster; whoever takes it looks at tier 1 for what
to copy, and at tier 2 for what is there already, so that one delivered twice, late, or never does no harm.
"""

from __future__ import annotations

import json
import re
from typing import Literal, NamedTuple

from tallykeep.errors import Malformed

Kind = Literal["wal", "backup"]
WAL: Kind = "wal"
BACKUP: Kind = "backup"
KINDS: tuple[Kind, ...] = (WAL, BACKUP)
_CLUSTER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
_NAMES = {WAL: re.compile(r"[0-9A-F]{24}|[0-9A-F]{8}\.history"), BACKUP: re.compile(r"[0-9a-f]{32}")}


class Item(NamedTuple):
    """One thing to copy."""

    kind: Kind
    cluster: str
    name: str  # of a segment or history file; of a backup its id

    @property
    def subject(self) -> str:
        """What follows the stream's own subject. A cluster's name may have dots, which divide subjects."""
        return f"{self.cluster.replace('.', '/')}.{self.name}"

    def __str__(self) -> str:
        return f"{self.cluster}: {'WAL file' if self.kind == WAL else 'base backup'} {self.name}"


class Letter(NamedTuple):
    """An item as it travels; in a dead letter with what went wrong."""

    item: Item
    traceparent: str = ""
    problem: str = ""
    attempts: int = 0

    def encode(self) -> bytes:
        """The message."""
        found = {**self.item._asdict(), "traceparent": self.traceparent}
        if self.problem:
            found |= {"problem": self.problem, "attempts": self.attempts}
        return json.dumps(found).encode()

    @classmethod
    def decode(cls, data: bytes) -> Letter:
        """Raises: Malformed for what is no letter, or not of this program."""
        try:
            found = json.loads(data)
            kind, cluster, name = found["kind"], str(found["cluster"]), str(found["name"])
            if not _NAMES[kind].fullmatch(name) or not _CLUSTER.fullmatch(cluster):
                raise ValueError(name)
            problem, attempts = _printable(str(found.get("problem", ""))), int(found.get("attempts", 0))
            return cls(Item(kind, cluster, name), str(found.get("traceparent", "")), problem, attempts)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Malformed("A message of the queue is none of tallykeep's; is its prefix another's?") from None


def _printable(text: str) -> str:
    """A text from the queue as it may be shown: no letter in it steers a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
