"""A small world behind a real listener: one Board, families of every kind, uvicorn on a free port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tallykeep.clock import Clock, SystemClock
from tallykeep.metrics import (
    FOREVER,
    UNKNOWN,
    Alert,
    Book,
    Catalogue,
    Distribution,
    Exemplar,
    Family,
    Kind,
    Sample,
    Snapshot,
)
from tallykeep.runtime import families
from tallykeep.runtime.board import Board
from tallykeep.runtime.health import Health
from tallykeep.units import BYTES, COUNT, SECONDS, STATE
from tallykeep.web import families as web_families
from tallykeep.web.app import MetricsApp
from tallykeep.web.listener import Listener
from tallykeep.web.live import LiveWebConfig

SIZE = Family("replica_size_bytes", Kind.GAUGE, BYTES, ("database",), "Size of the replica.")
COMMITS = Family("replica_commits_total", Kind.COUNTER, COUNT, ("database",), "Commits seen.")
DRILLS = Family("drill_duration_seconds", Kind.HISTOGRAM, SECONDS, ("database",), "Drills.", buckets=(0.1, 1.0))
AGE = Family("replica_age_seconds", Kind.GAUGE, SECONDS, (), "Age of the replica.", age=True)
VERDICT = Family(
    "replica_verdict",
    Kind.STATE_SET,
    STATE,
    ("database",),
    "Can it be restored?",
    states=("restorable", "unrestorable", UNKNOWN),
    alerts=(Alert("ReplicaNotRestorable", '{n}{{n}!="restorable"} == 1', "{{ $labels.database }} is lost.", "1s"),),
)
_MARK = Exemplar((("txid", "000000000000000a"),), 0.6, 1_700_000_000.5)
WORLD = (SIZE, COMMITS, DRILLS, AGE, VERDICT)


def looked(database: str = "main") -> tuple[Sample, ...]:
    """What a collector saw of one healthy database, in every kind of family but the age."""
    return (
        SIZE(4096, database=database),
        COMMITS(7, database=database),
        DRILLS(Distribution((1, 2, 0), 1.25, (None, _MARK, None)), database=database),
        VERDICT("restorable", database=database),
    )


@dataclass
class World:
    """A Board with what stands around it."""

    clock: Clock = field(default_factory=SystemClock)
    book: Book = field(default_factory=Book)
    health: Health = field(default_factory=Health)

    def __post_init__(self) -> None:
        self.board = Board(Catalogue((*families.FAMILIES, *web_families.FAMILIES, *WORLD)), self.book, self.clock)
        self.app = MetricsApp(self.board, self.book, self.clock, self.health)

    def publish(self, *samples: Sample, target: str = "main", lasting: float = FOREVER) -> None:
        """Publish what the collector `fake` saw, to be believed for `lasting` seconds."""
        until = self.clock.monotonic() + lasting
        self.board.publish(Snapshot("fake", target, samples, self.clock.time(), until))


@asynccontextmanager
async def listening(world: World, web: LiveWebConfig | None = None) -> AsyncIterator[Listener]:
    """The world's app on a free port of 127.0.0.1."""
    listener = Listener(world.app, "127.0.0.1", 0, setting="METRICS_PORT", web=web)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop()
