"""Limits, budgets and states of everybody as samples, each from the entity's own table. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from tallykeep.metrics import Sample
from tallykeep.systems.litellm import families as f
from tallykeep.systems.litellm.entities import KEY, NONE, ORGANIZATION, TEAM, USER, Entities, Entity

Labels = tuple[str, ...]
ALL_MODELS = frozenset({"all-proxy-models", "*"})
TEAM_MODELS = "all-team-models"
NO_MODELS = "no-default-models"


class States:
    """The samples of everybody, made anew for those that changed."""

    def __init__(self) -> None:
        self._everybody = Entities()
        self._known: frozenset[str] = frozenset()
        self._each: list[tuple[Entity, tuple[Sample, ...]]] = []
        self._counted_until: float | None = None  # Unix seconds at which a key expires; None: to be counted
        self._counts: list[Sample] = []
        self._samples: list[Sample] = []

    def update(self, everybody: Entities, known: frozenset[str]) -> None:
        """Take up who is there now. `known`: every model there is."""
        if everybody is self._everybody and known == self._known:
            return
        old = self._each if known == self._known and everybody.teams == self._everybody.teams else []
        self._each = [
            old[at] if at < len(old) and old[at][0] is entity else (entity, tuple(_of(entity, everybody, known)))
            for at, entity in enumerate(everybody.all)
        ]
        self._samples = [sample for _, samples in self._each for sample in samples]
        self._samples += [*_teams(everybody), *_keys(everybody), *_models(everybody)]
        self._everybody, self._known, self._counted_until = everybody, known, None

    def samples(self, now: float) -> list[Sample]:
        """Every sample of everybody."""
        if self._counted_until is None or now >= self._counted_until:
            self._counts = list(key_counts(self._everybody, now))
            keys = self._everybody.keys.values()
            self._counted_until = min(
                (k.expires for k in keys if k.expires is not None and k.expires > now), default=inf
            )
        return self._samples + self._counts


def _of(entity: Entity, everybody: Entities, known: frozenset[str]) -> Iterator[Sample]:
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
    yield from _budget(entity)
    if entity.models is not None:
        yield Sample(f.AVAILABLE_MODELS, entity.labels, float(available(entity, everybody, known)))


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


def available(entity: Entity, everybody: Entities, known: frozenset[str]) -> int:
    """How many models an entity's own list allows: an empty one, or one that says all, every known model.

    A key that says all-team-models has those of its team's list.
    """
    listed = set(entity.models or ())
    if TEAM_MODELS in listed:
        listed.discard(TEAM_MODELS)
        listed |= _team_models(entity, everybody) or ALL_MODELS
    if ALL_MODELS & listed or not entity.models:
        return len(known)
    return len(listed - {NO_MODELS})


def _team_models(entity: Entity, everybody: Entities) -> set[str]:
    """Models of the team of a key; empty where they are all, or there is no team."""
    key = everybody.keys.get(entity.id) if entity.kind == KEY else None
    team = everybody.teams.get(key.team) if key else None
    return set(team.models) - {TEAM_MODELS} if team else set()


def _teams(everybody: Entities) -> Iterator[Sample]:
    for team in everybody.teams.values():
        yield Sample(f.MEMBERS, (team.id, team.alias), float(team.members))
        yield Sample(f.ADMINS, (team.id, team.alias), float(team.admins))


def _keys(everybody: Entities) -> Iterator[Sample]:
    """Keys by what the published labels tell apart: name and alias."""
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
            yield Sample(f.KEY_HASH_EXPIRY, (key.hash, *labels), key.expires)
        if entity.max_budget is not None:
            budgets[labels] = budgets.get(labels, 0.0) + entity.max_budget
            if entity.spend is not None:
                spends[labels] = spends.get(labels, 0.0) + entity.spend
    for family, found in ((f.KEY_EXPIRY, expiry), (f.KEY_BUDGET, budgets), (f.KEY_BUDGET_SPEND, spends)):
        for labels, value in found.items():
            yield Sample(family, labels, value)


def _models(everybody: Entities) -> Iterator[Sample]:
    for model, provider in everybody.models:
        yield Sample(f.MODEL_INFO, (model, provider or NONE, "database"), 1.0)


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
