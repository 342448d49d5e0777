"""Both page formats, byte for byte what prometheus_client prints."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString
from tests.support.pages import TheirPage

from tallykeep.exposition.lexical import go_float
from tallykeep.exposition.page import Format, Renderer
from tallykeep.metrics import UNKNOWN, Catalogue, Distribution, Exemplar, Family, Kind, Sample, Snapshot
from tallykeep.units import BYTES, COUNT, FLAG, SECONDS, STATE, TIMESTAMP, Unit

FORMATS = pytest.mark.parametrize("format", list(Format), ids=lambda format: format.name.lower())

words = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.floats(allow_nan=True, allow_infinity=True)
units = st.sampled_from([BYTES, SECONDS, TIMESTAMP, COUNT, FLAG])
states = st.sets(words, max_size=3).map(lambda found: (*sorted(found - {UNKNOWN}, reverse=True), UNKNOWN))
bounds = st.sets(st.floats(-10, 1e9, allow_subnormal=False), min_size=1, max_size=4).map(lambda s: tuple(sorted(s)))
marks = st.builds(
    Exemplar,
    st.dictionaries(words, texts, max_size=2).map(lambda d: tuple(d.items())),
    st.floats(-1e9, 1e9),
    st.none() | st.floats(0, 2e9),
)


@st.composite
def families(draw: st.DrawFn) -> Family:
    kind = draw(st.sampled_from(Kind))
    unit: Unit = STATE if kind is Kind.STATE_SET else draw(units)
    base = draw(words)
    name = base + unit.suffix + "_total" * (kind is Kind.COUNTER)
    labels = draw(st.sets(words.filter(lambda label: label not in (name, "le", "quantile")), max_size=3))
    return Family(
        name,
        kind,
        unit,
        tuple(draw(st.permutations(sorted(labels)))),
        draw(texts),
        buckets=draw(bounds) if kind is Kind.HISTOGRAM else (),
        states=draw(states) if kind is Kind.STATE_SET else (),
    )


@st.composite
def groups(draw: st.DrawFn) -> tuple[Family, list[Sample]]:
    family = draw(families())
    series = draw(st.lists(st.tuples(*(texts for _ in family.labels)), min_size=1, max_size=4))
    return family, [Sample(family, labels, draw(values(family))) for labels in series]


def values(family: Family) -> st.SearchStrategy[float | str | Distribution]:
    if family.kind is Kind.STATE_SET:
        return st.sampled_from(family.states)
    if family.kind is Kind.HISTOGRAM:
        width = len(family.buckets) + 1
        counts = st.tuples(*(st.integers(0, 10**8) for _ in range(width)))
        shown = st.just(()) | st.tuples(*(st.none() | marks for _ in range(width)))
        return st.builds(Distribution, counts, st.floats(-1e12, 1e12), shown)
    return numbers


@FORMATS
@settings(deadline=None)
@given(found=st.lists(groups(), max_size=4, unique_by=lambda group: group[0].name))
def test_page_equals_prometheus_client(format: Format, found: list[tuple[Family, list[Sample]]]) -> None:
    """Whatever the families, labels, help texts and values: the bytes are those of prometheus_client."""
    renderer = Renderer(Catalogue(family for family, _ in found))
    snapshot = Snapshot("c", "t", tuple(sample for _, samples in found for sample in samples), 0.0)
    ours = renderer.render([snapshot], format, 0.0).data
    assert ours == TheirPage(found).render(format)
    assert ours == renderer.render([snapshot], format, 0.0).data, "the second, from kept lines, differs"


@given(st.floats())
def test_go_float_is_the_client_librarys(value: float) -> None:
    """Numbers are spelt as prometheus_client spells them, over the whole range."""
    assert go_float(value) == floatToGoString(value)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e6, 999999.0, 123456789.0, 1e16, 1e-7, -1e7, math.inf, -math.inf])
def test_go_float_at_the_edges(value: float) -> None:
    """The turns to exponents fall where prometheus_client has them."""
    assert go_float(value) == floatToGoString(value)


EVERY_KIND = (
    Family("backup_size_bytes", Kind.GAUGE, BYTES, ("zone", "bucket"), 'Size, "quoted" \\ and\nbroken.'),
    Family("commits_total", Kind.COUNTER, COUNT, ("db",), "Commits."),
    Family("drill_duration_seconds", Kind.HISTOGRAM, SECONDS, ("zzz", "db"), "Drills.", buckets=(0.5, 1.0, 1e6)),
    Family("verdict", Kind.STATE_SET, STATE, ("db",), "May it be restored?", states=("restorable", "broken", UNKNOWN)),
    Family("seen_timestamp_seconds", Kind.GAUGE, TIMESTAMP, (), "When it was seen."),
)


def every_kind() -> list[tuple[Family, list[Sample]]]:
    size, commits, drill, verdict, seen = EVERY_KIND
    mark = Exemplar((("txid", "000000000000000a"), ("db", "main")), 0.7, 1700000000.25)
    return [
        (size, [size(1e9, zone="z\n1", bucket='b"\\'), size(math.nan, zone="", bucket="é")]),
        (commits, [commits(3.0, db="a"), commits(math.inf, db="b")]),
        (drill, [drill(Distribution((1, 0, 2, 4), 12.5, (None, mark, None, mark)), db="a", zzz="1")]),
        (verdict, [verdict("broken", db="a"), verdict(UNKNOWN, db="b")]),
        (seen, [seen(1700000000.5)]),
    ]


@FORMATS
def test_every_kind_equals_prometheus_client(format: Format) -> None:
    """One family of each kind, with exemplars, units, quotes and NaN."""
    found = every_kind()
    snapshot = Snapshot("c", "t", tuple(sample for _, samples in found for sample in samples), 0.0)
    assert Renderer(Catalogue(EVERY_KIND)).render([snapshot], format, 0.0).data == TheirPage(found).render(format)


def test_openmetrics_page_parses() -> None:
    """prometheus_client's own strict OpenMetrics parser reads the page back, with units and exemplars."""
    found = every_kind()
    snapshot = Snapshot("c", "t", tuple(sample for _, samples in found for sample in samples), 0.0)
    page = Renderer(Catalogue(EVERY_KIND)).render([snapshot], Format.OPENMETRICS, 0.0).data.decode()
    parsed = {family.name: family for family in text_string_to_metric_families(page)}
    assert parsed["commits"].type == "counter"
    assert parsed["backup_size_bytes"].unit == "bytes"
    assert parsed["verdict"].type == "stateset"
    assert any(sample.exemplar for sample in parsed["drill_duration_seconds"].samples)
