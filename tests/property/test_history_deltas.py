"""A fleet of replicas behind one address: the sum of deltas is what was truly counted."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from tallykeep.history.deltas import CLOCKS_APART, Counter, Deltas

FIRST = 1_790_000_000.0  # Unix seconds of the first page
MODELS = ("a", "b", "c")


@dataclass
class Replica:
    """A process with counters; each knows when it was created and what a scraper could have learnt of it."""

    born: float
    counts: dict[str, tuple[float, int]] = field(default_factory=dict)  # model -> created, value

    def serve(self, model: str, number: int, now: float) -> None:
        created, value = self.counts.get(model, (now, 0))
        self.counts[model] = (created, value + number)

    def page(self) -> list[Counter]:
        return [Counter(f'r_total{{m="{m}"}}'.encode(), v, c) for m, (c, v) in self.counts.items()]


@dataclass
class Truth:
    """What can be known by looking: whole counts of what was born since, differences of what is older."""

    seen: dict[tuple[str, float, int], tuple[int, int]] = field(default_factory=dict)  # -> baseline, last value

    def look(self, replica: Replica, since: float) -> None:
        for model, (created, value) in replica.counts.items():
            baseline, _ = self.seen.get((model, created, id(replica)), (0 if created > since else value, 0))
            self.seen[model, created, id(replica)] = baseline, value

    @property
    def total(self) -> int:
        return sum(last - baseline for baseline, last in self.seen.values())


EVENT = st.one_of(
    st.tuples(st.just("serve"), st.integers(0, 2), st.sampled_from(MODELS), st.integers(1, 50)),
    st.tuples(st.just("restart"), st.integers(0, 2), st.just(""), st.just(0)),
    st.tuples(st.just("scrape"), st.integers(0, 2), st.just(""), st.just(0)),
    st.tuples(st.just("resume"), st.just(0), st.just(""), st.just(0)),
)


@given(st.lists(st.integers(0, 500), min_size=9, max_size=9), st.lists(EVENT, max_size=60))
@settings(max_examples=400)
def test_the_sum_of_deltas_is_the_truth_since_the_first_page(
    before: list[int], events: list[tuple[str, int, str, int]]
) -> None:
    """Three replicas take turns, serve and restart, and we restart too: no request is counted twice, none is missed
    but those no page ever showed.
    """
    fleet = [Replica(FIRST - CLOCKS_APART - 1000 - n) for n in range(3)]
    for number, count in enumerate(before):
        if count:
            replica = fleet[number % 3]
            replica.serve(MODELS[number // 3], count, replica.born + number / 10)
    deltas, truth, counted, now = Deltas(), Truth(), 0.0, FIRST
    for what, which, model, number in [("scrape", 0, "", 0), *events]:
        replica = fleet[which]
        if what == "serve":
            replica.serve(model, number, now)
        elif what == "restart":
            fleet[which] = Replica(now)
        elif what == "scrape":
            counted += sum(delta.amount for delta in deltas.take(replica.page(), now)[0])
            truth.look(replica, FIRST)
        else:
            deltas = Deltas.resumed(deltas.since, deltas.memories())
        now += 7.0
    assert counted == truth.total


@given(st.lists(st.one_of(st.integers(0, 1000), st.none()), max_size=40))
def test_deltas_are_never_negative_and_never_more_than_the_value(values: list[int | None]) -> None:
    """Whatever one undated counter shows, what it adds is between nothing and its value."""
    deltas = Deltas()
    for number, value in enumerate(values):
        page = [] if value is None else [Counter(b"x_total", value)]
        for delta in deltas.take(page, FIRST + number)[0]:
            assert 0 <= delta.amount <= (value or 0)
