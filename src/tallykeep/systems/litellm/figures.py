"""Figures: the tally as samples, made anew only where it was touched.

The wide families (a series for each user and model, each key, each tag) are kept from one refresh to the next, and
so are the sums behind them; the narrow ones are summed afresh from the few cells they have. Pure; one thread at a
time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from tallykeep.metrics import Distribution, Family, Sample
from tallykeep.systems.litellm import families as f
from tallykeep.systems.litellm.cells import MICRO, NANO, Axis, Series, Sums
from tallykeep.systems.litellm.entities import KEY, NONE, ORGANIZATION, TEAM, USER, Entities
from tallykeep.systems.litellm.groups import Groups, Labels, by
from tallykeep.systems.litellm.rows import UNKNOWN_MODEL
from tallykeep.systems.litellm.states import States
from tallykeep.systems.litellm.tally import Tally

SPEND, KEYS, REQUEST, ERROR = "spend", "keys", "request", "error"  # the windows of a tally
AXES = {
    SPEND: frozenset({Axis.MODEL, Axis.USER, Axis.TEAM, Axis.ORGANIZATION, Axis.TAG}),
    KEYS: frozenset({Axis.KEY}),
    REQUEST: frozenset({Axis.MODEL}),
    ERROR: frozenset({Axis.MODEL}),
}


def windows(spend: int, request: int, error: int) -> dict[str, int]:
    """The windows a tally is to keep, in seconds."""
    return {SPEND: spend, KEYS: 30 * 86400, REQUEST: request, ERROR: error}


def dollars(sums: Sums) -> float:
    """What was spent."""
    return sums.spend / NANO


def _named(kind: str) -> Callable[[Labels, Entities], Labels]:
    """(id, *rest) -> (id, alias, *rest)."""
    return lambda labels, everybody: (labels[0], everybody.alias(kind, labels[0]), *labels[1:])


def key_labels(labels: Labels, everybody: Entities) -> Labels:
    """(hash,) -> (hash, name, alias)."""
    key = everybody.keys.get(labels[0])
    return (labels[0], key.name, key.alias) if key else (labels[0], NONE, NONE)


class Wide:
    """A family with a series for each group of cells: its samples, kept."""

    def __init__(self, family: Family, groups: Groups, labels: Callable[[Labels, Entities], Labels] | None) -> None:
        self._family = family
        self._groups = groups
        self._labels = labels  # of a group -> of its series; None: the same
        self.samples: dict[Labels, Sample] = {}

    def update(self, everybody: Entities, renamed: bool) -> None:
        """Take up the groups that changed; after a renaming, all."""
        sums = self._groups.sums
        for group in {*self._groups.changed, *sums} if renamed else self._groups.changed:
            if group in sums:
                labels = group if self._labels is None else self._labels(group, everybody)
                self.samples[group] = Sample(self._family, labels, dollars(sums[group]))
            else:
                self.samples.pop(group, None)


class Figures:
    """The samples of one database, kept up to date."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._everybody = Entities()
        self._states = States()
        self._models = Groups(Axis.MODEL)
        self._users = Groups(Axis.USER)
        self._teams = Groups(Axis.TEAM)
        self._organizations = Groups(Axis.ORGANIZATION)
        self._tags = Groups(Axis.TAG)
        self._keys = Groups(Axis.KEY)
        self._one = {USER: Groups(Axis.USER, 0), TEAM: Groups(Axis.TEAM, 0), ORGANIZATION: Groups(Axis.ORGANIZATION, 0)}
        self._windowed = {
            SPEND: (self._models, self._users, self._teams, self._organizations, self._tags, *self._one.values()),
            KEYS: (self._keys,),
        }
        self._ever = Ever()
        self._wide = (
            Wide(f.USER_SPEND, self._users, _named(USER)),
            Wide(f.TEAM_SPEND, self._teams, _named(TEAM)),
            Wide(f.ORG_SPEND, self._organizations, _named(ORGANIZATION)),
            Wide(f.TAG_SPEND, self._tags, None),
            Wide(f.KEY_HASH_SPEND, self._keys, key_labels),
        )
        self._key_spend: list[Sample] = []

    def update(self, everybody: Entities) -> None:
        """Take up what the tally touched; after a renaming, everything."""
        before = self._everybody
        renamed = everybody is not before and (everybody.aliases != before.aliases or _names(everybody, before))
        self._everybody = everybody
        for name, groups in self._windowed.items():
            window = self._tally.windows[name]
            for group in groups:
                group.update(window.touched, window.sums)
        self._ever.update(self._tally.counted, self._tally.counters)
        for wide in self._wide:
            wide.update(everybody, renamed)
        self._ever.show(everybody, renamed)
        if renamed or self._keys.changed:
            self._key_spend = list(_keys(self._keys.sums, everybody))
        for window in self._tally.windows.values():
            window.touched.clear()
        self._tally.counted.clear()
        seen = {labels[0] for labels in self._models.sums} - {UNKNOWN_MODEL}
        self._states.update(everybody, frozenset(seen | {model for model, _ in everybody.models}))

    def samples(self, now: float) -> list[Sample]:
        """Every sample that rests on the tally or on a table; call update first."""
        found: list[Sample] = []
        for wide in self._wide:
            found.extend(wide.samples.values())
        found += self._key_spend
        found += _spend(self._models.sums)
        windows = self._tally.windows
        found += _requests(windows[REQUEST].sums, windows[REQUEST].length)
        found += _errors(windows[ERROR].sums, windows[ERROR].length)
        found += self._ever.samples(self._everybody, self._one, self._keys)
        found += self._states.samples(now)
        return found


class Ever:
    """The families that never fall."""

    def __init__(self) -> None:
        self._narrow = {axis: Groups(axis) for axis in (Axis.MODEL, Axis.DURATION, Axis.DETAIL)}
        self._wide: dict[str, Wide] = {}
        self._groups: list[Groups] = [*self._narrow.values()]
        for kind, family, axis in (
            (USER, f.USER_SPEND_TOTAL, Axis.USER),
            (TEAM, f.TEAM_SPEND_TOTAL, Axis.TEAM),
            (ORGANIZATION, f.ORG_SPEND_TOTAL, Axis.ORGANIZATION),
            (KEY, f.KEY_SPEND_TOTAL, Axis.KEY),
        ):
            groups = Groups(axis, 0)
            self._groups.append(groups)
            self._wide[kind] = Wide(family, groups, key_labels if kind == KEY else _named(kind))

    def update(self, rose: Iterable[Series], counters: Mapping[Series, Sums]) -> None:
        """Take up the counters that rose."""
        for groups in self._groups:
            groups.update(rose, counters)

    def show(self, everybody: Entities, renamed: bool) -> None:
        """Make the samples of what rose; after a renaming, all."""
        for wide in self._wide.values():
            wide.update(everybody, renamed)

    def samples(self, everybody: Entities, window: Mapping[str, Groups], keys: Groups) -> Iterator[Sample]:
        """All of them, but for those of entities that are gone, and whose rows have left the window as well."""
        yield from _counters(self._narrow[Axis.MODEL].sums)
        for (model, kind), sums in self._narrow[Axis.DETAIL].sums.items():
            yield Sample(f.DETAIL_TOKENS, (model, kind), float(sums.total_tokens))
        yield from _histograms(self._narrow[Axis.DURATION].sums)
        for kind, wide in self._wide.items():
            rows = keys.sums if kind == KEY else window[kind].sums
            there = everybody.keys if kind == KEY else everybody.aliases
            for group, sample in wide.samples.items():
                if group in rows or (group[0] if kind == KEY else (kind, group[0])) in there:
                    yield sample


def _names(now: Entities, before: Entities) -> bool:
    """Whether a key was made, deleted or given another name."""
    if now.keys.keys() != before.keys.keys():
        return True
    return any(key.name != before.keys[hash].name for hash, key in now.keys.items())


def _spend(cells: Mapping[Labels, Sums]) -> Iterator[Sample]:
    for labels, sums in by(cells, 0).items():
        yield Sample(f.TOTAL_SPEND, labels, dollars(sums))
        yield Sample(f.TOTAL_TOKENS, labels, float(sums.total_tokens))
        yield Sample(f.PROMPT_TOKENS, labels, float(sums.prompt_tokens))
        yield Sample(f.COMPLETION_TOKENS, labels, float(sums.completion_tokens))
    for labels, sums in by(cells, 1).items():
        yield Sample(f.PROVIDER_SPEND, labels, dollars(sums))
    for model, provider in by(cells, 0, 1):
        if model == UNKNOWN_MODEL:
            continue  # requests that failed before a model was found
        yield Sample(f.MODEL_INFO, (model, provider, "log"), 1.0)


def _keys(cells: Mapping[Labels, Sums], everybody: Entities) -> Iterator[Sample]:
    summed: dict[Labels, int] = {}
    for hash, sums in cells.items():
        labels = key_labels(hash, everybody)[1:]
        summed[labels] = summed.get(labels, 0) + sums.spend
    for labels, spend in summed.items():
        yield Sample(f.KEY_SPEND, labels, spend / NANO)


def _plain(cells: Mapping[Series, Sums]) -> dict[Labels, Sums]:
    """Cells of a window that sums by model alone."""
    return {series.labels: sums for series, sums in cells.items() if series.axis is Axis.MODEL}


def _requests(window: Mapping[Series, Sums], length: int) -> Iterator[Sample]:
    cells = _plain(window)
    for labels, sums in by(cells, 0, 2).items():
        yield Sample(f.WINDOW_REQUESTS, labels, float(sums.requests))
    for labels, sums in by(cells, 0).items():
        yield Sample(f.WINDOW_TOKENS, labels, float(sums.total_tokens))
        yield Sample(f.WINDOW_REQUEST_RATE, labels, sums.requests / length)


def _errors(window: Mapping[Series, Sums], length: int) -> Iterator[Sample]:
    failed: dict[Labels, int] = {}
    for (model, status, kind), sums in by(_plain(window), 0, 2, 3).items():
        errors = sums.requests if status == "failure" else 0
        failed[(model,)] = failed.get((model,), 0) + errors
        if errors:
            yield Sample(f.WINDOW_ERRORS, (model, kind), float(errors))
    for labels, errors in failed.items():
        yield Sample(f.ERROR_RATE, labels, errors / (length / 60))


def _counters(models: Mapping[Labels, Sums]) -> Iterator[Sample]:
    for labels, sums in by(models, 0, 2).items():
        yield Sample(f.REQUESTS, labels, float(sums.requests))
    for (model, status, error), sums in by(models, 0, 2, 3).items():
        if status == "failure":
            yield Sample(f.ERRORS, (model, error), float(sums.requests))
    for labels, sums in by(models, 0).items():
        yield Sample(f.SPEND, labels, dollars(sums))
        yield Sample(f.CACHE_HITS, labels, float(sums.cache_hits))
        yield Sample(f.CACHE_MISSES, labels, float(sums.cache_misses))
        yield from _tokens(f.TOKENS, labels, sums)
    for labels, sums in by(models, 1).items():
        yield Sample(f.PROVIDER_SPEND_TOTAL, labels, dollars(sums))
        yield from _tokens(f.PROVIDER_TOKENS, labels, sums)
    for labels, sums in by(models, 1, 2).items():
        yield Sample(f.PROVIDER_REQUESTS, labels, float(sums.requests))


def _tokens(family: Family, labels: Labels, sums: Sums) -> Iterator[Sample]:
    yield Sample(family, (*labels, "prompt"), float(sums.prompt_tokens))
    yield Sample(family, (*labels, "completion"), float(sums.completion_tokens))


def _histograms(cells: Mapping[Labels, Sums]) -> Iterator[Sample]:
    counts: dict[str, list[int]] = {}
    seconds: dict[str, int] = {}
    for (model, bucket), sums in cells.items():
        counts.setdefault(model, [0] * (len(f.DURATION.buckets) + 1))[int(bucket)] += sums.requests
        seconds[model] = seconds.get(model, 0) + sums.duration
    for model, found in counts.items():
        yield Sample(f.DURATION, (model,), Distribution(tuple(found), seconds[model] / MICRO))
