"""The Book: what tallykeep itself does, counted as it happens.

A collector reports what it sees; the Book holds what the program did (bytes archived, errors met). Entries
live as long as the process unless they are dropped. Safe to use from any thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock

from tallykeep.metrics.family import Family, Kind
from tallykeep.metrics.sample import Distribution, Exemplar, Sample

_Key = tuple[Family, tuple[str, ...]]


class _Histogram:
    __slots__ = ("counts", "exemplars", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * (buckets + 1)
        self.exemplars: list[Exemplar | None] = [None] * (buckets + 1)
        self.total = 0.0


class Book:
    """Running counters, gauges and histograms, keyed by family and label values."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._values: dict[_Key, float | str] = {}
        self._histograms: dict[_Key, _Histogram] = {}
        self._version = 0

    @property
    def version(self) -> int:
        """Rises with every change: a renderer that has seen it need not render again."""
        return self._version

    @contextmanager
    def together(self) -> Iterator[None]:
        """Changes within belong together: who reads has all of them or none. Readers wait, so be quick."""
        with self._lock:
            yield

    def add(self, family: Family, amount: float = 1.0, **labels: object) -> None:
        """Raise a counter (or a gauge that counts). Adding 0 makes the series appear at 0."""
        if family.kind is Kind.COUNTER and amount < 0:
            raise ValueError(f"{family.name} is a counter: it cannot fall by {-amount}")
        sample = family(amount, **labels)
        key = (family, sample.labels)
        with self._lock:
            before = self._values.get(key, 0.0)
            assert isinstance(before, float) and isinstance(sample.value, float)
            self._values[key] = before + sample.value
            self._version += 1

    def set(self, family: Family, value: float | str, **labels: object) -> None:
        """Put a gauge at `value`, or a state set into a state."""
        if family.kind not in (Kind.GAUGE, Kind.STATE_SET):
            raise ValueError(f"{family.name} is a {family.kind.value}: it cannot be set")
        sample = family(value, **labels)
        assert not isinstance(sample.value, Distribution)
        with self._lock:
            self._values[(family, sample.labels)] = sample.value
            self._version += 1

    def observe(self, family: Family, value: float, exemplar: Exemplar | None = None, **labels: object) -> None:
        """Count one observation in a histogram."""
        empty = Distribution((0,) * (len(family.buckets) + 1), 0.0)
        key = (family, family(empty, **labels).labels)
        with self._lock:
            histogram = self._histograms.setdefault(key, _Histogram(len(family.buckets)))
            bucket = bisect_left(family.buckets, value)
            histogram.counts[bucket] += 1
            histogram.total += value
            if exemplar is not None:
                histogram.exemplars[bucket] = exemplar
            self._version += 1

    def adder(self, family: Family, **labels: object) -> Callable[[float], None]:
        """`add` for one counter whose labels are looked at once: 0.5 us where `add` takes 6. It appears at 0."""
        self.add(family, 0, **labels)
        key = (family, family(0, **labels).labels)

        def add(amount: float) -> None:
            with self._lock:
                self._values[key] = self._values.get(key, 0.0) + amount  # type: ignore[operator]  # a counter's value
                self._version += 1

        return add

    def observer(self, family: Family, **labels: object) -> Callable[[float], None]:
        """`observe` for one histogram whose labels are looked at once. It appears with nothing in it."""
        empty = Distribution((0,) * (len(family.buckets) + 1), 0.0)
        key = (family, family(empty, **labels).labels)
        with self._lock:
            self._histograms.setdefault(key, _Histogram(len(family.buckets)))
            self._version += 1

        def observe(value: float) -> None:
            bucket = bisect_left(family.buckets, value)
            with self._lock:
                histogram = self._histograms.setdefault(key, _Histogram(len(family.buckets)))
                histogram.counts[bucket] += 1
                histogram.total += value
                self._version += 1

        return observe

    def drop(self, family: Family, **labels: object) -> None:
        """Forget one series: what it described is gone."""
        values = tuple(str(labels[name]) for name in family.labels)
        with self._lock:
            self._values.pop((family, values), None)
            self._histograms.pop((family, values), None)
            self._version += 1

    def read(self) -> tuple[Sample, ...]:
        """Every series as it stands, in the order of first appearance."""
        with self._lock:
            plain = [Sample(family, labels, value) for (family, labels), value in self._values.items()]
            shaped = [
                Sample(family, labels, Distribution(tuple(h.counts), h.total, tuple(h.exemplars)))
                for (family, labels), h in self._histograms.items()
            ]
        return (*plain, *shaped)
