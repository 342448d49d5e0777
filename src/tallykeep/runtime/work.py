"""What the runtime puts to work: collectors that look, services that run, figures derived from snapshots."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tallykeep.metrics import Sample, Snapshot


class Collector(Protocol):
    """Looks at one target every `interval` seconds. The runner turns what it yields into a Snapshot."""

    name: str  # unique in the program: "litestream_remote"
    target: str
    interval: float  # seconds between the starts of collections
    timeout: float  # seconds after which a collection has failed

    def verdicts(self) -> Sequence[Sample]:
        """The state sets it answers for, in their unknown state: shown before the first collection."""
        ...

    def collect(self) -> AsyncIterator[Sample]:
        """Look once. A TallykeepError counts as a failed collection and withdraws the last snapshot."""
        ...


class Service(Protocol):
    """Runs as long as the program does; the supervisor restarts it, with backoff, when it fails."""

    name: str

    async def run(self) -> None:
        """Return only when cancelled. Cancellation is the order to stop cleanly."""
        ...


@dataclass(frozen=True, slots=True)
class Derived:
    """Samples reckoned from several snapshots, as sums over targets are.

    Reckoned anew whenever one of `inputs` (collector, target) is published. As long as one of them is missing,
    expired or failed, the figures are withdrawn and only the state sets of the last result speak: unknown.
    """

    collector: str
    target: str
    inputs: tuple[tuple[str, str], ...]
    derive: Callable[[Sequence[Snapshot]], Sequence[Sample]]  # snapshots in the order of `inputs`


@dataclass(frozen=True, slots=True)
class Parts:
    """What an opened system puts to work."""

    collectors: Sequence[Collector] = ()
    services: Sequence[Service] = ()
    derived: Sequence[Derived] = ()
    desk: object = None  # what the system's `routes` answer from
