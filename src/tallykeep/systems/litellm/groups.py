"""Cells of one axis summed by some of their labels, kept by differences. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tallykeep.systems.litellm.cells import ZERO, Axis, Series, Sums

Labels = tuple[str, ...]


class Groups:
    """Sums of the cells of `axis` by the labels at `places`, or cell by cell where none are given.

    A group without rows is gone.
    """

    def __init__(self, axis: Axis, *places: int) -> None:
        self._axis = axis
        self._places = places
        self._cells: dict[Labels, Sums] = {}  # what each cell was when it was last taken up
        self.sums: dict[Labels, Sums] = self._cells if not places else {}
        self.changed: set[Labels] = set()  # groups that changed with the last update

    def update(self, touched: Iterable[Series], cells: Mapping[Series, Sums]) -> None:
        """Take up the cells that were touched; one that is not among `cells` any more has gone."""
        self.changed = set()
        for series in touched:
            if series.axis is not self._axis:
                continue
            now = cells.get(series, ZERO)
            group = tuple([series.labels[place] for place in self._places]) if self._places else series.labels
            self.changed.add(group)
            if self._places:
                before = self._cells.get(series.labels, ZERO)
                _put(self.sums, group, self.sums.get(group, ZERO).plus(now).minus(before))
            _put(self._cells, series.labels, now)


def _put(sums: dict[Labels, Sums], labels: Labels, now: Sums) -> None:
    if now.requests > 0:
        sums[labels] = now
    else:
        sums.pop(labels, None)


def by(cells: Mapping[Labels, Sums], *places: int) -> dict[Labels, Sums]:
    """Cells of one axis summed by the labels at `places`, afresh."""
    found: dict[Labels, Sums] = {}
    for labels, sums in cells.items():
        group = tuple([labels[place] for place in places])
        found[group] = found[group].plus(sums) if group in found else sums
    return found
