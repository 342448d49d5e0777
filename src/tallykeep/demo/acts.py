"""The demo as a play of four acts, watched through /metrics, as Prometheus would.

First act: both replicas turn restorable, are verified, drilled and compared with the live databases; what the LLM
gateway's users have spent equals the account of whoever made the traffic, to the cent.
Second act: the S3 server is frozen. Litestream goes on saying that it replicates; tallykeep has to say that it does
not know, and to come back when the server does.
Third act: a Kafka topic is deleted, restored from its backup on S3, and read by an ordinary consumer.
Fourth act: a drill. PostgreSQL is restored from S3 alone, with the key from the recovery file, to the last payment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tallykeep.demo.bill import Bill
from tallykeep.demo.kafka_act import play_kafka
from tallykeep.demo.page import Page, scrape
from tallykeep.demo.payments_act import is_in_tier2, is_protected, play_drill
from tallykeep.demo.summary import Outcome, Summary
from tallykeep.demo.world import World
from tallykeep.metrics import Family
from tallykeep.systems.litestream import families as f
from tallykeep.units import format_bytes, format_duration

POLL = 0.25  # seconds between two scrapes
FROZEN = 5.0  # seconds the server stays frozen after tallykeep has noticed
SECOND_ACT = 14.0  # seconds that are left to the second act
THIRD_ACT = 10.0  # and to the third
FOURTH_ACT = 4.0  # and to the fourth, which is played to its end whatever the time
LATER_ACTS = SECOND_ACT + THIRD_ACT + FOURTH_ACT
PATIENCE = 60.0  # seconds an act may take when nobody asked for an end
LATE = 60.0  # seconds by which a play with an asked-for end may be late, on a machine that is slow

# Families that stand on the page only while there is something to tell.
OCCASIONAL = frozenset({f.RPO_AT_LEAST.name, f.RPO_COMMITS.name, f.CORRUPT_FILES.name})

_TITLES = {"s3": "shop.db on S3", "file": "ledger.db in a folder"}

Check = Callable[[Page], bool]


@dataclass(frozen=True, slots=True)
class Side:
    """One replica, by the labels it has on the page."""

    title: str
    target: str

    def says(self, family: Family, state: str) -> Check:
        """Whether a state set of this target is in `state`."""
        return lambda page: page.state(family.name, target=self.target) == state

    def shows(self, *families: Family) -> Check:
        """Whether one of these families has a figure for this target."""
        return lambda page: any(page.values(family.name, target=self.target) for family in families)


class Play:
    """Runs the acts in a world and fills in a summary. `say` prints a line."""

    def __init__(self, world: World, summary: Summary, say: Callable[[str], None], deadline: float | None) -> None:
        self._world = world
        self._summary = summary
        self._say = say
        self._deadline = deadline  # on the monotonic clock; None: until interrupted
        self._end = None if deadline is None else deadline + LATE  # of the acts
        self._page: Page | None = None  # the last one
        self._seen: set[str] = set()
        self._dead: set[str] = set()
        self._shown: Bill | None = None  # the page's account, when the two were equal
        self._again = ""  # what the third act came to
        self._drilled = ""  # and the fourth

    def first_act(self) -> None:
        """Both replicas are shown good, and every family is seen."""
        checks = [pair for side in self._sides() for pair in self._expected_of(side)]
        expected = {family.name for family in f.FAMILIES} - OCCASIONAL
        families = self._summary.expect(f"all {len(expected)} families of Litestream on /metrics")
        checks.append((families, lambda page: expected <= self._seen))
        checks.extend(self._bill())
        if self._world.payments is not None:
            checks.extend(is_protected(self._summary))
        self._await(checks, PATIENCE if self._end is None else self._end - LATER_ACTS - time.monotonic())
        families.detail = ", ".join(sorted(expected - self._seen))

    def _bill(self) -> Iterable[tuple[Outcome, Check]]:
        """tallykeep and the generator of the traffic agree on who spent what, while the traffic pauses."""
        gateway = self._world.gateway
        if gateway is None:
            self._say(f"Without an LLM gateway: {self._world.without_gateway}")
            return

        agreed: set[str] = set()

        def agree(page: Page) -> bool:
            if gateway.bill is None or not gateway.bill.equals(Bill.shown(page)):
                return False
            self._shown = Bill.shown(page)
            return both("database")

        def agree_too(page: Page) -> bool:
            return gateway.bill is not None and gateway.bill.is_on(page) and both("page")

        def both(one: str) -> bool:
            agreed.add(one)
            if len(agreed) == 2:
                gateway.go_on()
            return True

        outcome = self._summary.expect("LLM gateway: spend by team and model equals its own account, to the cent")
        yield outcome, agree
        yield self._summary.expect("LLM gateway: pulse counts the same on its metrics page"), agree_too

    def second_act(self) -> None:
        """The S3 server freezes and thaws; tallykeep notices both, and the other replica is not touched by it."""
        s3, folder = self._sides()
        noticed = self._summary.expect("S3 frozen: tallykeep says unknown")
        untouched = self._summary.expect(f"meanwhile {folder.title} stays restorable")
        recovered = self._summary.expect("S3 thawed: tallykeep says restorable again")
        self._say("Second act: the S3 server is frozen (SIGSTOP). Litestream does not complain; tallykeep?")
        self._world.s3.freeze()
        try:
            self._await([(noticed, s3.says(f.VERDICT, "unknown"))], PATIENCE)
            if noticed.happened:
                self._hold(untouched, folder.says(f.VERDICT, "restorable"), FROZEN)
        finally:
            self._world.s3.thaw()
        self._say("The S3 server is thawed.")
        self._await([(recovered, s3.says(f.VERDICT, "restorable"))], PATIENCE)

    def third_act(self) -> None:
        """A topic goes and comes back."""
        kafka = self._world.kafka
        if kafka is None:
            self._say(f"Without Kafka: {self._world.without_kafka}")
            return
        self._say("Third act: the Kafka topic orders is backed up to S3 once more, and deleted.")
        self._again = play_kafka(kafka, self._summary, self._say)

    def fourth_act(self) -> None:
        """Everything that was committed comes back."""
        payments = self._world.payments
        if payments is None:
            self._say(f"Without a protected PostgreSQL: {self._world.without_payments}")
            return
        there = self._summary.expect("PostgreSQL: every payment that was committed is on S3")
        back = self._summary.expect("PostgreSQL: a drill from S3 alone recovers all of them and finds everything sound")
        lsn, end = payments.stop_paying(), self._end
        self._say(f"Fourth act: {payments.count:,} payments were committed. Do they come back from S3 alone?")
        self._end = None  # the last act is played to its end, also on a machine that was slow so far
        self._await([(there, is_in_tier2(lsn))], PATIENCE)
        if there.happened:
            self._drilled = play_drill(
                payments, lsn, back, self._say, self._world.config, self._world.environment
            )  # fmt: skip
        self._end = end

    def figures(self) -> Iterator[str]:
        """What the last page said of each replica, for people."""
        if self._page is not None:
            for kind, target in self._targets(self._page).items():
                yield f"{_TITLES[kind]}: {_figures_of(self._page, target)}"
        gateway = self._world.gateway
        if gateway is not None and gateway.bill is not None:
            yield f"LLM gateway, its own account:  {gateway.bill.line()}"
            if self._shown is not None:
                yield f"LLM gateway, by tallykeep:     {self._shown.line()}"
        if self._again:
            yield f"Kafka: {self._again}"
        if self._drilled:
            yield f"PostgreSQL: {self._drilled}"

    def watch(self, seconds: float) -> None:
        """Let time pass, with an eye on the processes."""
        self._await([], seconds)

    def epilogue(self) -> None:
        """Watch until the deadline, or for ever."""
        while self._deadline is None or time.monotonic() < self._deadline:
            self.watch(1)

    def _sides(self) -> tuple[Side, Side]:
        """The two replicas, as tallykeep has named their targets."""
        page = self._look()
        while page is None or len(targets := self._targets(page)) < 2:
            if self._over():
                raise TimeoutError("tallykeep has not shown its two targets")
            time.sleep(POLL)
            page = self._look()
        return Side(_TITLES["s3"], targets["s3"]), Side(_TITLES["file"], targets["file"])

    @staticmethod
    def _targets(page: Page) -> dict[str, str]:
        return {s.labels["kind"]: s.labels["target"] for s in page.series if s.name == f.TARGET_INFO.name}

    def _expected_of(self, side: Side) -> Iterable[tuple[Outcome, Check]]:
        expect = self._summary.expect
        yield expect(f"{side.title}: restorable"), side.says(f.VERDICT, "restorable")
        yield expect(f"{side.title}: commits at risk counted"), side.shows(f.RPO_COMMITS, f.RPO_AT_LEAST)
        yield expect(f"{side.title}: every file of the plan verified"), side.says(f.SWEEP_RESULT, "sound")
        yield expect(f"{side.title}: restore drill ok"), side.says(f.DRILL_RESULT, "ok")
        yield expect(f"{side.title}: drill's image equals the live database"), side.says(f.DRILL_MATCH, "matches")

    def _await(self, checks: list[tuple[Outcome, Check]], seconds: float) -> None:
        """Scrape until every check has held once, or `seconds` or the play are over. Without checks: just watch."""
        start, waiting = time.monotonic(), checks
        while time.monotonic() - start < seconds and not self._over() and (waiting or not checks):
            page = self._look()
            for outcome, check in waiting:
                if page is not None and check(page):
                    outcome.after = time.monotonic() - start
                    self._say(outcome.what)
            waiting = [pair for pair in waiting if not pair[0].happened]
            time.sleep(POLL)

    def _hold(self, outcome: Outcome, check: Check, seconds: float) -> None:
        """`check` has to hold at every scrape for `seconds` in a row; a scrape without an answer says nothing."""
        start = since = time.monotonic()
        while time.monotonic() - start < PATIENCE and not self._over():
            page, now = self._look(), time.monotonic()
            if page is not None and not check(page):  # a look may have taken too long for its timeout
                since, outcome.detail = now, f"not after {format_duration(now - start)}"
            elif page is not None and now - since >= seconds:
                outcome.after = now - start
                return
            time.sleep(POLL)

    def _look(self) -> Page | None:
        """One scrape; remembers families, and processes that have died."""
        for name, last_words in self._world.dead().items():
            if name not in self._dead:
                self._dead.add(name)
                self._summary.troubles.append(f"{name} has ended by itself\n{last_words}".rstrip())
        page = scrape(self._world.port)
        if page is not None:
            self._seen |= page.families
            self._page = page
        return page

    def _over(self) -> bool:
        """Whether the time is up, or there is nothing to look at any more."""
        return bool(self._dead) or (self._end is not None and time.monotonic() >= self._end)


def _figures_of(page: Page, target: str) -> str:
    def figure(family: Family) -> float | None:
        return next(iter(page.values(family.name, target=target)), None)

    told = {
        "TXID {:.0f} restorable": figure(f.RESTORABLE_TXID),
        "from {:.0f} files": figure(f.PLAN_FILES),
        "{:.0f} commits at risk": figure(f.RPO_COMMITS),
        "at least {:.0f} commits at risk": figure(f.RPO_AT_LEAST),
    }
    parts = [text.format(value) for text, value in told.items() if value is not None]
    if (size := figure(f.PLAN_BYTES)) is not None:
        parts.append(f"{format_bytes(size)} to fetch")
    if (seconds := figure(f.DRILL_DURATION)) is not None:
        parts.append(f"last drill {format_duration(seconds)}")
    return ", ".join(parts)
