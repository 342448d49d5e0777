"""Positions in WAL, the names of its files, and the history of timelines: pure.

Source: PostgreSQL, src/include/access/xlog_internal.h (XLogFileName), src/backend/access/transam/timeline.c.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tallykeep.errors import Malformed

SEGMENT_SIZE = 16 << 20  # bytes, unless initdb was told otherwise
_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")
_NAME = re.compile(r"[0-9A-F]{24}")
_HISTORY_NAME = re.compile(r"([0-9A-F]{8})\.history")


class LSN(int):
    """A position in WAL, in bytes. Prints and parses as PostgreSQL writes it: 16/B374D848."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> LSN:
        """Raises: Malformed."""
        if not _LSN.fullmatch(text):
            raise Malformed(f"{text!r} is no LSN; one looks like 16/B374D848.")
        high, _, low = text.partition("/")
        return cls(int(high, 16) << 32 | int(low, 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    __repr__ = __str__


class Segment(NamedTuple):
    """The segment of a timeline that begins at `start`; its name depends on the size of segments."""

    timeline: int
    start: LSN
    size: int

    @classmethod
    def at(cls, timeline: int, lsn: int, size: int) -> Segment:
        """The segment that holds a position."""
        return cls(timeline, LSN(lsn - lsn % size), size)

    @classmethod
    def parse(cls, name: str, size: int) -> Segment:
        """Of a WAL file's name, 24 hex digits. Raises: Malformed."""
        if not _NAME.fullmatch(name):
            raise Malformed(f"{name!r} is no name of a WAL file; one looks like 000000010000000000000003.")
        high, low = int(name[8:16], 16), int(name[16:], 16)
        return cls(int(name[:8], 16), LSN((high << 32) + low * size), size)

    @property
    def name(self) -> str:
        return f"{self.timeline:08X}{self.start >> 32:08X}{(self.start & 0xFFFFFFFF) // self.size:08X}"

    @property
    def end(self) -> LSN:
        return LSN(self.start + self.size)

    def next(self) -> Segment:
        return self._replace(start=self.end)


class Fork(NamedTuple):
    """Where a timeline was left for the next."""

    timeline: int
    lsn: LSN  # the first position that belongs to the next timeline


@dataclass(frozen=True, slots=True)
class History:
    """How a timeline came to be: its ancestors, oldest first."""

    timeline: int
    forks: Sequence[Fork] = ()

    @classmethod
    def parse(cls, timeline: int, text: str) -> History:
        """Of a history file. Raises: Malformed."""
        forks: list[Fork] = []
        for line in text.split("\n"):
            words = line.split("#")[0].split()
            if not words:
                continue
            if len(words) < 2 or not words[0].isdigit() or (forks and int(words[0]) <= forks[-1].timeline):
                raise Malformed(f"{history_name(timeline)}: {line!r} is no line of a timeline history.")
            forks.append(Fork(int(words[0]), LSN.parse(words[1])))
        return cls(timeline, tuple(forks))

    def left(self, timeline: int) -> LSN | None:
        """Where an ancestor was left; None for the timeline itself and for one that is no ancestor."""
        return next((fork.lsn for fork in self.forks if fork.timeline == timeline), None)

    def knows(self, timeline: int) -> bool:
        """Whether it is the timeline itself or an ancestor."""
        return timeline == self.timeline or self.left(timeline) is not None


def history_name(timeline: int) -> str:
    """The name of a timeline's history file."""
    return f"{timeline:08X}.history"


def history_bytes(text: str) -> bytes:
    """A history file as PostgreSQL has it: the reason of a fork is in the encoding of a database."""
    return text.encode(errors="surrogateescape")


def history_timeline(name: str) -> int | None:
    """The timeline of a history file's name; None for any other name."""
    found = _HISTORY_NAME.fullmatch(name)
    return int(found[1], 16) if found else None


def is_segment_name(name: str) -> bool:
    """Whether a name is that of a WAL file."""
    return _NAME.fullmatch(name) is not None
