"""Where a restore goes on: told by the ends of the target's partitions, and by what their leaders remember of us.

A leader that remembers our producer id takes nothing twice, so requests of a process that died may still come in.
One that has forgotten it would: after producer.id.expiration.ms, a day by default, reckoned from the timestamps of
the records, so with old ones at its next look (producer.id.expiration.check.interval.ms, ten minutes) or after its next
start. Then the partition is watched until its end stands still; a restore that is gone on with compares what it
holds with the backup, and writes under a new id.
Source: Apache Kafka, ProducerStateManager; KIP-664.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tallykeep.clock import Clock
from tallykeep.errors import RestoreError, SourceError, Unreachable
from tallykeep.runtime.backoff import Backoff
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.producing import Address, Leaders, Requests
from tallykeep.systems.kafka.replies import failure
from tallykeep.systems.kafka.restore_state import PartitionState
from tallykeep.systems.kafka.restoring.outgoing import Stint, unexpected_end
from tallykeep.systems.kafka.wire import producer_id
from tallykeep.systems.kafka.wire.describe_producers import (
    API_KEY,
    VERSION,
    describe_producers_request,
    describe_producers_response,
)
from tallykeep.systems.kafka.wire.producer_id import producer_id_request, producer_id_response

if TYPE_CHECKING:
    from tallykeep.systems.kafka.cluster import Cluster

SETTLED = 5.0  # seconds for which an end has to stand still
_LOOKS = _TRIES = 5


async def new_producer_id(cluster: Cluster, requests: Requests, clock: Clock) -> tuple[int, int]:
    """An id and its epoch, from any broker. Raises: SourceErrors."""
    backoff = Backoff(0.2, 2.0)
    for left in range(_TRIES, -1, -1):
        for address in cluster.brokers.values():
            try:
                return await _asked(cluster, requests, address)
            except SourceError as error:
                if error.retry is None or not left:
                    raise
        await clock.sleep(backoff.delay())
    raise Unreachable(f"{cluster.name}: there is no broker to ask for a producer id.")


async def ends_of(cluster: Cluster, partitions: Sequence[PartitionState]) -> dict[Place, int]:
    """Where each target partition ends. Raises: RestoreError where records are gone from its front; SourceErrors."""
    places = [state.place for state in partitions]
    first, last = await cluster.offsets(places, "earliest"), await cluster.offsets(places, "latest")
    for state in partitions:
        if first[state.place] > state.stints[0].start:
            raise RestoreError(
                f"{state.place}: it was restored from offset {state.stints[0].start} on and now begins at "
                f"{first[state.place]}: records were deleted. Delete the topic and the state, and begin again."
            )
        if last[state.place] < state.stints[-1].start:
            raise RestoreError(f"{state.place}: {unexpected_end(last[state.place])}")
    return last


async def forgotten(
    cluster: Cluster, requests: Requests, leaders: Leaders, partitions: Iterable[PartitionState]
) -> set[Place]:
    """Partitions that were written to under an id that their leader does not remember.

    Raises: RestoreError where it remembers another end than there is; SourceErrors.
    """
    found = set()
    for state in partitions:
        for look in range(_LOOKS):
            reached = (await cluster.offsets([state.place], "latest"))[state.place]
            stint = state.stints[-1]
            if reached == stint.start:
                break
            last = await _last_sequence(requests, leaders, state.place, stint)
            if last is None:
                found.add(state.place)
                break
            if last == stint.sequence(reached - 1):
                break
            if look == _LOOKS - 1:
                raise RestoreError(f"{state.place}: {unexpected_end(reached)}")
    return found


async def certain_end(
    cluster: Cluster, requests: Requests, leaders: Leaders, state: PartitionState, clock: Clock
) -> int:
    """Where a partition ends, when what was sent and not answered either is there or will not be taken twice.

    Raises: SourceErrors.
    """
    await cluster.topics()  # who leads now
    end = (await cluster.offsets([state.place], "latest"))[state.place]
    if end == state.stints[-1].start:
        return end
    if await _last_sequence(requests, leaders, state.place, state.stints[-1]) is not None:
        return end
    return (await settle(cluster, [state.place], clock))[state.place]


async def settle(cluster: Cluster, places: Sequence[Place], clock: Clock) -> dict[Place, int]:
    """The ends, once none of them has moved for a while. Raises: SourceErrors."""
    before = await cluster.offsets(places, "latest")
    while True:
        await clock.sleep(SETTLED)
        after = await cluster.offsets(places, "latest")
        if after == before:
            return after
        before = after


async def _asked(cluster: Cluster, requests: Requests, address: Address) -> tuple[int, int]:
    api = producer_id.API_KEY, producer_id.VERSION
    found = producer_id_response(await requests.request(address, 0, *api, producer_id_request(), timeout=30))
    if found.error:
        raise failure(found.error, f"{cluster.name}: InitProducerId")
    return found.producer_id, found.epoch


async def _last_sequence(requests: Requests, leaders: Leaders, place: Place, stint: Stint) -> int | None:
    """Of the batch that the leader took last under this id; None where it knows none, or cannot be asked."""
    body = describe_producers_request({place.topic: [place.partition]})
    try:
        address = await leaders.leader(place, again=False)
        data = await requests.request(address, 0, API_KEY, VERSION, body, timeout=30)
        answers = describe_producers_response(data)
    except SourceError:  # brokers before 2.8 close the connection
        return None
    known = {(one.producer_id, one.epoch): one.last_sequence for found in answers for one in found.producers}
    return known.get((stint.producer_id, stint.epoch))
