"""Prometheus pages as samples: the way back from exposition.

The fast path takes plain lines only: a name, labels without escapes, a value. They are recognised by one strict
pattern, and by memory from the second page on. Every other line (escapes, timestamps, exemplars, quoted names) goes
to prometheus_client's line parser, which is also the oracle of the tests. What that parser checks across lines of
OpenMetrics (order of buckets, grouping) is not checked: samples are read, pages are not judged. But a page that
OpenMetrics lets us see to be cut short is refused.

A series is named by its line as it is printed, `name{a="x",b="y"}`, with the labels in the order of their names:
a page of a hundred thousand long series costs its own size in memory, and labels are taken apart where somebody
asks for them.
Source: Prometheus text format 0.0.4; OpenMetrics 1.0; prometheus_client 0.26.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise
from math import inf

from tallykeep.errors import Malformed
from tallykeep.exposition.lexical import label_value

Series = bytes  # name{label="value",...}: labels sorted by name, escaped as on a page

LONGEST_ODD_LINE = 16_384  # bytes; the library's parser needs time by the square of a line's length
_SPARE = 10_000  # series remembered beyond those of the last page
_MATCHERS = 500  # patterns made for one source; each takes a third of a millisecond

_NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = rb'(?!__)[a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*"'
_PLAIN = re.compile(_NAME + rb"(?:\{(?:" + _LABEL + rb"(?:," + _LABEL + rb")*(,)?)?\})?")
_LABEL_NAMES = re.compile(rb'[{,]([a-zA-Z_][a-zA-Z0-9_]*)="[^"\\\n]*"')
_TYPE = re.compile(r'#\s+TYPE\s+(?:"((?:[^"\\]|\\.)*)"|(\S+))\s+(\S+)\s*')

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_PAIR = re.compile(r'(?:([a-zA-Z_][a-zA-Z0-9_]*)|"((?:[^"\\]|\\.)*)")="((?:[^"\\]|\\.)*)"')
_PLAIN_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_PLAIN_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)

_RISING = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum"), "counter": ("_total",)}


@dataclass(slots=True)
class Parsed:
    """One page."""

    types: dict[str, str] = field(default_factory=dict)  # family -> counter, gauge, histogram, ... as announced
    samples: list[tuple[Series, float]] = field(default_factory=list)  # as they stand, repetitions included

    def rises(self, name: str) -> bool:
        """Whether samples of this name only ever rise while their process lives, by what the page announces."""
        if self.types.get(name) == "counter":
            return True
        parts = (name.removesuffix(end) for end in ("_total", "_bucket", "_count", "_sum") if name.endswith(end))
        return any(name.endswith(_RISING.get(self.types.get(family, ""), ())) for family in parts)


def name_of(series: Series) -> str:
    """The name of a series' samples, suffixes such as _total, _bucket and _created included."""
    name, _, inside = series.partition(b"{")
    if name:
        return name.decode()
    quoted = _QUOTED.match(inside.decode())
    return _unescaped(quoted[1]) if quoted else ""


def labels_of(series: Series) -> dict[str, str]:
    """The labels of a series, unescaped."""
    name, _, rest = series.partition(b"{")
    inside = rest.decode()
    if not name and (quoted := _QUOTED.match(inside)):
        inside = inside[quoted.end() :]
    return {plain or _unescaped(odd): _unescaped(value) for plain, odd, value in _PAIR.findall(inside)}


def series_of(name: str, labels: Mapping[str, str]) -> Series:
    """The series of that name with these labels. Names that are not plain stand quoted, as UTF-8 names do."""
    pairs = [f'{_label_name(key)}="{label_value(value)}"' for key, value in sorted(labels.items())]
    if not _PLAIN_NAME.fullmatch(name):
        return f"{{{','.join([_quoted(name), *pairs])}}}".encode()
    return (f"{name}{{{','.join(pairs)}}}" if pairs else name).encode()


def _label_name(name: str) -> str:
    return name if _PLAIN_LABEL.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    return f'"{label_value(text)}"'


def _unescaped(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], value)


_Matcher = Callable[[bytes], object]


def _never(line: bytes) -> None:
    """Matches no line."""


class Parser:
    """Parses pages of one source. What it remembers of them is bounded by the size of the last one."""

    def __init__(self) -> None:
        self._known: dict[bytes, Series] = {}
        self._skeletons: dict[bytes, bool] = {}  # plain ones; whether it is a series as it stands
        self._matchers: dict[bytes, _Matcher] = {}  # by skeleton
        self._match: _Matcher = _never  # of the lines like the last ones
        self._last = b""  # skeleton of the last line met for the first time
        self._simple = False  # the present page is ASCII without escapes
        self._openmetrics = False  # the format of what is remembered

    def parse(self, data: bytes, *, openmetrics: bool = False) -> Parsed:
        """The samples of a page, in its order, and the types it announces.

        Raises: Malformed naming the line.
        """
        if openmetrics:
            _check_end(data)
        if openmetrics is not self._openmetrics:
            self._openmetrics = openmetrics
            self._known.clear()
            self._skeletons.clear()
            self._matchers.clear()
        page = Parsed()
        self._simple = b"\\" not in data and data.isascii()
        self._match, self._last = _never, b""
        self._read(data, page)
        self._forget(len(page.samples))
        return page

    def _read(self, data: bytes, page: Parsed) -> None:
        known, samples, strict = self._known, page.samples, self._openmetrics
        for line in BytesIO(data):
            if line[0] == 35:  # "#"
                _announced(line, page.types)
                continue
            written, _, number = line.rpartition(b" ")
            series = known.get(written)
            if series is None:
                if self._match(written):
                    known[written] = series = written
                else:
                    series = self._met(written)
            if series is None or b"_" in number or (strict and number.strip() != number.removesuffix(b"\n")):
                samples.extend(_slow(line, page.types, strict))
                continue
            try:
                samples.append((series, float(number)))
            except ValueError:
                samples.extend(_slow(line, page.types, strict))

    def _met(self, written: bytes) -> Series | None:
        """The series of a plain line met for the first time; None where the line is not plain.

        A page repeats few skeletons (a line without its label values) under many values: the pattern looks at
        each skeleton once, and neighbours with the same skeleton are recognised by a pattern of their own. That takes
        two thirds off the time of a first page.
        """
        parts = written.split(b'"')
        if not len(parts) % 2 or (not self._simple and b"\\" in written):
            return None
        skeleton = b'"'.join(parts[::2])
        in_order = self._skeletons.get(skeleton)
        if in_order is None:
            if not self._is_plain(written):
                return None
            in_order = self._skeletons[skeleton] = _in_order(written)
        if not written.isascii():
            _check_text(written)
        if self._simple and in_order and skeleton == self._last:
            self._match = self._matcher(skeleton, parts[::2])
        self._last = skeleton
        series = written if in_order else series_of(name_of(written), labels_of(written))
        self._known[written] = series
        return series

    def _matcher(self, skeleton: bytes, pieces: list[bytes]) -> _Matcher:
        """Recognises lines with this skeleton on a page without escapes."""
        match = self._matchers.get(skeleton, _never)
        if match is _never and len(self._matchers) < _MATCHERS:
            match = self._matchers[skeleton] = re.compile(b'"[^"]*+"'.join(map(re.escape, pieces))).fullmatch
        return match

    def _is_plain(self, written: bytes) -> bool:
        found = _PLAIN.fullmatch(written)
        if found is None or (found[1] and self._openmetrics):  # OpenMetrics knows no trailing comma
            return False
        names = _LABEL_NAMES.findall(written)
        return len(set(names)) == len(names)

    def _forget(self, alive: int) -> None:
        for memory in (self._known, self._skeletons):
            if len(memory) > 2 * alive + _SPARE:
                memory.clear()


def _in_order(written: bytes) -> bool:
    """Whether a plain line names its series as we do: labels by name, no empty braces, no trailing comma."""
    names = _LABEL_NAMES.findall(written)
    return all(a < b for a, b in pairwise(names)) and not written.endswith((b"{}", b",}"))


def _check_end(data: bytes) -> None:
    if not data.removesuffix(b"\n").endswith(b"# EOF") or b"\n# EOF\n" in data[:-1]:
        raise Malformed("the page is not one whole OpenMetrics page: `# EOF` is not its last line")


def _check_text(line: bytes) -> None:
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise _malformed(line, "it is not UTF-8") from error


def _malformed(line: bytes, why: object) -> Malformed:
    shown = line[:120].decode(errors="replace").rstrip()
    return Malformed(f"this line of the page does not parse: {shown!r} ({why})")


def _announced(line: bytes, types: dict[str, str]) -> None:
    if b"TYPE" in line and (found := _TYPE.fullmatch(line.decode(errors="replace"))):
        quoted, plain, kind = found.groups()
        types[plain if quoted is None else _unescaped(quoted)] = kind


def _slow(line: bytes, types: dict[str, str], openmetrics: bool) -> Iterable[tuple[Series, float]]:
    """The sample of one line by the library's parser; nothing for a comment or a blank line.

    Raises: Malformed.
    """
    if len(line) > LONGEST_ODD_LINE:
        raise _malformed(line, f"{len(line)} bytes with escapes, a timestamp or an exemplar")
    _check_text(line)
    text = line.decode().strip() if not openmetrics else line.decode().removesuffix("\n")
    if not text or text.startswith("#"):
        _announced(text.encode(), types)
        return ()
    try:
        return (_by_library(text, openmetrics),)
    except Exception as error:  # whatever a line of strangers makes the library raise
        raise _malformed(line, str(error) or type(error).__name__) from error


def _by_library(text: str, openmetrics: bool) -> tuple[Series, float]:
    # the line parsers are private by name; the public ones judge whole pages and would refuse lone exemplars
    if openmetrics:
        from prometheus_client.openmetrics.parser import _parse_sample
    else:
        from prometheus_client.parser import _parse_sample
    if "{" not in text and len(text.split(None, 1)) < 2:
        raise ValueError("no value")  # the library would take "nan" for a sample named na
    name, labels, value, *_ = _parse_sample(text)
    try:
        return series_of(name, labels), float(value)
    except OverflowError:  # an integer of hundreds of digits
        return series_of(name, labels), inf if value > 0 else -inf
