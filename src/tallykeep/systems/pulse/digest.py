"""What one page says of the tracked figures, and what each counter on it did since the last page.

Pure but for what is remembered of a target: its deltas, its gauges' last values, its models. Runs off the event
loop: a page may have a hundred thousand series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from tallykeep.exposition.parse import Parsed, Series
from tallykeep.history.deltas import Deltas, Memory, counters
from tallykeep.history.rounds import Point
from tallykeep.systems.pulse.tracked import DEPLOYMENTS, GAUGES, Models

_PARTS = ("_bucket",)
_DATE = "_created"


@dataclass(frozen=True, slots=True)
class Digest:
    """One page of one target."""

    values: Mapping[str, float] = field(default_factory=dict)  # tracked name -> as it stands
    rises: Mapping[str, float] = field(default_factory=dict)  # tracked counter -> what it rose by
    models: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # model -> name -> as it stands
    raw: Mapping[str, float] = field(default_factory=dict)  # samples by name, summed
    points: Sequence[Point] = ()
    memories: Sequence[Memory] = ()
    series: int = 0  # on the page
    resets: int = 0  # tracked series that began anew
    ambiguous: int = 0


class Follower:
    """Follows one target from page to page."""

    def __init__(self, target: str, names: Mapping[str, str], deltas: Callable[[], Deltas]) -> None:
        """`names`: tracked name -> name of its samples. `deltas` gives the target's, which a late history replaces."""
        self.target = target
        self.sources = {**names, **DEPLOYMENTS}
        self._deltas = deltas
        self.models = Models()
        self._names: dict[bytes, list[str]] = {}
        for name, samples in (*names.items(), *DEPLOYMENTS.items()):
            self._names.setdefault(samples.encode(), []).append(name)
        gauges = {samples.encode() for name, samples in names.items() if name in GAUGES}
        self._counters = frozenset(samples for samples, own in self._names.items() if set(own) - GAUGES)
        self._gauges = frozenset(gauges)
        self._held: dict[Series, float] = {}  # last values of gauges

    @property
    def since(self) -> float | None:
        """Unix seconds of the target's first page."""
        return self._deltas().since

    def last_known(self) -> dict[str, float]:
        """The tracked counters as they stood on the target's last page, from what deltas remember."""
        newest: dict[Series, Memory] = {}
        for memory in self._deltas().memories():
            known = newest.setdefault(memory.series, memory)
            if memory.seen > known.seen:
                newest[memory.series] = memory
        return self._sums((series, memory.value) for series, memory in newest.items())

    def take(self, page: Parsed, now: float) -> Digest:
        """What a page says. Changes what is remembered: a page is taken once."""
        samples = dict(page.samples)
        kept = [series for series in samples if series.partition(b"{")[0] in self._names]
        self.models.learn(kept)
        found, memories = self._deltas().take(counters(samples.items(), self._counters), now)
        rose = {delta.series: delta.amount for delta in found}
        changes = self._gauge_changes(samples)
        finite = [(series, samples[series]) for series in kept if isfinite(samples[series])]
        return Digest(
            values=self._sums(finite),
            rises=self._sums(rose.items()),
            models=self._by_model(finite),
            raw=summed(page),
            points=[self._point(series, value, rose, changes) for series, value in finite],
            memories=memories,
            series=len(samples),
            resets=sum(delta.reset and self._is_tracked(delta.series) for delta in found),
            ambiguous=sum(delta.ambiguous and self._is_tracked(delta.series) for delta in found),
        )

    def _is_tracked(self, series: Series) -> bool:
        return any(name not in DEPLOYMENTS for name in self.named(series))

    def _point(
        self, series: Series, value: float, rose: Mapping[Series, float], changes: Mapping[Series, float]
    ) -> Point:
        gauge = series in changes
        return Point(self.target, series, value, changes[series] if gauge else rose.get(series, 0.0), gauge)

    def _gauge_changes(self, samples: Mapping[Series, float]) -> dict[Series, float]:
        held = {s: v for s, v in samples.items() if s.partition(b"{")[0] in self._gauges and isfinite(v)}
        before, self._held = self._held, held
        if not before:
            return dict.fromkeys(held, 0.0)
        return {series: held.get(series, 0.0) - before.get(series, 0.0) for series in before | held}

    def _sums(self, values: Iterable[tuple[Series, float]]) -> dict[str, float]:
        found: dict[str, float] = {}
        for series, value in values:
            for name in self._names.get(series.partition(b"{")[0], ()):
                found[name] = found.get(name, 0.0) + value
        return found

    def _by_model(self, values: Iterable[tuple[Series, float]]) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for series, value in values:
            model = self.models.model_of(series)
            for name in self._names[series.partition(b"{")[0]] if model else ():
                if name not in GAUGES:
                    row = found.setdefault(model, {})
                    row[name] = row.get(name, 0.0) + value
        return found

    def named(self, series: Series) -> Sequence[str]:
        """The tracked names a series counts for."""
        return self._names.get(series.partition(b"{")[0], ())


def summed(page: Parsed) -> dict[str, float]:
    """Every sample name of a page with the sum of its series; buckets and creation times left out."""
    found: dict[bytes, float] = {}
    for series, value in page.samples:
        name = series.partition(b"{")[0]
        found[name] = found.get(name, 0.0) + value
    return {name: value for name, value in ((n.decode(), v) for n, v in found.items()) if not _is_part(name, page)}


def _is_part(name: str, page: Parsed) -> bool:
    if name.endswith(_PARTS):
        return page.types.get(name.removesuffix("_bucket")) in ("histogram", "gaugehistogram")
    if name.endswith(_DATE):
        stem = name.removesuffix(_DATE)
        return any(page.types.get(stem + end) in ("counter", "histogram", "summary") for end in ("", "_total"))
    return False
