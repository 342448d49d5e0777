"""One record of a chain: what it adds, and the hash of the record before.

A chain is the manifest of something that is kept: create-only objects named by their number alone, each of which
vouches for the one before. What records add are entries: frozen dataclasses of JSON's own types. A format is a
subclass that says its name and its kinds of entries. Reading and appending is chain.py's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, Self, TypeVar

from tallykeep.errors import IntegrityError
from tallykeep.storage.digest import digest

E = TypeVar("E")

FOLDER = "manifest/"


@dataclass(frozen=True, slots=True)
class ChainRecord(Generic[E]):
    """One link of a chain."""

    FORMAT: ClassVar[str]  # stands in every record
    KINDS: ClassVar[Mapping[str, type[Any]]]  # of entries, by the word that stands for each

    sequence: int  # from 1, without holes
    epoch: int  # of its writer; never falls
    writer: str  # the writer's nonce
    previous: str  # hash of the record before; empty in the first
    time: float  # Unix seconds by the writer's clock: for people, never for decisions
    fence: bool = False  # the first record of a writer; adds nothing else
    entries: tuple[E, ...] = ()

    @property
    def key(self) -> str:
        """Where it is stored."""
        return key_of(self.sequence)

    @property
    def hash(self) -> str:
        """What the next record names."""
        return digest(self._body())

    def encode(self) -> bytes:
        """The object: a line of JSON, and a line with its hash."""
        body = self._body()
        return body + _closing(body)

    @classmethod
    def decode(cls, data: bytes, name: str) -> Self:
        """The record in `data`; `name` is for messages. Raises: IntegrityError."""
        try:
            return cls._decode(data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{name}: not a record of the manifest, or not as it was written: {error}") from None

    @classmethod
    def _decode(cls, data: bytes) -> Self:
        line, _, closing = data.partition(b"\n")
        if b"\n" + closing != _closing(line):
            raise ValueError("its hash does not match")
        body = json.loads(line)
        if (found := body.pop("format")) != cls.FORMAT:
            raise ValueError(f"its format is {found!r}, not {cls.FORMAT!r}; a newer tallykeep may read it")
        return cls(entries=tuple(map(cls._entry, body.pop("entries"))), **body)

    @classmethod
    def _entry(cls, body: Mapping[str, Any]) -> E:
        values = dict(body)
        entry: E = cls.KINDS[values.pop("kind")](**values)
        return entry

    def _body(self) -> bytes:
        words = {kind: word for word, kind in self.KINDS.items()}
        entries = [{"kind": words[type(entry)], **_stated(entry)} for entry in self.entries]
        body = {"format": self.FORMAT, **_shallow(self), "entries": entries}
        return json.dumps(body, separators=(",", ":")).encode()


def _stated(entry: Any) -> dict[str, Any]:
    """Its fields, but for those with their default: a field that comes later changes no record that is there."""
    named = {field.name: (getattr(entry, field.name), field.default) for field in fields(entry)}
    return {name: value for name, (value, default) in named.items() if value != default}


def key_of(sequence: int) -> str:
    """Where the record of that number is stored."""
    return f"{FOLDER}{sequence:020d}"


def check_link(record: ChainRecord[E], before: ChainRecord[E] | None, name: str) -> None:
    """Prove that `record` follows `before` (None: it is the first). Raises: IntegrityError."""
    if problem := _problem(record, before):
        raise IntegrityError(
            f"{name}: {problem}; this record or the one before it has been changed or replaced: "
            "bring the manifest back from a copy of the backup."
        )


def _problem(record: ChainRecord[E], last: ChainRecord[E] | None) -> str:
    sequence, epoch, wanted = (last.sequence, last.epoch, last.hash) if last else (0, 0, "")
    if record.sequence != sequence + 1:
        return f"it says it is record {record.sequence} and stands in the place of {sequence + 1}"
    if record.previous != wanted:
        return f"it follows a record with the hash {record.previous or '(none)'}, and the one before has {wanted}"
    if record.fence != (record.epoch > epoch) or record.epoch < epoch:
        return f"it has epoch {record.epoch} after {epoch}, {'with' if record.fence else 'without'} a fence"
    if last and not record.fence and record.writer != last.writer:
        return f"writer {record.writer} goes on in the epoch of writer {last.writer}"
    return ""


def _closing(body: bytes) -> bytes:
    return f'\n{{"hash":"{digest(body)}"}}\n'.encode()


def _shallow(record: ChainRecord[E]) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record) if field.name != "entries"}
