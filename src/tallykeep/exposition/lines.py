"""The sample lines of one family, as both formats print them.

A line is a prefix that stays (name, sorted and escaped labels) and a value that moves. The prefixes are kept from
one rendering to the next: escaping labels is four fifths of what a page costs. Lines of text 0.0.4 and OpenMetrics
1.0 are the same bytes but for the exemplars of a histogram, so they are written once.
Source: prometheus_client 0.26 (`generate_latest` of both formats); tests compare the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeVar, cast

from tallykeep.exposition.lexical import go_float, label_value
from tallykeep.metrics import Distribution, Exemplar, Family, Kind, Sample

_Labels = tuple[str, ...]
_Made = TypeVar("_Made")
_SPARE_PREFIXES = 1000  # of series that are gone, kept before a cache is emptied


class Lines(NamedTuple):
    """What one snapshot says of one family."""

    text: bytes
    openmetrics: bytes  # the very same object where no exemplar makes a difference
    series: int
    ages: tuple[tuple[str, float], ...] = ()  # of a moving family: prefix and Unix timestamp; text is empty then

    def aged(self, family: Family, now: float) -> bytes:
        """The lines of an age or countdown family as of `now`, in Unix seconds."""
        return "".join([f"{prefix}{go_float(family.shown(at, now))}\n" for prefix, at in self.ages]).encode()


class _Memory(dict[_Labels, _Made]):
    """A dict that makes what it lacks."""

    def __init__(self, make: Callable[[_Labels], _Made]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, labels: _Labels) -> _Made:
        made = self[labels] = self._make(labels)
        return made


class Writer:
    """Writes the lines of one family and remembers the prefixes of its series."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self._order = sorted(range(len(family.labels)), key=lambda i: family.labels[i])
        self._plain = _Memory(lambda labels: self._prefix(family.name, labels))
        self._shaped = _Memory(self._histogram_prefixes)
        self._stated = _Memory(self._state_prefixes)

    def write(self, samples: Sequence[Sample]) -> Lines:
        """The lines of `samples`, all of this family, in their order."""
        if self.family.kind is Kind.HISTOGRAM:
            return self._histograms(samples)
        if self.family.kind is Kind.STATE_SET:
            return self._same("".join([line for sample in samples for line in self._states(sample)]), samples)
        numbers = cast(Sequence[tuple[Family, _Labels, float]], samples)
        prefixes = self._plain
        if self.family.moving:
            return Lines(b"", b"", len(samples), tuple((prefixes[labels], since) for _, labels, since in numbers))
        # repr is what go_float gives within these bounds; the call alone would double the time of a large page
        lines = [
            f"{prefixes[labels]}{value!r}\n" if -1e6 < value < 1e6 else f"{prefixes[labels]}{go_float(value)}\n"
            for _, labels, value in numbers
        ]
        return self._same("".join(lines), samples)

    def forget(self, alive: int) -> None:
        """Empty the memory when it holds far more series than the `alive` ones of the page."""
        for memory in (self._plain, self._shaped, self._stated):
            if len(memory) > 2 * alive + _SPARE_PREFIXES:
                memory.clear()

    @staticmethod
    def _same(text: str, samples: Sequence[Sample]) -> Lines:
        data = text.encode()
        return Lines(data, data, len(samples))

    def _prefix(self, name: str, labels: _Labels, extra: tuple[str, str] | None = None) -> str:
        pairs = [(self.family.labels[i], labels[i]) for i in self._order]
        if extra is not None:
            pairs = sorted([*pairs, extra])
        inside = ",".join([f'{key}="{label_value(value)}"' for key, value in pairs])
        return f"{name}{{{inside}}} " if inside else f"{name} "

    def _state_prefixes(self, labels: _Labels) -> tuple[tuple[str, str], ...]:
        name = self.family.name
        return tuple((state, self._prefix(name, labels, (name, state))) for state in sorted(self.family.states))

    def _states(self, sample: Sample) -> Iterator[str]:
        for state, prefix in self._stated[sample.labels]:
            yield f"{prefix}1.0\n" if state == sample.value else f"{prefix}0.0\n"

    def _histogram_prefixes(self, labels: _Labels) -> tuple[str, ...]:
        name = self.family.name
        bounds = [*(go_float(float(bound)) for bound in self.family.buckets), "+Inf"]
        buckets = (self._prefix(f"{name}_bucket", labels, ("le", bound)) for bound in bounds)
        return (*buckets, self._prefix(f"{name}_count", labels), self._prefix(f"{name}_sum", labels))

    def _histograms(self, samples: Sequence[Sample]) -> Lines:
        text = "".join([line for sample in samples for line in self._histogram(sample, exemplars=False)])
        lines = self._same(text, samples)
        if not any(isinstance(s.value, Distribution) and any(s.value.exemplars) for s in samples):
            return lines
        richer = "".join([line for sample in samples for line in self._histogram(sample, exemplars=True)])
        return lines._replace(openmetrics=richer.encode())

    def _histogram(self, sample: Sample, *, exemplars: bool) -> Iterator[str]:
        seen = sample.value
        assert isinstance(seen, Distribution)
        *buckets, count, total = self._shaped[sample.labels]
        running = [go_float(float(n)) for n in accumulate(seen.counts)]
        shown = seen.exemplars if exemplars and seen.exemplars else (None,) * len(buckets)
        for prefix, value, exemplar in zip(buckets, running, shown, strict=True):
            yield f"{prefix}{value}{_exemplar(exemplar) if exemplar else ''}\n"
        if self.family.buckets[0] >= 0:  # with negative observations a sum can fall: it is left out, and the count
            yield f"{count}{running[-1]}\n"
            yield f"{total}{go_float(float(seen.total))}\n"


def _exemplar(exemplar: Exemplar) -> str:
    inside = ",".join([f'{key}="{label_value(value)}"' for key, value in sorted(exemplar.labels)])
    moment = "" if exemplar.timestamp is None else f" {exemplar.timestamp}"
    return f" # {{{inside}}} {go_float(float(exemplar.value))}{moment}"
