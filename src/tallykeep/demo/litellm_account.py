"""The generator's own account of its traffic: exact totals of any stretch, owing nothing to the code it is to judge.

Every request that was written to the log is kept in a few columns; totals are added up anew each time they are
asked for, money in pico-dollars. What retention deleted is left out from then on.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from tallykeep.demo.litellm_rows import FAILURE, PICO, Request

Labels = tuple[str, ...]
NONE = "none"


@dataclass(slots=True)
class Totals:
    """What the requests of a stretch add up to, by label values; money in pico-dollars."""

    model: Counter[Labels] = field(default_factory=Counter)  # (model)
    user: Counter[Labels] = field(default_factory=Counter)  # (user, model)
    team: Counter[Labels] = field(default_factory=Counter)  # (team, model)
    organization: Counter[Labels] = field(default_factory=Counter)  # (organization, model)
    key: Counter[Labels] = field(default_factory=Counter)  # (hash)
    tag: Counter[Labels] = field(default_factory=Counter)  # (tag)
    provider: Counter[Labels] = field(default_factory=Counter)  # (provider)
    requests: Counter[Labels] = field(default_factory=Counter)  # (model, status) -> requests
    provider_requests: Counter[Labels] = field(default_factory=Counter)  # (provider, status) -> requests
    errors: Counter[Labels] = field(default_factory=Counter)  # (model, class of error) -> requests
    tokens: Counter[Labels] = field(default_factory=Counter)  # (model, prompt or completion)
    provider_tokens: Counter[Labels] = field(default_factory=Counter)  # (provider, prompt or completion)
    details: Counter[Labels] = field(default_factory=Counter)  # (model, cache_read, cache_creation or reasoning)
    hits: Counter[Labels] = field(default_factory=Counter)  # (model) -> requests
    misses: Counter[Labels] = field(default_factory=Counter)  # (model) -> requests
    durations: Counter[tuple[str, int]] = field(default_factory=Counter)  # (model, place of bucket) -> requests
    milliseconds: Counter[Labels] = field(default_factory=Counter)  # (model)
    rows: int = 0

    def add(self, request: Request, organization: str, bucket: int) -> None:
        """Count one request."""
        model, provider, cost = request.model.name or "unknown", request.model.provider or NONE, request.cost
        self.rows += 1
        self.model[model,] += cost
        self.user[request.who.user or NONE, model] += cost
        self.team[request.who.team or NONE, model] += cost
        self.organization[organization or NONE, model] += cost
        self.key[request.who.key or NONE,] += cost
        self.provider[provider,] += cost
        for tag in request.tags[1]:
            self.tag[tag,] += cost
        self.requests[model, request.status] += 1
        self.provider_requests[provider, request.status] += 1
        if request.status == FAILURE:
            self.errors[model, request.error or "unknown"] += 1
        for kind, count in (("prompt", request.prompt), ("completion", request.completion)):
            self.tokens[model, kind] += count
            self.provider_tokens[provider, kind] += count
        told = (("cache_read", request.cache_read), ("cache_creation", request.cache_creation))
        for kind, count in (*told, ("reasoning", request.reasoning)):
            self.details[model, kind] += count
        self.hits[model,] += request.cache_hit == "True"
        self.misses[model,] += request.cache_hit == "False"
        self.durations[model, bucket] += 1
        self.milliseconds[model,] += request.end - request.start


def dollars(pico: int) -> Fraction:
    """Exactly."""
    return Fraction(pico, PICO)


class Account:
    """All requests that were written."""

    def __init__(self, bounds: Sequence[float] = (), *, organization_column: bool = True) -> None:
        """`bounds` of the histogram's buckets in seconds; whether rows have an organization of their own."""
        self._bounds = [round(bound * 1000) for bound in bounds]
        self._organization_column = organization_column
        self._starts = array("q")
        self._requests: list[Request] = []

    def __len__(self) -> int:
        """How many requests stand in the log."""
        return len(self._requests)

    def add(self, requests: Iterable[Request]) -> None:
        """Requests that have been committed to the log."""
        for request in requests:
            self._requests.append(request)
            self._starts.append(request.start)

    def forget(self, before: int) -> None:
        """Rows that began before this moment (milliseconds) were deleted."""
        kept = [request for request in self._requests if request.start >= before]
        self._requests, self._starts = kept, array("q", (request.start for request in kept))

    def totals(self, since: float = 0, until: float | None = None) -> Totals:
        """Of the requests that began in [since, until), in Unix seconds, and still stand in the log."""
        found = Totals()
        stop = float("inf") if until is None else until * 1000
        for start, request in zip(self._starts, self._requests, strict=True):
            if since * 1000 <= start < stop:
                found.add(request, self.organization(request), bisect_left(self._bounds, request.end - request.start))
        return found

    def organization(self, request: Request) -> str:
        """The organization it counts for, "" for none."""
        return request.who.resolved if self._organization_column else request.who.resolved_old
