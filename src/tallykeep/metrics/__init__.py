"""The language of metrics: families, samples, snapshots, the Book. Pure; imports nothing above it."""

from tallykeep.metrics.book import Book
from tallykeep.metrics.catalogue import Catalogue
from tallykeep.metrics.family import UNKNOWN, Alert, Family, Kind
from tallykeep.metrics.sample import Distribution, Exemplar, Sample
from tallykeep.metrics.snapshot import FOREVER, Snapshot, unknown

__all__ = [
    "FOREVER",
    "UNKNOWN",
    "Alert",
    "Book",
    "Catalogue",
    "Distribution",
    "Exemplar",
    "Family",
    "Kind",
    "Sample",
    "Snapshot",
    "unknown",
]
