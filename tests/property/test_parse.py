"""Pages read back: ours against prometheus_client's parsers, for pages of every shape and for hostile bytes."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as om
from prometheus_client.parser import text_string_to_metric_families

from tallykeep.errors import Malformed
from tallykeep.exposition.parse import LONGEST_ODD_LINE, Parsed, Parser, Series, labels_of, name_of, series_of

PAGE = Path(__file__).parent.parent / "fixtures" / "litellm" / "metrics_page.txt"

NAMES = st.sampled_from(["up", "requests_total", "a:b", "_x", "latency_bucket", "spend_created", "in_flight"])
LABELS = st.sampled_from(["model", "le", "a", "b", "z9", "_y", "Model"])
VALUES = st.one_of(
    st.sampled_from(
        ["", "x", "}", "{", ",", "=", 'a="b"', "a b", "} 1", "# TYPE", "\\", "\\n", "\n", '"', " ", "\r", "\t"]
    ),
    st.sampled_from(["\u2028", "\u0085", "\u2029", "\x0b", "\x1c", "é", "💸", "C:\\new", "\\\\", '\\"', "\x00", "#"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
NUMBERS = st.one_of(
    st.sampled_from(
        ["0", "1", "-1", "1.5", "+Inf", "-Inf", "NaN", "nan", "1e3", "1E-5", "1e400", "0x1", "1_0", ".5", "5."]
    ),
    st.floats().map(repr),
    st.integers(-(10**30), 10**30).map(str),
)


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@st.composite
def sample_lines(draw: st.DrawFn, openmetrics: bool = False) -> str:
    """A line of a sample: labels in any order, with every freedom the formats leave."""
    name, labels = draw(NAMES), draw(st.dictionaries(LABELS, VALUES, max_size=4))
    pairs = draw(st.permutations([f'{key}="{escaped(value)}"' for key, value in labels.items()]))
    may_end_with_comma = bool(pairs) and not openmetrics
    comma = draw(st.sampled_from(["", ","])) if may_end_with_comma else ""
    empty = draw(st.sampled_from(["", "{}"]))
    braces = "{" + ",".join(pairs) + comma + "}" if pairs else empty
    gap = " " if openmetrics else draw(st.sampled_from([" ", " ", "  ", "\t", " \t"]))
    moment = draw(st.sampled_from(["", "", "", " 1700000000123", " 0", " -5"]))
    before, after = (
        ("", "") if openmetrics else (draw(st.sampled_from(["", "", " "])), draw(st.sampled_from(["", "", " ", "\r"])))
    )
    return f"{before}{name}{braces}{gap}{draw(NUMBERS)}{moment}{after}"


OTHERS = st.sampled_from(
    ["", "  ", "# a comment", "#", "# HELP up Help, with { and \\n", "# TYPE up gauge", "# EOF", "#x y z"]
)


@st.composite
def pages(draw: st.DrawFn) -> str:
    lines = draw(st.lists(st.one_of(sample_lines(), sample_lines(), OTHERS), max_size=12))
    return "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n"]))


Flat = list[tuple[str, dict[str, str], str]]


def flat(samples: Iterable[tuple[Series, float]]) -> Flat:
    return [(name_of(series), labels_of(series), repr(float(value))) for series, value in samples]


def read(text: str, *, openmetrics: bool = False) -> Parsed:
    """Parsed twice by one Parser: from memory it is the same page."""
    parser = Parser()
    first = parser.parse(text.encode(), openmetrics=openmetrics)
    again = parser.parse(text.encode(), openmetrics=openmetrics)
    assert flat(first.samples) == flat(again.samples)
    assert first.types == again.types
    return first


def by_library(text: str) -> Flat:
    families = text_string_to_metric_families(text)
    return [(s.name, dict(s.labels), number(s.value)) for family in families for s in family.samples]


def number(value: float) -> str:
    try:
        return repr(float(value))
    except OverflowError:
        return repr(math.copysign(math.inf, value))


@given(pages())
@settings(max_examples=300)
@example('up{a="}"} 1\nup{a=",b=\\"c\\""} +Inf\nup{} NaN\n')
@example('up{b="2",a="1"} 1\nup{a="1",b="2"} 2')
@example('up{a="\u2028x\u0085y"} 1\r\n\n# TYPE up gauge')
@example('up{a="1",} 1\nup{,} 2\nup{a="1", b="2"} 3')
@example('up{a="1",a="2"} 1')
@example('up{__name__="x"} 1')
@example('up{__x="1"} 1')
@example("up 1_0")
@example("nan")
@example("inf\n")
def test_text_pages_read_as_the_library_reads_them(text: str) -> None:
    """Every sample, in order, with its exact name, labels and value; and what the library refuses is Malformed."""
    try:
        expected = by_library(text)
    except ValueError:
        with pytest.raises(Malformed):
            read(text)
        return
    if any(
        len(line.split()) == 1 and not line.strip().startswith("#") and "{" not in line for line in text.split("\n")
    ):
        return  # a lone word: the library reads "nan" as a sample of na
    assert flat(read(text).samples) == expected


ALIKE = st.sampled_from(
    [
        'up{a="1",b="2"}',
        'up{a="",b="}"}',
        'up{a=" ",b=","}',
        'up{a="é",b="\u2028"}',
        'up{a="1",b="2"}"',
        'up{a="1",b="2",}',
        'up{a="1"b="2"}',
        'up{b="1",a="2"}',
        'up{a="1",b="\\""}',
        'up{a="1",b="2"} 5',
        'up{a="1",b="2"}"x"',
        'up{a="1","b="2"}',
    ]
)


@given(st.lists(st.tuples(st.one_of(ALIKE, st.just('up{a="x",b="y"}')), NUMBERS), min_size=3, max_size=12))
@settings(max_examples=300)
def test_neighbours_alike_read_as_the_library_reads_them(lines: list[tuple[str, str]]) -> None:
    """Lines of one shape, each next to one that only nearly has it: none is taken for what it is not."""
    text = "".join(f"{series} {value}\n" for series, value in lines)
    try:
        expected = by_library(text)
    except ValueError:
        with pytest.raises(Malformed):
            read(text)
        return
    assert flat(read(text).samples) == expected


@given(st.lists(sample_lines(openmetrics=True), max_size=8))
@settings(max_examples=200)
@example(['up{a="b"} 1 # {trace="x"} 0.5 1.5'])
@example(['up{a="1",} 1'])
@example(["up 1\r"])
@example(["up  1"])
def test_openmetrics_lines_read_as_the_library_reads_them(lines: list[str]) -> None:
    """Line by line what the library's OpenMetrics parser makes of it, or Malformed."""
    for line in lines:
        text = line + "\n# EOF\n"
        try:
            sample = om._parse_sample(line)
            expected = [(sample.name, dict(sample.labels), number(sample.value))]
        except (ValueError, OverflowError):
            with pytest.raises(Malformed):
                read(text, openmetrics=True)
            continue
        assert flat(read(text, openmetrics=True).samples) == expected


@given(st.dictionaries(LABELS, VALUES, max_size=3), st.floats(0, 1e9))
def test_openmetrics_families_with_exemplars_and_created(labels: dict[str, str], value: float) -> None:
    """A page the library's strict parser accepts gives the same samples, exemplars and timestamps passed over."""
    inside = ",".join(f'{key}="{escaped(text)}"' for key, text in labels.items() if key != "le")
    text = (
        f"# HELP spend Spend.\n# TYPE spend counter\nspend_total{{{inside}}} {value!r} 1.5 "
        f'# {{trace_id="a}}b"}} 0.5 1700000000.123\nspend_created{{{inside}}} 1700000000.5 1.5\n'
        "# TYPE up gauge\nup 1\n# EOF\n"
    )
    expected = [
        (s.name, dict(s.labels), number(s.value)) for f in om.text_string_to_metric_families(text) for s in f.samples
    ]
    page = read(text, openmetrics=True)
    assert flat(page.samples) == expected
    assert page.types == {"spend": "counter", "up": "gauge"}
    assert page.rises("spend_total") and not page.rises("spend_created") and not page.rises("up")


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=300)
@example(b"\xff\xfe 1\n", False)
@example(b'up{a="\xff"} 1\n', False)
@example(b"up 1 " + b"9" * 400, False)
@example(b"up " + b"1" * 400, False)
@example(b"up " + b"1" * 5000, False)
@example(b'{"my.metric","a.b"="c"} 1', False)
@example(b"{ 1", True)
def test_hostile_bytes_are_malformed_at_worst(data: bytes, openmetrics: bool) -> None:
    """Whatever arrives is read or refused with one typed error; what is read can be taken apart."""
    if openmetrics:
        data += b"\n# EOF\n"
    try:
        page = Parser().parse(data, openmetrics=openmetrics)
    except Malformed:
        return
    flat(page.samples)


@given(
    st.text(min_size=1, max_size=8), st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=8), max_size=3)
)
def test_any_name_and_labels_survive_a_series(name: str, labels: dict[str, str]) -> None:
    """A series names its labels without loss, names of UTF-8 and the characters of the syntax included."""
    name = name.encode("utf-8", "ignore").decode() or "x"
    labels = {
        k.encode("utf-8", "ignore").decode() or "k": v.encode("utf-8", "ignore").decode() for k, v in labels.items()
    }
    series = series_of(name, labels)
    assert (name_of(series), labels_of(series)) == (name, labels)


def test_quoted_names_are_read() -> None:
    """Names of UTF-8, quoted in braces as newer formats have them, keep their name and labels."""
    page = read('# TYPE "my.metric" counter\n{"my.metric","a.b"="c",d="e"} 1\n')
    assert flat(page.samples) == [("my.metric", {"a.b": "c", "d": "e"}, "1.0")]
    assert page.types == {"my.metric": "counter"}


def test_the_recorded_page_of_litellm() -> None:
    """All 337 samples of a real LiteLLM page, its +Inf budgets and _created among them, are the library's."""
    text = PAGE.read_text()
    page = read(text)
    assert len(page.samples) == 337
    assert flat(page.samples) == by_library(text)
    assert sum(math.isinf(value) for _, value in page.samples) == 2
    assert page.rises("litellm_spend_metric_total") and page.rises("litellm_llm_api_latency_metric_bucket")
    assert not page.rises("litellm_in_flight_requests") and not page.rises("litellm_spend_metric_created")


def test_names_stand_as_printed() -> None:
    """A counter announced without _total keeps its printed name; the library would add the suffix."""
    page = read("# TYPE hits counter\nhits 5\n")
    assert flat(page.samples) == [("hits", {}, "5.0")]
    assert page.rises("hits")


def test_labels_in_another_order_are_the_same_series() -> None:
    """A series has one name, in whatever order its labels are printed; repetitions stay."""
    page = read('a{y="2",x="1"} 1\na{x="1",y="2"} 2\n')
    assert page.samples == [(b'a{x="1",y="2"}', 1.0), (b'a{x="1",y="2"}', 2.0)]


@pytest.mark.parametrize("cut", ["a 1\n", "a 1\n# EOF\nb 2\n", "a 1\n# EOF\n# EOF\n", ""])
def test_a_cut_openmetrics_page_is_refused(cut: str) -> None:
    """A page without `# EOF` at its end was cut short: half a page would look like counters that vanished."""
    with pytest.raises(Malformed, match="EOF"):
        Parser().parse(cut.encode(), openmetrics=True)


def test_long_odd_lines_are_refused_before_they_cost() -> None:
    """Lines of escapes are parsed in time by the square of their length, so their length is bounded."""
    line = b'a{b="' + b'\\"' * LONGEST_ODD_LINE + b'"} 1\n'
    with pytest.raises(Malformed, match="bytes"):
        Parser().parse(line)


def test_memory_is_bounded_while_series_come_and_go() -> None:
    """A source that invents new series on every page costs the memory of a few pages, not of all."""
    parser = Parser()

    def page(turn: int) -> bytes:
        return b"".join(b'requests_total{id="%d-%d",pad="%0150d"} 1\n' % (turn, n, n) for n in range(8000))

    tracemalloc.start()
    try:
        for turn in range(4):
            parser.parse(page(turn))
        few = tracemalloc.get_traced_memory()[0]
        for turn in range(4, 20):
            parser.parse(page(turn))
        assert tracemalloc.get_traced_memory()[0] < 3 * few
    finally:
        tracemalloc.stop()
