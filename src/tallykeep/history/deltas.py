"""Deltas: how much counters rose between two looks at a page, restarts and replicas told apart.

A counter's identity is its series and the moment it was created, where the page tells it (`_created`). The same
identity again: the difference. A newer one: the process restarted, and all it counted since is new. An older one:
another replica answers behind the same address; what it had counted before we met it is not news. Each identity
keeps its own last value, so replicas that take turns are each followed.

Without `_created` a fall can only be taken for a restart, which is wrong where replicas take turns: such falls are
counted as ambiguous. Pure; no clock, no storage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import NamedTuple

Series = bytes  # as exposition.parse names it
UNDATED = 0.0  # the creation time of a counter whose page does not tell it
IDENTITIES = 16  # replicas followed behind one address, the newest by creation


class Counter(NamedTuple):
    """One counter as a page shows it."""

    series: Series
    value: float
    created: float = UNDATED  # Unix seconds


class Delta(NamedTuple):
    """What one counter did since the last look."""

    series: Series
    amount: float  # never negative
    reset: bool = False  # the process restarted in between
    ambiguous: bool = False  # or another replica answered; nobody can tell


class Memory(NamedTuple):
    """The last value of one identity: what must be kept to go on after a restart of our own."""

    series: Series
    created: float
    value: float


@dataclass(slots=True)
class Deltas:
    """The counters of one target, followed from page to page."""

    since: float | None = None  # Unix seconds of the target's first page; None before it
    _last: dict[Series, dict[float, float]] = field(default_factory=dict)  # series -> created -> value

    @classmethod
    def resumed(cls, since: float | None, memories: Iterable[Memory]) -> Deltas:
        """As it was when these memories were kept."""
        deltas = cls(since)
        for series, created, value in memories:
            deltas._last.setdefault(series, {})[created] = value
        return deltas

    def take(self, counters: Iterable[Counter], now: float) -> tuple[list[Delta], list[Memory]]:
        """What every counter of a page did, and the memories that changed.

        The first page of a target is a baseline: all its deltas are 0. A value that is not a finite number is
        passed over.
        """
        first = self.since is None
        since = now if self.since is None else self.since
        self.since = since
        deltas: list[Delta] = []
        changed: list[Memory] = []
        for counter in counters:
            if not isfinite(counter.value):
                continue
            known = self._last.get(counter.series)
            if known is None:
                known = self._last[counter.series] = {}
                deltas.append(Delta(counter.series, 0.0) if first else _met_later(counter, since))
            elif known.get(counter.created) != counter.value:
                deltas.append(_met_again(counter, known))
            else:
                deltas.append(Delta(counter.series, 0.0))
                continue
            known[counter.created] = counter.value
            changed.append(Memory(counter.series, counter.created, counter.value))
            while len(known) > IDENTITIES:
                del known[min(known)]
        return deltas, changed


def _met_later(counter: Counter, since: float) -> Delta:
    """A series that the target's earlier pages did not have."""
    if counter.created == UNDATED:
        return Delta(counter.series, counter.value, ambiguous=True)
    return Delta(counter.series, counter.value if counter.created > since else 0.0)


def _met_again(counter: Counter, known: Mapping[float, float]) -> Delta:
    series, value, created = counter
    if created in known:
        last = known[created]
        if value >= last:
            return Delta(series, value - last)
        return Delta(series, value, reset=True, ambiguous=True)
    if created == UNDATED or max(known) == UNDATED:  # the page began, or ceased, to tell
        last = known[max(known)]
        if value >= last:
            return Delta(series, value - last)
        return Delta(series, value, reset=True, ambiguous=created == UNDATED)
    if created > max(known):
        return Delta(series, value, reset=True)
    return Delta(series, 0.0)


def counters(samples: Iterable[tuple[Series, float]], names: frozenset[bytes]) -> Iterator[Counter]:
    """The counters with one of these names among the samples of a page, each with its `_created` where told."""
    created: dict[Series, float] = {}
    found: list[tuple[Series, float]] = []
    dates = {name.removesuffix(b"_total") + b"_created": name for name in names}
    for series, value in samples:
        name, brace, labels = series.partition(b"{")
        if name in names:
            found.append((series, value))
        elif name in dates:
            created[dates[name] + brace + labels] = value
    for series, value in found:
        yield Counter(series, value, created.get(series, UNDATED))
