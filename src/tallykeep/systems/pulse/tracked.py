"""The tracked figures: their names, what they are on the page, and which model a series is about.

Twelve names: the eight that are published, and the cache's four. All are counters but one gauge. Which samples
they are summed from is a setting. Pure.
Source: contract/http.tsv; LiteLLM 1.106, /metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tallykeep.exposition.parse import Series, labels_of

PUBLISHED = (
    "requests",
    "failed_requests",
    "tokens",
    "input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost",
    "in_flight_requests",
)
CACHE = ("cache_hits", "cache_misses", "cached_tokens", "input_cached_tokens")
NAMES = (*PUBLISHED, *CACHE)
GAUGES = frozenset({"in_flight_requests"})
COUNTERS = tuple(name for name in NAMES if name not in GAUGES)
# told by model alone
DEPLOYMENTS = {
    "deployment_requests": "litellm_deployment_total_requests_total",
    "deployment_success": "litellm_deployment_success_responses_total",
    "deployment_failures": "litellm_deployment_failure_responses_total",
}

_NONE = ("", "None", "none")
_SPARE = 50_000  # series remembered


class Models:
    """Tells the model of a series.

    Families of one page name it by different labels: spend and tokens by `model`, deployments by
    `litellm_model_name`, requests by `requested_model` alone, which is an alias of the configuration. `model_id` is
    what they share, so an alias is followed to its model where another series of the same id has told it.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, str] = {}
        self._aliases: dict[str, set[str]] = {}  # model -> requested_model
        self._known: dict[Series, tuple[str, str, str]] = {}  # (model or "", id, alias)

    def learn(self, series: Iterable[Series]) -> None:
        """Look at the series of a page, before asking for any of them."""
        for one in series:
            model, number, _ = self._labels(one)
            if model and number:
                self._by_id[number] = model
        for one in series:
            _, _, alias = self._labels(one)
            model_of = self.model_of(one)
            if alias and model_of:
                self._aliases.setdefault(model_of, set()).add(alias)

    def model_of(self, series: Series) -> str:
        """The model; the alias where nothing tells it; "" for a series about none."""
        model, number, alias = self._labels(series)
        return model or self._by_id.get(number, "") or alias

    def aliases(self, model: str) -> list[str]:
        """What clients call it."""
        return sorted(self._aliases.get(model, ()))

    def _labels(self, series: Series) -> tuple[str, str, str]:
        known = self._known.get(series)
        if known is None:
            if len(self._known) > _SPARE:
                self._known.clear()
            labels = labels_of(series)
            model = _first(labels, "model", "litellm_model_name")
            known = (model, _first(labels, "model_id"), _first(labels, "requested_model", "model_group"))
            self._known[series] = known
        return known


def _first(labels: Mapping[str, str], *names: str) -> str:
    return next((labels[name] for name in names if labels.get(name, "") not in _NONE), "")
