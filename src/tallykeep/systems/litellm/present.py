"""The present: what runs and what came in lately, by whose it is. Pure, but for the rows it is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tallykeep.metrics import Sample
from tallykeep.systems.litellm import families as f
from tallykeep.systems.litellm.entities import CUSTOMER, KEY, ORGANIZATION, TEAM, USER, Entities

Row = tuple[Any, ...]
SETTLED = 600  # seconds after which the requests of a minute are taken to be in the log
LONGEST = 3600  # seconds: a request that runs longer is not looked for


def whose(row: Row, everybody: Entities) -> Iterator[tuple[str, str]]:
    """(kind, id) of everyone a request counts for. `row`: user, team, organization, key, customer."""
    user, team, own, key, customer = row
    for kind, id in (
        (USER, user),
        (TEAM, team),
        (ORGANIZATION, everybody.organization_of(own, team, key)),
        (KEY, key),
        (CUSTOMER, customer),
    ):
        if id:
            yield kind, id


def minute(rows: Iterable[Row], everybody: Entities) -> Iterator[Sample]:
    """Requests and tokens of the last whole minute. Rows: those of statements.minute."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for model, *owner, requests, tokens in rows:
        for kind, id in whose(tuple(owner), everybody):
            sums = found.setdefault((model or "unknown", kind, id), [0, 0])
            sums[0] += requests
            sums[1] += tokens
    for (model, kind, id), (requests, tokens) in found.items():
        labels = (model, kind, id, everybody.alias(kind, id))
        yield Sample(f.CURRENT_RPM, labels, float(requests))
        yield Sample(f.CURRENT_TPM, labels, float(tokens))


def most_at_once(intervals: Iterable[tuple[float, float]], start: float, stop: float) -> int:
    """The largest number of half-open intervals that hold one moment of [start, stop)."""
    steps: list[tuple[float, int]] = []
    for began, ended in intervals:
        if began < stop and ended > start and ended > began:
            steps += [(max(began, start), 1), (ended, -1)]
    running = most = 0
    for _, step in sorted(steps):  # an end before a start at the same moment
        running += step
        most = max(most, running)
    return most


def parallel(rows: Iterable[Row], everybody: Entities, start: float, stop: float) -> Iterator[Sample]:
    """The most requests of each entity that ran at once in [start, stop). Rows: those of statements.running."""
    intervals: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for *owner, began, ended in rows:
        for entity in whose(tuple(owner), everybody):
            intervals.setdefault(entity, []).append((began, ended))
    for (kind, id), found in intervals.items():
        most = most_at_once(found, start, stop)
        if most:
            yield Sample(f.PARALLEL_REQUESTS, (kind, id, everybody.alias(kind, id)), float(most))
