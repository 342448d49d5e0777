"""Which format and encoding a client gets, by the weights it gave.

Source: RFC 9110, sections 12.4 and 12.5; Prometheus, content negotiation of scrapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from tallykeep.exposition.page import Format


class Encoding(Enum):
    """A content coding, in the order in which they are preferred at equal weight."""

    ZSTD = "zstd"
    GZIP = "gzip"
    IDENTITY = "identity"


class _Range(NamedTuple):
    """One element of an Accept header."""

    name: str
    parameters: Mapping[str, str]
    weight: float


def choose_format(accept: str) -> Format:
    """OpenMetrics 1.0 where the client asks for it and weighs nothing of text 0.0.4 higher; otherwise that text.

    A client that accepts neither gets the text as well: it is more use than 406.
    """
    weights = {Format.TEXT: 0.0, Format.OPENMETRICS: 0.0}
    for element in _elements(accept):
        if element.name == "application/openmetrics-text":
            if element.parameters.get("version", "1.0.0") == "1.0.0":
                weights[Format.OPENMETRICS] = max(weights[Format.OPENMETRICS], element.weight)
        elif element.name == "text/plain":
            weights[Format.TEXT] = max(weights[Format.TEXT], element.weight)
    asked = weights[Format.OPENMETRICS]
    return Format.OPENMETRICS if asked > 0 and asked >= weights[Format.TEXT] else Format.TEXT


def choose_encoding(accept_encoding: str) -> Encoding:
    """The heaviest coding the client accepts; of equals the smallest; identity where nothing else is asked for."""
    given = {element.name: element.weight for element in _elements(accept_encoding)}
    fallback = given.get("*", 0.0)
    weights = {coding: given.get(coding.value, fallback) for coding in (Encoding.ZSTD, Encoding.GZIP)}
    weights[Encoding.IDENTITY] = given.get("identity", 0.0)  # unnamed it is the last resort, not a wish
    best = max(weights, key=lambda coding: weights[coding])
    return best if weights[best] > 0 else Encoding.IDENTITY


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a reply may be packed with gzip."""
    given = {element.name: element.weight for element in _elements(accept_encoding)}
    return given.get("gzip", given.get("*", 0.0)) > 0


def prefers_html(accept: str) -> bool:
    """Whether a client would rather have a page than JSON, as browsers would. No preference is one for JSON."""
    return _prefers(accept, "text/html")


def prefers_csv(accept: str) -> bool:
    """Whether a client would rather have CSV than JSON. No preference is one for JSON."""
    return _prefers(accept, "text/csv")


def _prefers(accept: str, type: str) -> bool:
    given = {element.name: element.weight for element in _elements(accept)}
    json = given.get("application/json", given.get("application/*", given.get("*/*", 0.0)))
    return given.get(type, 0.0) > json


def _elements(field: str) -> Iterator[_Range]:
    for element in field.lower().split(","):
        name, *rest = (part.strip() for part in element.split(";"))
        if name:
            pairs = (part.partition("=") for part in rest)
            parameters = {key.strip(): value.strip().strip('"') for key, _, value in pairs}
            yield _Range(name, parameters, _weight(parameters.get("q", "1")))


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0  # a weight nobody can read is no wish
    return weight if 0.0 <= weight <= 1.0 else 0.0
