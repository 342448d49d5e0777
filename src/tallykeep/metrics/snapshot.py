"""What one collector saw of one target, and until when it may be believed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tallykeep.metrics.family import UNKNOWN, Kind
from tallykeep.metrics.sample import Sample

FOREVER = float("inf")


def unknown(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """The state sets among `samples`, each saying UNKNOWN: what is left when their source falls silent."""
    return tuple(s._replace(value=UNKNOWN) for s in samples if s.family.kind is Kind.STATE_SET)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)  # renderers keep its lines weakly, by identity
class Snapshot:
    """An immutable set of samples. Past `valid_until` only its state sets speak, and they say unknown."""

    collector: str
    target: str
    samples: tuple[Sample, ...]
    taken: float  # Unix seconds, shown
    valid_until: float = FOREVER  # on the monotonic clock: a stepped wall clock neither kills nor revives it

    def silent(self) -> Snapshot:
        """This snapshot as it reads once it has expired or its collector has failed."""
        return replace(self, samples=unknown(self.samples), valid_until=FOREVER)
