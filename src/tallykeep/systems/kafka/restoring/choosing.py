"""What becomes of each batch at a restore, decided by the index alone: left out, copied as it is, or made anew."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from tallykeep.systems.kafka.index import UNKNOWN_TIME, Row, SegmentIndex
from tallykeep.systems.kafka.transactions import AbortedTransactions
from tallykeep.systems.kafka.wire.header import DELETE_HORIZON, LOG_APPEND_TIME

_EARLIEST, _LATEST = -(1 << 63), (1 << 63) - 1


class Window(NamedTuple):
    """The moments to restore, first and last included: Unix milliseconds."""

    first: int = _EARLIEST
    last: int = _LATEST

    @property
    def is_open(self) -> bool:
        """Whether every moment lies in it."""
        return self == (_EARLIEST, _LATEST)

    def __contains__(self, moment: object) -> bool:
        return isinstance(moment, int) and self.first <= moment <= self.last


ALWAYS = Window()


class Fate(Enum):
    """What is done with a batch."""

    LEAVE = "leave"  # markers, aborted transactions, what is empty or outside the window
    COPY = "copy"  # its records go out as the bytes they are
    REMAKE = "remake"  # its records, or some of them, go out in a batch of ours
    CUT = "cut"  # as REMAKE, and only reading it tells how many of its records go out


class Choice(NamedTuple):
    """A batch and its fate."""

    row: Row
    fate: Fate


def choose(
    index: SegmentIndex, aborted: AbortedTransactions, window: Window, largest: int = 1 << 31
) -> Iterator[Choice]:
    """Each batch of the segment; `aborted` has gone through those before it, `largest` is what the target takes."""
    aborted.note(index.aborted)
    for row in index.rows:
        if aborted.hides(row):
            yield Choice(row, Fate.LEAVE)
        else:
            yield Choice(row, _fate(row, index.start, window, largest))


def _fate(row: Row, start: int, window: Window, largest: int) -> Fate:
    """Of a batch that consumers see."""
    if not row.record_count or row.last_offset < start or _outside(row, window):
        return Fate.LEAVE
    if row.base_offset < start or not _inside(row, window):
        return Fate.CUT
    if row.record_count != row.last_offset_delta + 1 or row.attributes & (LOG_APPEND_TIME | DELETE_HORIZON):
        return Fate.REMAKE  # brokers take neither gaps nor these attributes from producers
    return Fate.COPY if row.size <= largest else Fate.REMAKE


def _outside(row: Row, window: Window) -> bool:
    return row.max_timestamp < window.first or (row.min_timestamp > window.last and row.min_timestamp != UNKNOWN_TIME)


def _inside(row: Row, window: Window) -> bool:
    """Surely inside: an unknown minimum is as good as one before the window."""
    return row.max_timestamp <= window.last and (row.min_timestamp >= window.first or window.first == _EARLIEST)
