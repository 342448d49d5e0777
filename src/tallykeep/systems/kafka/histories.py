"""Whether a log still is the one that was backed up.

After an unclean leader election a partition's log may have lost records that were read, and have others at their
offsets: its end says nothing of it once it has grown again. What tells is the leader epoch of the last batch that was
read: the leader is asked where that epoch ends in its log, as consumers do that look for lost records (KIP-320).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tallykeep.errors import IntegrityError, Malformed, Unreachable
from tallykeep.systems.kafka.brokers import Address, Brokers
from tallykeep.systems.kafka.held import Incarnation, Tail
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.replies import failure
from tallykeep.systems.kafka.wire.leader_epochs import (
    API_KEY,
    UNDEFINED,
    VERSION,
    VERSIONS_API_KEY,
    VERSIONS_VERSION,
    EpochEnd,
    answers_epochs,
    epoch_ends_request,
    epoch_ends_response,
)

log = logging.getLogger(__name__)

_LANE = 0
_TIMEOUT = 30.0  # seconds for an answer


class Diverged(IntegrityError):
    """A log is not the one that was backed up: it has lost records that the backup has."""

    code = "diverged"


class Question(NamedTuple):
    """Does the log of `place`, of which broker `leader` has the truth, still have `tail`?"""

    place: Place
    leader: int
    tail: Tail


async def lost(questions: Iterable[Question], addresses: Mapping[int, Address], brokers: Brokers) -> set[Place]:
    """Those of which the log has another history. Raises: SourceErrors, also where one partition has no answer."""
    by_leader: dict[int, list[Question]] = {}
    for question in questions:
        by_leader.setdefault(question.leader, []).append(question)
    found: set[Place] = set()
    for leader, asked in by_leader.items():
        if leader not in addresses:
            raise Unreachable(f"{asked[0].place} is led by broker {leader}, which is not there.")
        found |= await _lost_at(addresses[leader], asked, brokers)
    return found


def shortened(incarnation: Incarnation, end: int, checkpoint: int) -> Diverged:
    """What is wrong with a log that ends before what was read of it."""
    return _diverged(incarnation, f"the log ends at offset {end} and was backed up to {checkpoint}")


def diverged(incarnation: Incarnation) -> Diverged:
    """What is wrong with a log that has other records where some were read."""
    return _diverged(incarnation, "the log was cut behind what was backed up last, and has grown again since")


def _diverged(incarnation: Incarnation, what: str) -> Diverged:
    return Diverged(
        f"{incarnation}: {what}: it has lost records, as by an unclean leader election. Nothing more of it is backed "
        "up here; begin a new backup_id for what there is now."
    )


async def _lost_at(address: Address, asked: list[Question], brokers: Brokers) -> set[Place]:
    """Those of one broker."""
    versions = await brokers.request(address, _LANE, VERSIONS_API_KEY, VERSIONS_VERSION, b"", timeout=_TIMEOUT)
    if not answers_epochs(versions):
        log.warning("%s:%d does not tell of leader epochs: logs that lost records may go unnoticed", *address)
        return set()
    epochs: dict[str, list[tuple[int, int]]] = {}
    for place, _, tail in asked:
        epochs.setdefault(place.topic, []).append((place.partition, tail.epoch))
    answer = await brokers.request(address, _LANE, API_KEY, VERSION, epoch_ends_request(epochs), timeout=_TIMEOUT)
    ends = {Place(end.topic, end.partition): end for end in epoch_ends_response(answer)}
    return {place for place, _, tail in asked if _is_lost(place, tail, ends.get(place))}


def _is_lost(place: Place, tail: Tail, found: EpochEnd | None) -> bool:
    if found is None:
        raise Malformed(f"{place}: the broker's answer to OffsetForLeaderEpoch leaves it out.")
    if found.error:
        raise failure(found.error, f"OffsetForLeaderEpoch {place}")
    return found.epoch == UNDEFINED or found.end < tail.end
