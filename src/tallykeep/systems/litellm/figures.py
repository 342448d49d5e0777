"""Figures: the tally and everybody in the database as samples.

The wide families (a series for each user and model, each key, each tag) are kept from one refresh to the next and
only what the tally touched is made anew; the narrow ones are summed afresh. Pure; one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from tallykeep.metrics import Distribution, Family, Sample
from tallykeep.systems.litellm import families as f
from tallykeep.systems.litellm.cells import MICRO, NANO, Axis, Cells, Series, Sums
from tallykeep.systems.litellm.entities import (
    ALL_MODELS,
    KEY,
    NO_MODELS,
    NONE,
    ORGANIZATION,
    TEAM,
    USER,
    Entities,
    Entity,
)  # fmt: skip
from tallykeep.systems.litellm.tally import Tally, Window

SPEND, KEYS, REQUEST, ERROR = "spend", "keys", "request", "error"  # the windows of a tally
Labels = tuple[str, ...]


def windows(spend: int, request: int, error: int) -> dict[str, int]:
    """The windows a tally is to keep, in seconds."""
    return {SPEND: spend, KEYS: 30 * 86400, REQUEST: request, ERROR: error}


@dataclass(slots=True)
class Wide:
    """A family with a series for each cell of one axis."""

    family: Family
    axis: Axis
    value: Callable[[Sums], float]
    labels: Callable[[Labels, Entities], Labels]  # of a cell -> of its series
    samples: dict[Series, Sample] = field(default_factory=dict)

    def update(self, touched: Iterable[Series], cells: Mapping[Series, Sums], everybody: Entities) -> None:
        for series in touched:
            if series.axis is not self.axis:
                continue
            if series in cells:
                labels = self.labels(series.labels, everybody)
                self.samples[series] = Sample(self.family, labels, self.value(cells[series]))
            else:
                self.samples.pop(series, None)


def _dollars(sums: Sums) -> float:
    return sums.spend / NANO


def _named(kind: str) -> Callable[[Labels, Entities], Labels]:
    """(id, *rest) -> (id, alias, *rest)."""
    return lambda labels, everybody: (labels[0], everybody.alias(kind, labels[0]), *labels[1:])


def _key_labels(labels: Labels, everybody: Entities) -> Labels:
    key = everybody.keys.get(labels[0])
    return (labels[0], key.name, key.alias) if key else (labels[0], NONE, NONE)


def _same(labels: Labels, everybody: Entities) -> Labels:
    return labels


class Figures:
    """The samples of one database, kept up to date."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._everybody = Entities()
        self._windows: Mapping[str, tuple[Wide, ...]] = {
            SPEND: (
                Wide(f.USER_SPEND, Axis.USER, _dollars, _named(USER)),
                Wide(f.TEAM_SPEND, Axis.TEAM, _dollars, _named(TEAM)),
                Wide(f.ORG_SPEND, Axis.ORGANIZATION, _dollars, _named(ORGANIZATION)),
                Wide(f.TAG_SPEND, Axis.TAG, _dollars, _same),
            ),
            KEYS: (Wide(f.KEY_HASH_SPEND, Axis.KEY, _dollars, _key_labels),),
        }

    def update(self, everybody: Entities) -> None:
        """Take up what the tally touched; after a renaming, everything."""
        renamed = everybody.aliases != self._everybody.aliases or everybody.keys.keys() != self._everybody.keys.keys()
        self._everybody = everybody
        for name, wides in self._windows.items():
            window = self._tally.windows[name]
            touched = [*window.sums, *window.touched] if renamed else list(window.touched)
            for wide in wides:
                wide.update(touched, window.sums, everybody)
        for window in self._tally.windows.values():
            window.touched.clear()

    def samples(self) -> Iterator[Sample]:
        """Every sample that rests on the tally or on a table; call update first."""
        for wides in self._windows.values():
            for wide in wides:
                yield from wide.samples.values()
        tally, everybody = self._tally, self._everybody
        yield from _spend(tally.windows[SPEND])
        yield from _keys(tally.windows[KEYS].sums, everybody)
        yield from _requests(tally.windows[REQUEST])
        yield from _errors(tally.windows[ERROR])
        yield from counters(tally.counters, everybody)
        yield from states(everybody, _models_seen(tally.windows[SPEND].sums))


def _by(cells: Mapping[Series, Sums], axis: Axis, *places: int) -> dict[Labels, Sums]:
    """Cells of one axis summed by the labels at `places`."""
    found: dict[Labels, Sums] = {}
    for series, sums in cells.items():
        if series.axis is axis:
            labels = tuple(series.labels[place] for place in places)
            found[labels] = found[labels].plus(sums) if labels in found else sums
    return found


def _models(cells: Cells) -> Cells:
    return {series: sums for series, sums in cells.items() if series.axis is Axis.MODEL}


def _models_seen(cells: Cells) -> set[tuple[str, str]]:
    return {(series.labels[0], series.labels[1]) for series in cells if series.axis is Axis.MODEL}


def _spend(window: Window) -> Iterator[Sample]:
    cells = _models(window.sums)
    for labels, sums in _by(cells, Axis.MODEL, 0).items():
        yield Sample(f.TOTAL_SPEND, labels, _dollars(sums))
        yield Sample(f.TOTAL_TOKENS, labels, float(sums.total_tokens))
        yield Sample(f.PROMPT_TOKENS, labels, float(sums.prompt_tokens))
        yield Sample(f.COMPLETION_TOKENS, labels, float(sums.completion_tokens))
    for labels, sums in _by(cells, Axis.MODEL, 1).items():
        yield Sample(f.PROVIDER_SPEND, labels, _dollars(sums))


def _keys(cells: Cells, everybody: Entities) -> Iterator[Sample]:
    summed: dict[Labels, int] = {}
    for series, sums in cells.items():
        if series.axis is Axis.KEY:
            labels = _key_labels(series.labels, everybody)[1:]
            summed[labels] = summed.get(labels, 0) + sums.spend
    for labels, spend in summed.items():
        yield Sample(f.KEY_SPEND, labels, spend / NANO)


def _requests(window: Window) -> Iterator[Sample]:
    cells = _models(window.sums)
    for labels, sums in _by(cells, Axis.MODEL, 0, 2).items():
        yield Sample(f.WINDOW_REQUESTS, labels, float(sums.requests))
    for labels, sums in _by(cells, Axis.MODEL, 0).items():
        yield Sample(f.WINDOW_TOKENS, labels, float(sums.total_tokens))
        yield Sample(f.WINDOW_REQUEST_RATE, labels, sums.requests / window.length)


def _errors(window: Window) -> Iterator[Sample]:
    cells = _models(window.sums)
    failed: dict[Labels, int] = {}
    for (model, status, kind), sums in _by(cells, Axis.MODEL, 0, 2, 3).items():
        errors = sums.requests if status == "failure" else 0
        failed[(model,)] = failed.get((model,), 0) + errors
        if errors:
            yield Sample(f.WINDOW_ERRORS, (model, kind), float(errors))
    for labels, errors in failed.items():
        yield Sample(f.ERROR_RATE, labels, errors / (window.length / 60))


def counters(cells: Cells, everybody: Entities) -> Iterator[Sample]:
    """The families that never fall."""
    models = _models(cells)
    for labels, sums in _by(models, Axis.MODEL, 0, 2).items():
        yield Sample(f.REQUESTS, labels, float(sums.requests))
    for (model, status, error), sums in _by(models, Axis.MODEL, 0, 2, 3).items():
        if status == "failure":
            yield Sample(f.ERRORS, (model, error), float(sums.requests))
    for labels, sums in _by(models, Axis.MODEL, 0).items():
        yield Sample(f.SPEND, labels, _dollars(sums))
        yield Sample(f.CACHE_HITS, labels, float(sums.cache_hits))
        yield Sample(f.CACHE_MISSES, labels, float(sums.cache_misses))
        yield from _tokens(f.TOKENS, labels, sums)
    for labels, sums in _by(models, Axis.MODEL, 1).items():
        yield Sample(f.PROVIDER_SPEND_TOTAL, labels, _dollars(sums))
        yield from _tokens(f.PROVIDER_TOKENS, labels, sums)
    for labels, sums in _by(models, Axis.MODEL, 1, 2).items():
        yield Sample(f.PROVIDER_REQUESTS, labels, float(sums.requests))
    for labels, sums in _by(cells, Axis.DETAIL, 0, 1).items():
        yield Sample(f.DETAIL_TOKENS, labels, float(sums.total_tokens))
    yield from _histograms(cells)
    for family, axis, kind in _KIN:
        for (id,), sums in _by(cells, axis, 0).items():
            yield Sample(family, (id, everybody.alias(kind, id)), _dollars(sums))
    for labels, sums in _by(cells, Axis.KEY, 0).items():
        yield Sample(f.KEY_SPEND_TOTAL, _key_labels(labels, everybody), _dollars(sums))


_KIN = (
    (f.USER_SPEND_TOTAL, Axis.USER, USER),
    (f.TEAM_SPEND_TOTAL, Axis.TEAM, TEAM),
    (f.ORG_SPEND_TOTAL, Axis.ORGANIZATION, ORGANIZATION),
)


def _tokens(family: Family, labels: Labels, sums: Sums) -> Iterator[Sample]:
    yield Sample(family, (*labels, "prompt"), float(sums.prompt_tokens))
    yield Sample(family, (*labels, "completion"), float(sums.completion_tokens))


def _histograms(cells: Cells) -> Iterator[Sample]:
    counts: dict[str, list[int]] = {}
    seconds: dict[str, int] = {}
    for (model, bucket), sums in _by(cells, Axis.DURATION, 0, 1).items():
        counts.setdefault(model, [0] * (len(f.DURATION.buckets) + 1))[int(bucket)] += sums.requests
        seconds[model] = seconds.get(model, 0) + sums.duration
    for model, found in counts.items():
        yield Sample(f.DURATION, (model,), Distribution(tuple(found), seconds[model] / MICRO))


def states(everybody: Entities, seen: set[tuple[str, str]]) -> Iterator[Sample]:
    """Limits, budgets and states of everybody, each from its own table."""
    known = {model for model, _ in seen} | {model for model, _ in everybody.models}
    for entity in everybody.all:
        yield from _limits(entity)
        yield from _budget(entity)
        if entity.models is not None:
            yield Sample(f.AVAILABLE_MODELS, entity.labels, float(available(entity.models, known)))
    for team in everybody.teams.values():
        yield Sample(f.MEMBERS, (team.id, team.alias), float(team.members))
        yield Sample(f.ADMINS, (team.id, team.alias), float(team.admins))
    yield from _key_states(everybody)
    for model, provider in everybody.models:
        yield Sample(f.MODEL_INFO, (model, provider or NONE, "database"), 1.0)
    for model, provider in seen:
        yield Sample(f.MODEL_INFO, (model, provider, "log"), 1.0)


def available(models: tuple[str, ...], known: set[str]) -> int:
    """How many models a list allows: an empty one, or one that says all, every known model."""
    if not models or ALL_MODELS & set(models):
        return len(known)
    return len(set(models) - {NO_MODELS})


def _limits(entity: Entity) -> Iterator[Sample]:
    for family, value in (
        (f.TPM_LIMIT, entity.tpm),
        (f.RPM_LIMIT, entity.rpm),
        (f.MAX_PARALLEL, entity.max_parallel),
        (f.BLOCKED, entity.blocked),
        (f.SOFT_BUDGET, entity.soft_budget),
        (f.BUDGET_RESET, entity.reset),
    ):
        if value is not None:
            yield Sample(family, entity.labels, float(value))


def _budget(entity: Entity) -> Iterator[Sample]:
    if entity.max_budget is None:
        return
    yield Sample(f.MAX_BUDGET, entity.labels, entity.max_budget)
    if entity.spend is not None:
        yield Sample(f.REMAINING_BUDGET, entity.labels, entity.max_budget - entity.spend)
        yield Sample(f.BUDGET_UTILIZATION, entity.labels, utilization(entity.spend, entity.max_budget))


def utilization(spend: float, budget: float) -> float:
    """Percent of a budget that is spent; of a budget of 0, +Inf once anything is."""
    if budget > 0:
        return spend / budget * 100
    return inf if spend > 0 else 0.0


def _key_states(everybody: Entities) -> Iterator[Sample]:
    expiry: dict[Labels, float] = {}
    budgets: dict[Labels, float] = {}
    spends: dict[Labels, float] = {}
    for entity in everybody.all:
        if entity.kind != KEY:
            continue
        key = everybody.keys[entity.id]
        labels: Labels = (key.name, key.alias)
        if key.expires is not None:
            expiry[labels] = min(key.expires, expiry.get(labels, inf))
        if entity.max_budget is not None:
            budgets[labels] = budgets.get(labels, 0.0) + entity.max_budget
            spends[labels] = spends.get(labels, 0.0) + (entity.spend or 0.0)
    for family, found in ((f.KEY_EXPIRY, expiry), (f.KEY_BUDGET, budgets), (f.KEY_BUDGET_SPEND, spends)):
        for labels, value in found.items():
            yield Sample(family, labels, value)


def key_counts(everybody: Entities, now: float) -> Iterator[Sample]:
    """Active and expired keys of each user, team and organization that has any."""
    counts: dict[tuple[str, str], list[int]] = {}
    for key in everybody.keys.values():
        expired = key.expires is not None and key.expires <= now
        for kind, id in ((USER, key.user), (TEAM, key.team), (ORGANIZATION, key.organization)):
            if id:
                counts.setdefault((kind, id), [0, 0])[expired] += 1
    for (kind, id), (active, gone) in counts.items():
        labels = (kind, id, everybody.alias(kind, id))
        yield Sample(f.ACTIVE_KEYS, labels, float(active))
        yield Sample(f.EXPIRED_KEYS, labels, float(gone))
