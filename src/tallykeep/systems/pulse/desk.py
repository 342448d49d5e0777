"""What the API answers from: the figures as they stand, the history behind them, and what went wrong last.

Filled by the collector after each round, read on the event loop. Answers are JSON-ready objects in the published
form; nothing here knows HTTP.
Source: contract/http.tsv.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from tallykeep.clock import Clock
from tallykeep.exposition.json import Json, number_as_json
from tallykeep.history.periods import Period, begin
from tallykeep.history.rounds import QUARTER, Row
from tallykeep.history.series import Chart, Query
from tallykeep.history.service import History
from tallykeep.systems.pulse.digest import Digest, Follower
from tallykeep.systems.pulse.tracked import COUNTERS, DEPLOYMENTS, NAMES, PUBLISHED

MOST_SNAPSHOTS = 10_000  # in one answer

_CACHED, _INPUT = "input_cached_tokens", "input_tokens"
_PERCENT = "input_cached_pct"


class Desk:
    """Answers for the targets of one `followers` list."""

    def __init__(self, followers: Sequence[Follower], source: str, zone: ZoneInfo, history: History, clock: Clock):
        self.history = history
        self.source = source
        self.names = NAMES
        self._followers = followers
        self._sources = followers[0].sources
        self.zone = zone
        self._clock = clock
        self._values = {one.target: one.last_known() for one in followers}
        self._pages: dict[str, Digest] = {}  # target -> its last
        self._error = ""
        self._last_scrape: float | None = None
        self._started = False

    async def resume(self) -> None:
        """Take over from the history when the last scrape was."""
        rows = await self.history.rows(1)
        self._last_scrape = rows[-1].moment if rows else None

    def took(self, pages: Mapping[str, Digest], moment: float) -> None:
        """A round brought pages."""
        for target, page in pages.items():
            self._values[target] = dict(page.values)
        self._pages = {**self._pages, **pages}
        self._last_scrape, self._started = moment, True

    def failed(self, error: str) -> None:
        """What the last round could not do; "" for nothing."""
        self._error = error

    # --- answers

    @property
    def started(self) -> bool:
        """Has a scrape succeeded since the program started?"""
        return self._started

    @property
    def error(self) -> str:
        """What is wrong with the last scrape or the last write; "" for nothing."""
        return "; ".join(text for text in (self._error, self.history.error) if text)

    def values(self) -> dict[str, float]:
        """Every tracked figure as it stands, summed over targets. One that cannot be reached keeps its last."""
        return {name: sum(values.get(name, 0.0) for values in self._values.values()) for name in NAMES}

    def windows(self) -> dict[Period, dict[str, float]]:
        """What each figure rose by in the running periods; of a gauge the highest value."""
        read = self.history.windows(self._clock.time())
        found: dict[Period, dict[str, float]] = {period: dict.fromkeys(NAMES, 0.0) for period in Period}
        for name, figures in read.items():
            for period in Period:
                if name in NAMES:
                    found[period][name] = figures[period.value]
        return found

    def lifetimes(self) -> dict[str, float]:
        """What each counter rose by since the first scrape."""
        known = self.history.lifetimes()
        return {name: known.get(name, 0.0) for name in COUNTERS}

    def summary(self) -> dict[str, Json]:
        """The flat object of GET /api/v1/metrics."""
        told: dict[str, Json] = {}
        values = self.values()
        told |= {name: number_as_json(values[name]) for name in NAMES} | {_PERCENT: _percent(values)}
        for period, window in self.windows().items():
            told |= {f"{name}_{period.value}": number_as_json(window[name]) for name in NAMES}
            told[f"{_PERCENT}_{period.value}"] = _percent(window)
        told |= {f"{name}_lifetime": number_as_json(value) for name, value in self.lifetimes().items()}
        told |= {"last_scrape": self.last_scrape, "source": self.source}
        return told | ({"error": self.error} if self.error else {})

    def metric(self, name: str) -> dict[str, Json] | None:
        """One figure; None where there is none of that name."""
        told = self.summary()
        if name not in told or name in ("last_scrape", "source", "error"):
            return None
        return {"name": name, "value": told[name], "last_scrape": self.last_scrape}

    @property
    def available(self) -> list[str]:
        """The published names."""
        return list(PUBLISHED)

    @property
    def last_scrape(self) -> str | None:
        """When a page was last read, in the zone; None before the first."""
        return None if self._last_scrape is None else self._iso(self._last_scrape)

    async def snapshots(self, limit: int) -> dict[str, Json]:
        """The newest rounds, oldest of them first."""
        rows = await self.history.rows(min(limit, MOST_SNAPSHOTS)) if limit else []
        found: list[Json] = [self._snapshot(row) for row in rows]
        return {"snapshots": found, "count": len(found), "source": self.history.source}

    def _snapshot(self, row: Row) -> Json:
        told: dict[str, Json] = {"timestamp": self._iso(row.moment), "is_reset": row.is_reset}
        for name in NAMES:
            value, delta = row.totals.get(name, (0.0, 0.0))
            told |= {name: number_as_json(value), f"{name}_delta": number_as_json(delta)}
        return told

    def raw(self) -> dict[str, Json]:
        """Every sample name of the last pages, summed."""
        found: dict[str, float] = {}
        for page in self._pages.values():
            for name, value in page.raw.items():
                found[name] = found.get(name, 0.0) + value
        return {name: number_as_json(value) for name, value in found.items()}

    async def models(self) -> dict[str, Json]:
        """Figures by model, as they stand and by running period."""
        table = _Table()
        for page in self._pages.values():
            for model, values in page.models.items():
                for name, value in values.items():
                    table.add(model, name, value)
        now = self._clock.time()
        followers = {one.target: one for one in self._followers}
        for period in Period:
            for target, series, delta in await self.history.rises(begin(period, now, self.zone)):
                follower = followers.get(target, self._followers[0])  # one that is no longer scraped
                model = follower.models.model_of(series) if delta else ""
                for name in follower.named(series) if model else ():
                    table.add(model, f"{name}_{period.value}", delta)
        aliases = {m: sorted({a for f in self._followers for a in f.models.aliases(m)}) for m in table.rows}
        rows: list[Json] = [_model_row(model, table.rows[model], aliases[model]) for model in sorted(table.rows)]
        return {"models": rows, "last_scrape": self.last_scrape}

    async def series(self, query: Query) -> Chart:
        """History of one figure; of a tracked one by its short name too. Raises: ValueError, StoreError."""
        short = query.name in NAMES
        if short and (query.by or query.step < QUARTER):  # totals have no labels, and no single points
            query = replace(query, name=self._sources[query.name])
        return await self.history.series(query)

    def _iso(self, moment: float) -> str:
        return datetime.fromtimestamp(moment, self.zone).isoformat(timespec="seconds")


class _Table:
    def __init__(self) -> None:
        self.rows: dict[str, dict[str, float]] = {}

    def add(self, model: str, name: str, value: float) -> None:
        row = self.rows.setdefault(model, {})
        row[name] = row.get(name, 0.0) + value


def _model_row(model: str, row: Mapping[str, float], aliases: list[str]) -> Json:
    told: dict[str, Json] = {"model": model, "requested_models": list(aliases)}
    for end in ("", *(f"_{period.value}" for period in Period)):
        figures = {name: row.get(f"{name}{end}", 0.0) for name in (*COUNTERS, *DEPLOYMENTS)}
        told |= {f"{name}{end}": number_as_json(value) for name, value in figures.items()}
        told[f"{_PERCENT}{end}"] = _percent(figures)
    return told


def _percent(figures: Mapping[str, float]) -> Json:
    """How much of the input the provider had cached."""
    whole = figures.get(_INPUT, 0.0)
    return number_as_json(100 * figures.get(_CACHED, 0.0) / whole) if whole > 0 else 0
