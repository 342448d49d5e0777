"""The page: every family of a set of snapshots, joined in catalogue order.

Lines are kept per (family, snapshot) as long as the snapshot lives, so one collector's news costs only its own
lines; the rest of a page is a join of bytes. A family whose samples come from several snapshots stands together
under one announcement; a family without samples is not announced.
Source: Prometheus text format 0.0.4; OpenMetrics 1.0; prometheus_client 0.26, whose bytes these are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple
from weakref import WeakKeyDictionary

from tallykeep.exposition.lexical import help_text, label_value
from tallykeep.exposition.lines import Lines, Writer
from tallykeep.metrics import Catalogue, Family, Kind, Sample, Snapshot


class Format(Enum):
    """A format of the page, by its media type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Page(NamedTuple):
    """A rendered page. One that shows ages is right for the moment it was rendered for, and no longer."""

    data: bytes
    has_ages: bool


@dataclass(frozen=True, slots=True)
class _Head:
    text: bytes
    openmetrics: bytes


class Renderer:
    """Renders pages of one catalogue. Not to be used by two threads at once.

    Families the catalogue does not know follow after those it does: nothing that was measured is left out.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._order = tuple(catalogue)
        self._writers: dict[Family, Writer] = {}
        self._heads: dict[Family, _Head] = {}
        self._lines: WeakKeyDictionary[Snapshot, Mapping[Family, Lines]] = WeakKeyDictionary()

    def render(self, snapshots: Sequence[Snapshot], format: Format, now: float) -> Page:
        """One page of `snapshots`; ages are reckoned as of `now`, in Unix seconds."""
        everything = [self._lines_of(snapshot) for snapshot in snapshots]
        blocks: list[bytes] = []
        ages = False
        for family in self._families(everything):
            parts = [lines[family] for lines in everything if family in lines]
            if parts:
                ages = ages or family.moving
                blocks.extend(self._block(family, parts, format, now))
        if format is Format.OPENMETRICS:
            blocks.append(b"# EOF\n")
        return Page(b"".join(blocks), ages)

    def _families(self, everything: Iterable[Mapping[Family, Lines]]) -> Iterable[Family]:
        return dict.fromkeys([*self._order, *(family for lines in everything for family in lines)])

    def _block(self, family: Family, parts: Sequence[Lines], format: Format, now: float) -> Iterator[bytes]:
        head = self._heads.get(family) or self._heads.setdefault(family, _head(family))
        yield head.text if format is Format.TEXT else head.openmetrics
        for lines in parts:
            if family.moving:
                yield lines.aged(family, now)
            else:
                yield lines.text if format is Format.TEXT else lines.openmetrics
        self._writer(family).forget(sum(lines.series for lines in parts))

    def _lines_of(self, snapshot: Snapshot) -> Mapping[Family, Lines]:
        known = self._lines.get(snapshot)
        if known is None:
            groups = grouped(snapshot.samples)
            known = {family: self._writer(family).write(samples) for family, samples in groups.items()}
            self._lines[snapshot] = known
        return known

    def _writer(self, family: Family) -> Writer:
        return self._writers.get(family) or self._writers.setdefault(family, Writer(family))


def grouped(samples: Iterable[Sample]) -> dict[Family, list[Sample]]:
    """Samples by family, in the order of first appearance."""
    groups: dict[Family, list[Sample]] = {}
    last: Family | None = None
    group: list[Sample] = []
    for sample in samples:
        if sample[0] is not last:
            last = sample[0]
            group = groups.setdefault(last, [])
        group.append(sample)
    return groups


def _head(family: Family) -> _Head:
    kind = "gauge" if family.kind is Kind.STATE_SET else family.kind.value  # 0.0.4 knows no state sets
    text = f"# HELP {family.name} {help_text(family.help)}\n# TYPE {family.name} {kind}\n"
    name = family.name.removesuffix("_total") if family.kind is Kind.COUNTER else family.name
    rich = f"# HELP {name} {label_value(family.help)}\n# TYPE {name} {family.kind.value}\n"
    unit = unit_word(family)
    if unit:
        rich += f"# UNIT {name} {unit}\n"
    return _Head(text.encode(), rich.encode())


def unit_word(family: Family) -> str:
    """The unit as OpenMetrics names it ("bytes"); "" where the name does not end with it, as UNIT demands."""
    unit = family.unit.suffix.rpartition("_")[2]
    name = family.name.removesuffix("_total") if family.kind is Kind.COUNTER else family.name
    return unit if unit and name.endswith(f"_{unit}") else ""
