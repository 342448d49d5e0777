"""The demo's Prometheus: fetches /metrics from tallykeep and reads single figures off the page.

Not a parser for pages in general: it reads text 0.0.4 as tallykeep writes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_TYPE = re.compile(r"# TYPE (\S+) \w+")


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a page."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Page:
    """What one scrape brought."""

    families: frozenset[str]
    series: tuple[Series, ...]

    def values(self, name: str, /, **labels: str) -> list[float]:
        """Every value of `name` whose labels include `labels`."""
        return [s.value for s in self._series(name, labels)]

    def state(self, name: str, **labels: str) -> str | None:
        """The state that holds in a state set; None where the page has no such series."""
        return next((s.labels[name] for s in self._series(name, labels) if s.value == 1), None)

    def _series(self, name: str, labels: dict[str, str]) -> list[Series]:
        return [s for s in self.series if s.name == name and labels.items() <= s.labels.items()]


def parse(text: str) -> Page:
    """A page's families and series."""
    families, series = set[str](), list[Series]()
    for line in text.splitlines():
        if announced := _TYPE.fullmatch(line):
            families.add(announced[1])
        elif found := _LINE.fullmatch(line):
            labels = dict(_LABEL.findall(found[2] or ""))
            series.append(Series(found[1], labels, float(found[3])))
    return Page(frozenset(families), tuple(series))


def get(port: int, path: str, timeout: float = 2) -> tuple[int, str] | None:
    """Status and body of one GET on loopback; None where nothing answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def scrape(port: int) -> Page | None:
    """The page of /metrics; None where nothing answers."""
    reply = get(port, "/metrics")
    return parse(reply[1]) if reply is not None and reply[0] == 200 else None
