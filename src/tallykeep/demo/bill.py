"""What was spent, by two accounts: the traffic generator's own, and the page that tallykeep serves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tallykeep.demo.litellm_account import Totals, dollars
from tallykeep.demo.page import Page
from tallykeep.systems.litellm import families as f
from tallykeep.systems.pulse.families import PAGE_VALUE

CENT = 0.005  # dollars: equal when rounded to cents
_MOST = 3  # teams that are named


@dataclass(frozen=True, slots=True)
class Bill:
    """Dollars and requests, by what they are labelled with."""

    teams: Mapping[str, float]  # dollars by team_id
    models: Mapping[str, float]  # dollars by model
    requests: Mapping[tuple[str, str], int]  # by model and status

    @classmethod
    def of(cls, totals: Totals) -> Bill:
        """The generator's account."""
        teams: Counter[str] = Counter()
        for (team, _), pico in totals.team.items():
            teams[team] += pico
        return cls(
            {team: float(dollars(pico)) for team, pico in teams.items()},
            {model: float(dollars(pico)) for (model,), pico in totals.model.items()},
            {(model, status): count for (model, status), count in totals.requests.items()},
        )

    @classmethod
    def shown(cls, page: Page) -> Bill:
        """What a page says."""
        teams: dict[str, float] = {}
        models: dict[str, float] = {}
        requests: dict[tuple[str, str], int] = {}
        for series in page.series:
            if series.name == f.TEAM_SPEND.name:
                team = series.labels["team_id"]
                teams[team] = teams.get(team, 0.0) + series.value
            elif series.name == f.TOTAL_SPEND.name:
                models[series.labels["model"]] = series.value
            elif series.name == f.REQUESTS.name:
                requests[series.labels["model"], series.labels["status"]] = int(series.value)
        return cls(teams, models, requests)

    def equals(self, other: Bill) -> bool:
        """Every team and model to the cent, every request."""
        return self.requests == other.requests and _equal(self.teams, other.teams) and _equal(self.models, other.models)

    def is_on(self, page: Page) -> bool:
        """Whether pulse's sums over the gateway's own metrics page say the same, to the cent."""
        shown = {name: page.values(PAGE_VALUE.name, name=name) for name in ("cost", "requests")}
        if any(len(values) != 1 for values in shown.values()):
            return False
        return abs(shown["cost"][0] - self.total) < CENT and shown["requests"][0] == sum(self.requests.values())

    @property
    def total(self) -> float:
        """Dollars."""
        return sum(self.models.values())

    def line(self) -> str:
        """For people: the sum, the requests, and who spent most."""
        failures = sum(count for (_, status), count in self.requests.items() if status == "failure")
        dear = sorted(self.teams.items(), key=lambda item: -item[1])[:_MOST]
        named = ", ".join(f"{team if team != 'none' else 'no team'} {spent:,.2f}" for team, spent in dear)
        return f"${self.total:,.2f} in {sum(self.requests.values()):,} requests, {failures} of them failed; {named}"


def _equal(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return one.keys() == other.keys() and all(abs(one[name] - other[name]) < CENT for name in one)
