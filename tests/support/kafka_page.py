"""A /metrics page of a Kafka command, read by prometheus_client's own parser."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Key = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Page:
    """What was served."""

    values: dict[Key, float]
    families: frozenset[str]  # with their published names, those that have samples

    def value(self, name: str, **labels: str) -> float:
        """Of one series. Raises: KeyError."""
        return self.values[name, frozenset(labels.items())]

    def sum(self, name: str, **labels: str) -> float:
        """Of all series that have these labels."""
        wanted = set(labels.items())
        return sum(value for (found, has), value in self.values.items() if found == name and wanted <= has)

    def series(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """All of one name."""
        return {labels: value for (found, labels), value in self.values.items() if found == name}


def scrape(port: int) -> Page | None:
    """The page of a port; None where nobody serves it."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as reply:
            text = reply.read().decode()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None
    values: dict[Key, float] = {}
    families: set[str] = set()
    for family in text_string_to_metric_families(text):
        if family.samples:
            families.add(f"{family.name}_total" if family.type == "counter" else family.name)
        for sample in family.samples:
            values[sample.name, frozenset(sample.labels.items())] = sample.value
    return Page(values, frozenset(families))


def watch(port: int, until: Callable[[Page], bool], timeout: float = 90.0) -> list[Page]:
    """Every page seen until one satisfies `until`, that one last. Raises: TimeoutError."""
    pages: list[Page] = []
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        page = scrape(port)
        if page is not None:
            pages.append(page)
            if until(page):
                return pages
        time.sleep(0.05)
    raise TimeoutError(f"after {len(pages)} pages; the last: {pages[-1].values if pages else None}")
