"""Prometheus pages as samples: the way back from exposition.

The fast path takes plain lines only: a name, labels without escapes, a value. They are recognised by one strict
pattern, and by memory from the second page on. Every other line (escapes, timestamps, exemplars) goes to
prometheus_client's parser, which is also the oracle of the tests.

A series is named by its line as it is printed, `name{a="x",b="y"}`, with the labels in the order of their names:
a page of a hundred thousand long series costs its own size in memory, and labels are taken apart where somebody
asks for them.
Source: Prometheus text format 0.0.4; OpenMetrics 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise

from tallykeep.errors import Malformed
from tallykeep.exposition.lexical import label_value

Series = bytes  # name{label="value",...}: labels sorted by name, escaped as on a page

_NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = rb'[a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*"'
_PLAIN = re.compile(_NAME + rb"(?:\{(?:" + _LABEL + rb"(?:," + _LABEL + rb")*)?\})?")
_LABEL_NAMES = re.compile(rb'[{,]([a-zA-Z_][a-zA-Z0-9_]*)="[^"\\\n]*"')
_PAIR = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SPARE = 10_000  # series remembered beyond those of the last page


@dataclass(slots=True)
class Parsed:
    """One page."""

    types: dict[str, str] = field(default_factory=dict)  # family -> counter, gauge, histogram, ...
    samples: list[tuple[Series, float]] = field(default_factory=list)  # as they stand


def name_of(series: Series) -> str:
    """The name of a series' samples, suffixes such as _total, _bucket and _created included."""
    return series.partition(b"{")[0].decode()


def labels_of(series: Series) -> dict[str, str]:
    """The labels of a series, unescaped."""
    inside = series.partition(b"{")[2].decode()
    return {name: _unescaped(value) for name, value in _PAIR.findall(inside)}


def series_of(name: str, labels: Mapping[str, str]) -> Series:
    """The series of that name with these labels."""
    inside = ",".join(f'{key}="{label_value(value)}"' for key, value in sorted(labels.items()))
    return (f"{name}{{{inside}}}" if inside else name).encode()


def _unescaped(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], value)


class Parser:
    """Parses pages of one source. What it remembers of them is bounded by the size of the last one."""

    def __init__(self) -> None:
        self._known: dict[bytes, Series] = {}
        self._escapes = False  # whether the present page has any
        self._skeletons: dict[bytes, bool] = {}  # plain ones; whether it is a series as it stands

    def parse(self, data: bytes, *, openmetrics: bool = False) -> Parsed:
        """The samples of a page, in its order, and the types it announces.

        Raises: Malformed naming the line.
        """
        page = Parsed()
        self._escapes = b"\\" in data
        known, samples = self._known, page.samples
        for line in BytesIO(data):
            if line[0] == 35:  # "#"
                _announced(line, page.types)
                continue
            written, _, number = line.rpartition(b" ")
            series = known.get(written)
            if series is None:
                series = self._met(written)
                if series is None:
                    samples.extend(_slow(line, openmetrics))
                    continue
            try:
                samples.append((series, float(number)))
            except ValueError:
                samples.extend(_slow(line, openmetrics))
        self._forget(len(samples))
        return page

    def _met(self, written: bytes) -> Series | None:
        """The series of a plain line met for the first time; None where the line is not plain.

        A page repeats few skeletons (a line without its label values) under many values: the pattern looks at
        each skeleton once, which takes two thirds off the time of a first page.
        """
        parts = written.split(b'"')
        if not len(parts) % 2 or (self._escapes and b"\\" in written):
            return None
        skeleton = b'"'.join(parts[::2])
        in_order = self._skeletons.get(skeleton)
        if in_order is None:
            if _PLAIN.fullmatch(written) is None:
                return None
            in_order = self._skeletons[skeleton] = _in_order(written)
        series = written if in_order else _sorted(written)
        self._known[written] = series
        return series

    def _forget(self, alive: int) -> None:
        for memory in (self._known, self._skeletons):
            if len(memory) > 2 * alive + _SPARE:
                memory.clear()


def _in_order(written: bytes) -> bool:
    """Whether a plain line names its series as we do: labels by name, no empty braces."""
    names = _LABEL_NAMES.findall(written)
    return all(a < b for a, b in pairwise(names)) and not written.endswith(b"{}")


def _sorted(written: bytes) -> Series:
    return series_of(name_of(written), labels_of(written))


def _announced(line: bytes, types: dict[str, str]) -> None:
    if line.startswith(b"# TYPE "):
        words = line.decode().split()
        if len(words) == 4:
            types[words[2]] = words[3]


def _slow(line: bytes, openmetrics: bool) -> Iterator[tuple[Series, float]]:
    """One line by the library's parser."""
    if not line.strip():
        return
    try:
        text = line.decode()
        for name, labels, value in _by_library(text, openmetrics):
            yield series_of(name, labels), value
    except (ValueError, UnicodeDecodeError, KeyError, IndexError) as error:
        shown = line[:120].decode(errors="replace").rstrip()
        raise Malformed(f"this line of the page does not parse: {shown!r} ({error})") from error


def _by_library(text: str, openmetrics: bool) -> Iterable[tuple[str, Mapping[str, str], float]]:
    if openmetrics:
        from prometheus_client.openmetrics import parser as rich

        families = rich.text_string_to_metric_families(text.rstrip("\n") + "\n# EOF\n")
    else:
        from prometheus_client import parser as plain

        families = plain.text_string_to_metric_families(text)
    return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]
