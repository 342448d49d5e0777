"""Deltas: how much counters rose between two looks at a page, restarts and replicas told apart.

A counter's identity is its series and the moment it was created, where the page tells it (`_created`). The same
identity again: the difference. One that was created after the target's first page: all it has counted since is news,
whether a process restarted or another replica answers. One that is older than that page: another replica behind the
same address; what it had counted before it was met is a baseline. Each identity keeps its own last value, so
replicas that take turns are each followed.

The source's clock may differ from ours: an identity newer than every known one is a restart also when it is dated
shortly before the first page, or so long before it that the two clocks have nothing in common.

Without `_created` a fall can only be taken for a restart, which is wrong where replicas take turns: such falls are
counted as ambiguous. Pure; no clock, no storage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import NamedTuple

Series = bytes  # as exposition.parse names it
UNDATED = 0.0  # the creation time of a counter whose page does not tell it
IDENTITIES = 64  # followed in one series; the one unseen for longest is forgotten first
CLOCKS_APART = 60.0  # seconds by which the clock of a source may be behind
CLOCKS_UNRELATED = 366 * 86400.0  # seconds; no process is that old, such a clock was never set
SEEN_EVERY = 86400.0  # seconds after which an identity that stands still is remembered anew, as still there


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
    seen: float = 0.0  # Unix seconds


@dataclass(slots=True)
class _Identity:
    value: float
    seen: float  # Unix seconds of the last page that showed it
    told: float  # Unix seconds of the last Memory that told of it


@dataclass(slots=True)
class Deltas:
    """The counters of one target, followed from page to page."""

    since: float | None = None  # Unix seconds of the target's first page; None before it
    _known: dict[Series, dict[float, _Identity]] = field(default_factory=dict)  # series -> created -> identity

    @classmethod
    def resumed(cls, since: float | None, memories: Iterable[Memory]) -> Deltas:
        """As it was when these memories were kept."""
        deltas = cls(since)
        for series, created, value, seen in memories:
            deltas._known.setdefault(series, {})[created] = _Identity(value, seen, seen)
        return deltas

    def memories(self) -> list[Memory]:
        """All that must be kept to go on from here."""
        return [
            Memory(series, created, one.value, one.seen)
            for series, known in self._known.items()
            for created, one in known.items()
        ]

    def take(self, counters: Iterable[Counter], now: float) -> tuple[list[Delta], list[Memory]]:
        """What every counter of a page did, and the memories that changed.

        The first page of a target is a baseline: all its deltas are 0. A value that no counter can have is
        passed over.
        """
        first = self.since is None
        since = now if self.since is None else self.since
        self.since = since
        deltas: list[Delta] = []
        changed: list[Memory] = []
        for counter in counters:
            series, value, created = counter
            if not isfinite(value) or value < 0:
                continue
            known = self._known.get(series)
            one = None if known is None else known.get(created)
            if one is not None and one.value == value and now < one.told + SEEN_EVERY:
                one.seen = now
                deltas.append(Delta(series, 0.0))
                continue
            if known is None:
                known = self._known[series] = {}
                deltas.append(Delta(series, 0.0) if first else _met_later(counter, since))
            else:
                deltas.append(_met_again(counter, known, since))
            known[created] = _Identity(value, now, now)
            changed.append(Memory(series, created, value, now))
            if len(known) > IDENTITIES:
                del known[min(known, key=lambda old: known[old].seen)]
        return deltas, changed


def _met_later(counter: Counter, since: float) -> Delta:
    """A series that the target's earlier pages did not have."""
    if counter.created == UNDATED:
        return Delta(counter.series, counter.value, ambiguous=True)
    return Delta(counter.series, counter.value if counter.created > since else 0.0)


def _met_again(counter: Counter, known: dict[float, _Identity], since: float) -> Delta:
    series, value, created = counter
    newest = max(known)
    if created in known:
        return _followed(series, value, known[created].value, ambiguous=True)
    if created == UNDATED or newest == UNDATED:  # the page ceased, or began, to tell
        return _followed(series, value, known[newest].value, ambiguous=created == UNDATED)
    if created > newest and _after(created, since):
        return Delta(series, value, reset=True)
    return Delta(series, value if created > since else 0.0)


def _followed(series: Series, value: float, last: float, *, ambiguous: bool) -> Delta:
    if value >= last:
        return Delta(series, value - last)
    return Delta(series, value, reset=True, ambiguous=ambiguous)


def _after(created: float, since: float) -> bool:
    """Whether a counter newer than all known ones was created after the first page, as far as clocks can tell."""
    return created > since - CLOCKS_APART or created < since - CLOCKS_UNRELATED


def counters(samples: Iterable[tuple[Series, float]], names: frozenset[bytes]) -> Iterator[Counter]:
    """The counters with one of these names among the samples of a page, each with its `_created` where told.

    Of a series that stands twice the first sample counts, as in Prometheus.
    """
    dates = {_date_of(name) for name in names}
    created: dict[Series, float] = {}
    found: dict[Series, float] = {}
    for series, value in samples:
        name = series.partition(b"{")[0]
        if name in names:
            found.setdefault(series, value)
        if name in dates and isfinite(value):
            created[series] = value
    for series, value in found.items():
        name, brace, labels = series.partition(b"{")
        yield Counter(series, value, created.get(_date_of(name) + brace + labels, UNDATED))


def _date_of(name: bytes) -> bytes:
    """The name under which a counter's or histogram's creation time stands."""
    for end in (b"_total", b"_count", b"_sum"):
        if name.endswith(end):
            return name.removesuffix(end) + b"_created"
    return name + b"_created"
