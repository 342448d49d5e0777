"""The catalogue as a page of the docs: docs/reference/metrics.md is what this returns, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tallykeep.exposition.lexical import go_float
from tallykeep.metrics import Alert, Family, Kind

_INTRODUCTION = """\
# Metrics

Every family on /metrics, generated from the catalogue by `make docs`.

A *state set* shows one series per state; the state that holds is 1, all others are 0. The name of the state stands
in a label named like the family. A verdict is never absent: when its source falls silent it says `unknown`, while
every plain figure of that source disappears from the page.
"""

_KINDS = {Kind.GAUGE: "gauge", Kind.COUNTER: "counter", Kind.HISTOGRAM: "histogram", Kind.STATE_SET: "state set"}


def metrics_reference(groups: Mapping[str, Iterable[Family]]) -> str:
    """The Markdown page of the families of each group (a system, or tallykeep itself), in their order."""
    lines = [line for name, families in groups.items() for line in _group(name, families)]
    return "\n".join([_INTRODUCTION, *lines]).rstrip() + "\n"


def _group(name: str, families: Iterable[Family]) -> Iterator[str]:
    yield f"## {name}\n"
    for family in families:
        yield from _family(family)


def _family(family: Family) -> Iterator[str]:
    yield f"### `{family.name}`\n"
    yield f"{family.help}\n"
    yield f"- Type: {_KINDS[family.kind]}{_unit(family)}"
    if family.otel:
        yield f"- OpenTelemetry: `{family.otel}`{_ucum(family)}"
    if family.labels:
        yield f"- Labels: {_words(family.labels)}"
    if family.states:
        yield f"- States: {_words(family.states)}"
    if family.buckets:
        yield f"- Buckets: {_words(go_float(float(bound)) for bound in family.buckets)}"
    if family.moving:
        yield "- Reckoned anew for every scrape."
    if family.legacy:
        yield f"- Its name breaks the naming rule: {family.legacy}"
    yield from (_alert(alert) for alert in family.alerts)
    yield ""


def _unit(family: Family) -> str:
    word = family.unit.suffix.lstrip("_").replace("timestamp_seconds", "seconds since 1970")
    return f", in {word}" if word else ""


def _ucum(family: Family) -> str:
    return f", in `{family.unit.ucum}`" if family.unit.ucum else ""


def _alert(alert: Alert) -> str:
    return f"- Alert `{alert.title}` ({alert.severity}, after {alert.hold})"


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)
