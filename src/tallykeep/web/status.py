"""/status: the verdicts and the collectors at a glance, from the same samples as the page."""

from __future__ import annotations

from collections.abc import Iterable

from tallykeep.exposition.json import Json, labels_as_json, number_as_json
from tallykeep.metrics import Book, Kind, Sample
from tallykeep.runtime import families
from tallykeep.runtime.board import Board

_FIGURES = {
    families.COLLECTOR_UP: "up",
    families.COLLECTOR_LAST_SUCCESS: "last_success_timestamp_seconds",
    families.COLLECTOR_DURATION: "duration_seconds",
    families.COLLECTOR_INTERVAL: "interval_seconds",
}


def status(board: Board, book: Book, now: float) -> dict[str, Json]:
    """Verdicts with their states, and for each collector whether its figures are believed and how it fares."""
    booked = book.read()
    seen = [sample for snapshot in board.snapshots() for sample in snapshot.samples]
    return {
        "time": number_as_json(now),
        "verdicts": [_verdict(sample) for sample in (*seen, *booked) if sample.family.kind is Kind.STATE_SET],
        "collectors": _collectors(board, booked),
    }


def _verdict(sample: Sample) -> Json:
    return {"name": sample.family.name, "labels": labels_as_json(sample), "state": str(sample.value)}


def _collectors(board: Board, booked: Iterable[Sample]) -> list[Json]:
    found: dict[tuple[str, str], dict[str, Json]] = {
        (collector, target): {"collector": collector, "target": target, "believed": believed}
        for (collector, target), believed in board.believed().items()
    }
    for sample in booked:
        key = _FIGURES.get(sample.family)
        about = found.get((sample.labels[0], sample.labels[1])) if key else None
        if key and about is not None and isinstance(sample.value, float):
            about[key] = number_as_json(sample.value)
    return list(found.values())
